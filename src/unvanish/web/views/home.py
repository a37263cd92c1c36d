"""The list of runs, with their verdicts, and of results of `unvanish fix`."""

from __future__ import annotations

from typing import Any

from dash import Dash, Input, Output, dcc, html

from unvanish import words
from unvanish.i18n import _
from unvanish.report import fix_words
from unvanish.web import address, parts
from unvanish.web.runs import Entry
from unvanish.web.shell import View
from unvanish.web.site import Site

EVERY = 2000  # milliseconds between two looks at the directory


def view(site: Site, prefix: str) -> View:
    """Return the view."""

    def show(search: str) -> Any:
        return [
            html.H1(_("Runs")),
            html.P(str(site.directory), className="lead mono"),
            html.Div(listing(site, prefix), id="runs-list"),
            dcc.Interval(id="runs-tick", interval=EVERY),
        ]

    return show


def register(app: Dash, site: Site, prefix: str) -> None:
    """Look again while the page is open."""

    @app.callback(
        Output("runs-list", "children"),
        Input("runs-tick", "n_intervals"),
        Input("revived", "data"),
        prevent_initial_call=True,
    )
    def again(ticks: int | None, revived: object) -> Any:
        return listing(site, prefix)


def listing(site: Site, prefix: str) -> list[Any]:
    """Return the table of runs, and that of cures if there are any."""
    entries = site.runs.entries()
    if not entries:
        shown: list[Any] = [
            html.P(_("No runs are saved here yet."), className="lead"),
            html.P([_("Record one with"), " ", html.Code("unvanish run train.py")]),
            html.P(
                [
                    _("Or see what vanishes, without a run:"),
                    " ",
                    html.A(_("the chain of single neurons"), href=f"{prefix}chain?story=1"),
                    ".",
                ]
            ),
        ]
    else:
        heads = (_("run"), _("verdict"), _("training"), _("steps"), _("command"), _("started"))
        shown = [
            parts.table(
                heads,
                [_row(entry, prefix) for entry in entries],
                "layers runs",
                numbers=(3,),
                label=_("Runs"),
            )
        ]
    fixes = site.runs.fixes()
    if fixes:
        shown += [
            html.H2(_("Cures that were tried")),
            parts.table(
                (_("result"), _("outcome"), _("command")),
                [
                    [
                        html.A(
                            identity,
                            href=address.link(f"{prefix}fix", id=identity),
                            className="mono",
                        ),
                        fix_words.headline(fix),
                        html.Code(words.shorten(words.printable(" ".join(fix.command)), 60)),
                    ]
                    for identity, fix in fixes
                ],
                "layers texts",
                label=_("Cures that were tried"),
            ),
        ]
    return shown


def _row(entry: Entry, prefix: str) -> list[Any]:
    summary, head = entry.summary, entry.summary.head
    name = words.shorten(words.printable(summary.id), 40)
    if head is None:
        why = _("damaged: {why}").format(why=words.printable(summary.damaged or ""))
        return [html.Span(name, className="mono"), html.Span(why, className="flag"), "", "", "", ""]
    steps = max((len(model.steps) for model in head.models), default=0)
    return [
        html.A(name, href=address.link(f"{prefix}run", id=summary.id), className="mono"),
        _verdict(entry),
        words.training_word(entry.judged.training)
        if entry.judged and entry.judged.training
        else words.NONE,
        f"{steps:,}",
        html.Code(words.shorten(words.printable(" ".join(head.command)), 60)),
        words.moment(head.created),
    ]


def _verdict(entry: Entry) -> Any:
    if entry.summary.state == "running":
        return html.Span(_("running"), className="state live")
    if entry.judged is None:
        return html.Span("…", title=_("being judged"))
    verdict = entry.judged.verdict
    if verdict is None:
        return words.NONE
    tone = "info" if verdict == "healthy" else "error"
    return html.Span(words.verdict_name(verdict), className=f"state {tone}")
