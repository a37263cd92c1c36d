"""The HTML templates: what they may call, and numbers with their exact values behind them."""

from __future__ import annotations

import json
from functools import cache

import jinja2
from markupsafe import Markup

from unvanish import codec, words
from unvanish.i18n import _
from unvanish.report import evidence, focus
from unvanish.report.layers import Fold, factor_parts


@cache
def environment() -> jinja2.Environment:
    """Return the templates' environment: every value is escaped unless it is Markup."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("unvanish.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["prose"] = prose
    made.globals.update(
        _=_,
        ending=focus.ending,
        evidence=evidence,
        factor_parts=factor_parts,
        isfold=lambda line: isinstance(line, Fold),
        number=number,
        optimizer=focus.optimizer,
        title_of=focus.title_of,
        training=focus.training,
        where=focus.where,
        words=words,
    )
    return made


def number(value: float | None, shown: str) -> Markup:
    """Return `shown` with the exact number of the JSON contract behind it."""
    exact = codec.to_plain(value)
    if exact is None:
        return Markup("<span>{}</span>").format(shown)
    text = exact if isinstance(exact, str) else json.dumps(exact)
    return Markup('<data value="{}">{}</data>').format(text, shown)


def prose(text: str) -> Markup:
    """Return `text` with what stands between backticks as code; all of it is escaped."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # a backtick too many: it is part of a name
        return Markup.escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if position % 2 else part
        for position, part in enumerate(parts)
    )
