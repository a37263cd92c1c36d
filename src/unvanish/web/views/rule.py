"""What a rule means, why it matters and what cures it."""

from __future__ import annotations

from typing import Any

from dash import Dash, dcc, html

from unvanish import words
from unvanish.diagnose.catalogue import rule as find
from unvanish.diagnose.catalogue import rules
from unvanish.diagnose.thresholds import THRESHOLDS
from unvanish.i18n import _
from unvanish.web import address, parts
from unvanish.web.shell import View
from unvanish.web.site import Site


def view(site: Site, prefix: str) -> View:
    """Return the view."""

    def show(search: str) -> Any:
        code = address.parse(search).get("code")
        return _list(prefix) if code is None else _page(code, prefix)

    return show


def register(app: Dash, site: Site, prefix: str) -> None:
    """Nothing to answer: the page has no control."""


def _list(prefix: str) -> list[Any]:
    rows = [
        [
            html.A(each.code, href=address.link(f"{prefix}rule", code=each.code)),
            words.verdict_name(each.verdict),
            _(each.title),
        ]
        for each in rules()
    ]
    heads = (_("code"), _("verdict"), _("finds"))
    return [html.H1(_("Rules")), parts.table(heads, rows, "layers", label=_("Rules"))]


def _page(code: str, prefix: str) -> list[Any]:
    rule = find(code[:20])
    limits = [
        [
            html.Code(name),
            parts.number(
                THRESHOLDS[name].value,
                f"{THRESHOLDS[name].value:g} {THRESHOLDS[name].unit}".strip(),
            ),
            html.Div([THRESHOLDS[name].meaning, html.Small(THRESHOLDS[name].why)]),
        ]
        for name in rule.thresholds
    ]
    return [
        html.H1(f"{rule.code}: {_(rule.title)}"),
        html.P(
            _("verdict: {verdict}").format(verdict=words.verdict_name(rule.verdict)),
            className="lead",
        ),
        dcc.Markdown(rule.translated.partition("\n\n")[2], className="prose"),
        *(
            [
                html.H2(_("Thresholds")),
                parts.table(
                    (_("name"), _("value"), _("meaning")),
                    limits,
                    "layers texts",
                    numbers=(1,),
                    label=_("Thresholds"),
                ),
            ]
            if limits
            else []
        ),
        html.P(html.A(_("All rules"), href=f"{prefix}rule")),
    ]
