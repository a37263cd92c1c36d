"""The result of a search for cures as one HTML page, and as a fragment for a notebook.

As on the other pages, whatever comes from the user's script is untrusted and escaped.
"""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
from markupsafe import Markup

from unvanish import i18n, words
from unvanish._version import __version__
from unvanish.errors import NoSignalError, UnknownNameError
from unvanish.figures import proof as figures
from unvanish.i18n import _
from unvanish.records import Cure, Fix
from unvanish.report import fix_words
from unvanish.report.page import asset, embed, policy, scripts
from unvanish.report.templating import environment

POINTS = 200  # of a line of losses
SHOWN = 4  # cures in one picture
_TONES = {"info": "#009E73", "warning": "#B37700"}  # readable on white and on black


def render_page(fix: Fix) -> str:
    """Return `fix` as the text of an HTML page that loads nothing (about 5 MB of Plotly)."""
    page: str = (
        environment()
        .get_template("fix.html.j2")
        .render(
            **_content(fix),
            look=_class,
            pictures=[
                _picture("losses", losses(fix), _("Every curve is the median over the seeds.")),
                _picture("levels", levels(fix), _("One backward pass each, before any training.")),
            ],
            language={"zh": "zh-CN"}.get(i18n.current(), "en"),
            version=__version__,
            scripts=scripts(),
            style=Markup(asset("page.css")),
            policy=policy(),
        )
    )
    return page


def repr_html(fix: Fix) -> str:
    """Return `fix` as a fragment of HTML for a notebook's output: no script, loads nothing."""
    fragment: str = (
        environment()
        .get_template("fix_notebook.html.j2")
        .render(**_content(fix), look=_style, tone=_TONES[_severity(fix)])
    )
    return fragment


def picture(fix: Fix, name: str) -> go.Figure:
    """Return the picture `name`: "losses" or "levels".

    Raises UnknownNameError for another name, NoSignalError where there is nothing to draw.
    """
    drawn = {"losses": losses, "levels": levels}
    if name not in drawn:
        raise UnknownNameError(_("picture"), name, drawn, _("Give one of these."))
    made = drawn[name](fix)
    if made is None:
        raise NoSignalError(
            _("there is nothing to draw: no cure got that far"), _("Print the result instead.")
        )
    return made


def losses(fix: Fix) -> go.Figure | None:
    """Return the picture of the proof: losses by step, untreated and cured."""
    curves = [_curve(_("untreated"), fix_words.curves(fix, None))]
    curves += [_curve(cure.name, fix_words.curves(fix, cure)) for cure in _proofs(fix)[:SHOWN]]
    return figures.losses(curves[0], curves[1:])


def levels(fix: Fix) -> go.Figure | None:
    """Return the picture of the levels before and after; None where none was predicted."""
    cured = [
        (cure.name, cure.predicted.after)
        for cure in _proofs(fix) or fix.cures
        if cure.predicted is not None and cure.predicted.after
    ][:SHOWN]
    before = next(
        (one.predicted.before for one in fix.cures if one.predicted and one.predicted.before), ()
    )
    return figures.levels(before, cured) if before and cured else None


def _class(kind: str) -> Markup:
    """Return how the page, which has a style sheet, marks a cell of a kind."""
    return Markup(' class="{}"').format(kind) if kind else Markup("")


def _style(kind: str) -> Markup:
    """Return how a notebook, which has none of ours, is to show a cell of a kind."""
    sort = "text-align: right; white-space: nowrap" if kind == "n" else "text-align: left"
    rule = ' style="{}; padding: 1px 12px 1px 0; overflow-wrap: normal; font-size: 13px"'
    return Markup(rule).format(sort)


def _content(fix: Fix) -> dict[str, Any]:
    return {
        "fix": fix,
        "told": fix_words,
        "severity": _severity(fix),
        "coded": [cure for cure in fix.cures if cure.code and cure.proof is not None],
        "sources": list(fix_words.citations(fix)),
        "fresh": [score for seed, score in fix.baseline_scores.items() if seed != "0"],
    }


def _severity(fix: Fix) -> str:
    return "info" if fix.best is not None or not fix.cures else "warning"


def _proofs(fix: Fix) -> list[Cure]:
    return [cure for cure in fix.cures if cure.proof is not None]


def _curve(name: str, rows: list[tuple[float, ...]]) -> figures.Curve:
    steps = min(map(len, rows), default=0)
    return figures.Curve(words.printable(name), steps, fix_words.band(rows, POINTS))


def _picture(name: str, figure: go.Figure | None, caption: str) -> dict[str, Any] | None:
    """Return a picture for the page; its title is a heading there, not part of the figure."""
    if figure is None:
        return None
    title, height = str(figure.layout.title.text), int(figure.layout.height)
    figure.update_layout(title=None, height=None, margin={"t": 40})
    data = embed(figure.to_plotly_json())
    return {"id": name, "title": title, "caption": caption, "height": height, "data": data}
