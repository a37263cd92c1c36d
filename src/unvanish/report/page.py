"""The report as one HTML page: self-contained, safe, readable offline and on paper.

Whatever comes from the user's script (names, paths, messages) is untrusted: Jinja escapes it in
the page, `embed` in the data of the figures, `figures.theme.safe` in Plotly's own texts. Should
one of them fail, the page's Content-Security-Policy still allows no script but its own two, which
it names by hash, and no request to anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from unvanish import figures, i18n, words
from unvanish._version import __version__
from unvanish.i18n import _
from unvanish.records import Diagnosis, Trace
from unvanish.report import focus, incidents, layers, pictures
from unvanish.report.explain import Explanation, explanation
from unvanish.report.focus import Focus
from unvanish.report.layers import Fold, Row
from unvanish.report.templating import environment

INCIDENTS = 50  # told of
ROOM = 40  # lines of the folded table of layers


@dataclass(frozen=True, slots=True)
class Picture:
    """One figure of the page: `data` is its JSON, safe inside a script element."""

    id: str
    name: str
    words: Explanation
    height: int
    data: Markup


@dataclass(frozen=True, slots=True)
class Section:
    """All that the page shows of one model."""

    focus: Focus
    pictures: tuple[Picture, ...]  # the one that shows the verdict first
    table: tuple[Row | Fold, ...]
    whole: tuple[Row, ...]
    accounts: tuple[str, ...]


def render_page(diagnosis: Diagnosis) -> str:
    """Return `diagnosis` as the text of an HTML page (about 5 MB, most of it Plotly)."""
    sections = [_section(one, index) for index, one in enumerate(focus.models(diagnosis))]
    page: str = (
        environment()
        .get_template("page.html.j2")
        .render(
            diagnosis=diagnosis,
            run=diagnosis.run,
            sections=sections,
            sentence=focus.sentence(diagnosis),
            degradations=focus.degradations(diagnosis),
            incidents=[incidents.describe(one) for one in diagnosis.run.incidents[:INCIDENTS]],
            severity=focus.severity(diagnosis),
            language={"zh": "zh-CN"}.get(i18n.current(), "en"),
            version=__version__,
            scripts=scripts(),
            style=Markup(asset("page.css")),
            policy=policy(),
        )
    )
    return page


def _section(one: Focus, index: int) -> Section:
    trace = one.trace
    if trace is None:
        picture = _picture("loss", f"loss-{index}", pictures.draw("loss", one))
        return Section(one, (picture,) if picture else (), (), (), ())
    order = dict.fromkeys((*one.pictures, *pictures.PICTURES))
    drawn = [_picture(name, f"{name}-{index}", pictures.draw(name, one)) for name in order]
    shown = [picture for picture in drawn if picture is not None]
    shown += _further_paths(trace, index)
    rows = focus.rows(one)
    return Section(
        one,
        tuple(shown),
        tuple(layers.fold(rows, ROOM)),
        tuple(rows),
        tuple(focus.accounts(trace)),
    )


def _further_paths(trace: Trace, index: int, most: int = 3) -> list[Picture]:
    """Return the waterfalls of the sources beside the farthest one (a U-Net has several)."""
    found = []
    for number, path in enumerate(trace.paths[:most]):
        if path.edges:
            picture = _picture("waterfall", f"path-{index}-{number}", figures.waterfall(path))
            source = words.module_name(path.source_module)
            title = _("The path to {source}").format(source=words.shorten(source, 60))
            if picture is not None:
                found.append(replace(picture, words=replace(picture.words, title=title)))
    return found


def _picture(name: str, identity: str, figure: go.Figure | None) -> Picture | None:
    """Return a picture for the page; its title is a heading there, not part of the figure."""
    if figure is None:
        return None
    height = int(figure.layout.height)
    figure.update_layout(title=None, height=None, margin={"t": 24})
    return Picture(identity, name, explanation(name), height, embed(figure.to_plotly_json()))


def embed(plain: Any) -> Markup:
    """Return `plain` as JSON that cannot end, or open, anything in HTML or JavaScript."""
    text = json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def asset(name: str) -> str:
    """Return the text of a file beside the templates."""
    return resources.files("unvanish.report").joinpath("templates", name).read_text("utf-8")


@cache
def scripts() -> tuple[Markup, Markup]:
    """Return Plotly and the page's own script: the only text here that is not escaped."""
    return Markup(get_plotlyjs()), Markup(asset("fit.js") + asset("page.js"))


@cache
def policy() -> str:
    """Return the Content-Security-Policy of a page with `scripts` and nothing else."""
    hashes = [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts()
    ]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline';"
        " img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
