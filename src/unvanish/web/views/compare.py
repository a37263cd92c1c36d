"""Two or more runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dash import Dash, Input, Output, dcc, html

from unvanish import words
from unvanish.errors import NoSignalError, UnvanishError
from unvanish.figures import compare as figures
from unvanish.i18n import _
from unvanish.records import Diagnosis
from unvanish.report import focus
from unvanish.report.comparison import Comparison, ModelComparison, Side, compare, setting_label
from unvanish.report.explain import Explanation
from unvanish.web import address, controls, parts
from unvanish.web.shell import View
from unvanish.web.site import Site

ROWS = 40  # of a table of layers
LISTED = 50  # runs to choose from


def view(site: Site, prefix: str) -> View:
    """Return the view: `?runs=A,B,…`."""

    def show(search: str) -> Any:
        asked = [one for one in address.parse(search).get("runs", "").split(",") if one]
        for identity in asked:
            site.runs.check(identity)
        ids = list(dict.fromkeys([*asked, *site.runs.ids()[:LISTED]]))
        return [
            html.H1(_("Compare runs")),
            *controls.addressed("compare"),
            html.Fieldset(
                [
                    html.Legend(
                        _("Choose two to {most}; the first is compared with the others").format(
                            most=figures.MOST
                        )
                    ),
                    dcc.Checklist(
                        id="compare-runs",
                        options=[
                            {"label": words.shorten(words.printable(one), 40), "value": one}
                            for one in ids
                        ],
                        value=asked,
                    ),
                ],
                className="choices",
            ),
            html.Div(id="compare-content", **parts.named(aria_live="polite")),
        ]

    return show


def register(app: Dash, site: Site, prefix: str) -> None:
    """Compare what is chosen."""

    @app.callback(
        Output("compare-content", "children"),
        Output("compare-query", "data"),
        Input("compare-runs", "value"),
        Input("revived", "data"),
    )
    def chosen(runs: list[str] | None, revived: object) -> Any:
        names = list(runs or [])
        query = address.write({"runs": ",".join(names)} if names else {})
        try:
            return _content(site, prefix, names), query
        except UnvanishError as error:
            return parts.problem(error), query


def _content(site: Site, prefix: str, names: Sequence[str]) -> list[Any]:
    if len(names) < 2:
        return [html.P(_("Choose at least two runs."), className="lead")]
    if len(names) > figures.MOST:
        text = _("At most {most} runs fit into one picture.").format(most=figures.MOST)
        return [html.P(text, className="problem", role="alert")]
    diagnoses = [site.runs.diagnosis(name) for name in names]
    found = [compare(diagnoses[0], other) for other in diagnoses[1:]]
    return [
        _overview(found, prefix),
        *_pictures(names, diagnoses),
        *(part for one in found for model in one.models for part in _signals(one, model)),
    ]


def _overview(found: Sequence[Comparison], prefix: str) -> Any:
    sides = [found[0].a, *(one.b for one in found)]
    rows: list[list[Any]] = [
        [_("verdict"), *(words.verdict_name(side.verdict) for side in sides)],
        [_("findings"), *(_codes(side, prefix) for side in sides)],
        [_("training"), *(words.training_word(side.training) for side in sides)],
        [_("steps"), *(str(side.steps) for side in sides)],
        [_("first loss"), *(_loss(side.first_loss) for side in sides)],
        [_("last loss"), *(_loss(side.last_loss) for side in sides)],
    ]
    names = list(dict.fromkeys(name for one in found for name, _a, _b in one.settings))
    for name in names:
        given = [{key: (a, b) for key, a, b in one.settings} for one in found]
        first = next(pairs[name][0] for pairs in given if name in pairs)
        others = [pairs[name][1] if name in pairs else first for pairs in given]
        rows.append([setting_label(name), *(words.printable(text) for text in (first, *others))])
    heads = [
        "",
        *(
            html.A(words.printable(side.id), href=address.link(f"{prefix}run", id=side.id))
            for side in sides
        ),
    ]
    return parts.table(heads, rows, "layers overview", label=_("The runs side by side"))


def _codes(side: Side, prefix: str) -> list[Any]:
    links = [html.A(code, href=address.link(f"{prefix}rule", code=code)) for code in side.findings]
    return [part for link in links for part in (link, " ")]


def _loss(value: float | None) -> Any:
    return parts.number(value, words.NONE if value is None else words.loss(value))


def _pictures(names: Sequence[str], diagnoses: Sequence[Diagnosis]) -> list[Any]:
    models = [focus.models(diagnosis)[0] for diagnosis in diagnoses]
    traces = []
    for name, one in zip(names, models, strict=True):
        if one.trace is None:
            raise NoSignalError(
                _("run {id} has no sampled step").format(id=name), _("Leave it out.")
            )
        traces.append((name, one.trace))
    drawn = (
        (
            "compare-losses",
            figures.losses([(n, m.run.steps) for n, m in zip(names, models, strict=True)]),
            Explanation(_("The losses"), _("Each run's loss by step."), ()),
        ),
        (
            "compare-levels",
            figures.levels(traces),
            Explanation(
                _("The levels"),
                _("The backward signal by layer, at the step that each verdict rests on."),
                (),
            ),
        ),
    )
    return [
        parts.picture(name, told, int(figure.layout.height), figure)
        for name, figure, told in drawn
        if figure is not None
    ]


def _signals(found: Comparison, model: ModelComparison) -> list[Any]:
    rows = model.layers or model.parameters
    kept = sorted(rows, key=lambda row: -row.difference)[:ROWS]
    levels = bool(model.layers)
    quantities = (_("level") if levels else _("gradient"), _("weight"), _("update"))
    heads = [_("layer") if levels else _("parameter")]
    heads += [f"{quantity} {side}" for quantity in quantities for side in ("A", "B")]
    table = [
        [
            html.Span(words.shorten(words.printable(row.name) or "·", 60), className="mono"),
            *(
                parts.number(value, words.level(value))
                for pair in (row.level if levels else row.gradient, row.weight, row.update)
                for value in pair
            ),
        ]
        for row in rows
        if row in kept
    ]
    steps = [words.NONE if step is None else str(step) for step in model.steps]
    return [
        html.H3(
            _("{name}: A = {a} at step {step_a}, B = {b} at step {step_b}").format(
                name=words.shorten(words.printable(model.name), 40),
                a=words.printable(found.a.id),
                b=words.printable(found.b.id),
                step_a=steps[0],
                step_b=steps[1],
            )
        ),
        parts.table(heads, table, "layers", numbers=range(1, 7), label=_("Where they differ most")),
    ]
