"""A result of `unvanish fix`: the cures, ranked, with what was proven of each."""

from __future__ import annotations

from typing import Any

from dash import Dash, html

from unvanish import words
from unvanish.i18n import _
from unvanish.records import Cure, Fix
from unvanish.report import fix_page
from unvanish.report import fix_words as told
from unvanish.report.explain import Explanation
from unvanish.web import address, parts
from unvanish.web.shell import View
from unvanish.web.site import Site


def view(site: Site, prefix: str) -> View:
    """Return the view: `?id=RESULT`."""

    def show(search: str) -> Any:
        return _page(site.runs.fix(address.parse(search).get("id", "")))

    return show


def register(app: Dash, site: Site, prefix: str) -> None:
    """Nothing to answer: the page has no control."""


def _page(fix: Fix) -> list[Any]:
    tone = "info" if fix.best is not None or not fix.cures else "warning"
    lines = [told.rates(fix), told.tries(fix)]
    if fix.random_search:
        lines.append(told.compared(fix.random_search))
    return [
        html.Div(
            [
                html.Span(parts.MARKS[tone], className="mark", **parts.named(aria_hidden="true")),
                html.Div(
                    [
                        html.H1(parts.prose(told.headline(fix))),
                        html.P(parts.prose(told.before(fix))),
                        html.P(_("Interrupted: this is what was known by then."))
                        if fix.interrupted
                        else None,
                    ]
                ),
            ],
            className=f"verdict {tone}",
        ),
        html.P(words.shorten(words.printable(" ".join(fix.command)), 160), className="lead mono"),
        *(_ranking(fix, lines) if fix.cures else []),
        *_pictures(fix),
        html.Section(
            [html.H3(_("What was tried")), *(_cure(cure) for cure in fix.cures)],
            className="findings",
        )
        if fix.cures
        else None,
        *_list(_("To be known of these trainings:"), fix.notes),
        *_list(_("Sources:"), list(told.citations(fix))),
    ]


def _ranking(fix: Fix, lines: list[str]) -> list[Any]:
    heads = (
        *(_("cure"), _("outcome"), _("applicability"), _("first layer's gradient")),
        *(_("short"), _("fresh seeds"), _("better on")),
    )
    rows = [
        [
            words.printable(cure.name),
            html.Span(told.status_name(cure.status), title=told.status_meaning(cure.status)),
            told.applicability_name(cure.applicability),
            told.predicted(cure.predicted),
            _score(cure.screened),
            told.span(cure.proof.scores) if cure.proof else words.NONE,
            told.better_on(cure.proof),
        ]
        for cure in fix.cures
    ]
    fresh = [score for seed, score in fix.baseline_scores.items() if seed != "0"]
    rows.append([_("(untreated)"), "", "", "", _score(fix.baseline_short), told.span(fresh), ""])
    return [
        html.H3(_("The cures, ranked")),
        parts.table(heads, rows, "layers", numbers=(3, 4, 5, 6), label=_("The cures, ranked")),
        *(html.P(line, className="lead") for line in lines if line),
    ]


def _score(value: float | None) -> Any:
    return parts.number(value, words.NONE if value is None else words.loss(value))


def _pictures(fix: Fix) -> list[Any]:
    drawn = (
        ("proof-losses", fix_page.losses(fix), _("Every curve is the median over the seeds.")),
        (
            "proof-levels",
            fix_page.levels(fix),
            _("One backward pass each, before any training."),
        ),
    )
    return [
        parts.picture(
            name,
            Explanation(str(figure.layout.title.text), caption, ()),
            int(figure.layout.height),
            figure,
        )
        for name, figure, caption in drawn
        if figure is not None
    ]


def _cure(cure: Cure) -> Any:
    tone = {"proven": "info", "failed": "error"}.get(cure.status, "warning")
    changes = [
        [
            html.Code(words.printable(edit.where) or _("the training")),
            words.printable(edit.what),
            f"{words.printable(edit.before)} → {words.printable(edit.after)}",
        ]
        for edit in cure.edits
    ]
    return html.Article(
        [
            html.H4(
                [
                    html.Span(told.status_name(cure.status), className="code"),
                    words.printable(cure.name),
                ]
            ),
            parts.facts(
                (
                    (_("what it does"), parts.prose(words.printable(cure.summary))),
                    (_("applicability"), told.applicability_name(cure.applicability)),
                    (_("evidence"), told.evidence(cure)),
                    (_("why"), told.reason(cure)),
                    (_("note"), words.printable(cure.note)),
                    (
                        _("changes"),
                        html.Details(
                            [
                                html.Summary(_("{count} changes").format(count=len(changes))),
                                parts.table(
                                    (_("where"), _("what"), _("before and after")),
                                    changes,
                                    "evidence",
                                    label=_("changes"),
                                ),
                            ]
                        )
                        if changes
                        else None,
                    ),
                    (
                        _("code"),
                        html.Pre(cure.code, className="mono")
                        if cure.code and cure.proof is not None
                        else None,
                    ),
                )
            ),
        ],
        className=f"finding {tone}",
        **parts.named(data_cure=words.printable(cure.name)),
    )


def _list(heading: str, lines: Any) -> list[Any]:
    if not lines:
        return []
    items = [html.Li(words.printable(line)) for line in lines]
    return [html.H3(heading), html.Ul(items, className="notes")]
