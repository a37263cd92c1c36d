"""The pieces that views are made of, as Dash components; labels and roles included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dash import dcc, html

from unvanish import codec, words
from unvanish.errors import UnvanishError
from unvanish.i18n import _
from unvanish.records import Diagnosis, Finding
from unvanish.report import evidence, focus
from unvanish.report.explain import Explanation
from unvanish.web import address

if TYPE_CHECKING:
    import plotly.graph_objects as go


def named(**values: str) -> dict[str, Any]:
    """Return attributes whose names have a hyphen: `aria_label` stands for `aria-label`."""
    return {name.replace("_", "-"): value for name, value in values.items()}


def number(value: float | None, shown: str) -> Any:
    """Return `shown` with the exact number of the JSON contract behind it."""
    exact = codec.to_plain(value)
    return html.Span(shown) if exact is None else html.Data(shown, value=str(exact))


def prose(text: str) -> list[Any]:
    """Return `text` with what stands between backticks as code."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:  # a backtick too many: it is part of a name
        return [text]
    return [html.Code(part) if i % 2 else part for i, part in enumerate(pieces) if part]


def problem(error: UnvanishError) -> Any:
    """Return an error as a sentence that is read aloud."""
    return html.P(words.printable(str(error)), className="problem", role="alert")


def empty(identity: str) -> Any:
    """Return the place where a view says what is wrong."""
    return html.Div(id=identity, className="first")


def slider(
    identity: str,
    label: str,
    bounds: address.Range,
    value: float,
    hint: str = "",
    whole: bool = False,
) -> Any:
    """Return a slider and a field that hold the same number; the field's `value` is read.

    `controls.pair` has to be registered once for each identity.
    """
    step = 1 if whole else bounds.step
    given = int(value) if whole else value
    return html.Div(
        [
            html.Label(prose(label), htmlFor=f"{identity}-slider"),
            dcc.Input(
                id=f"{identity}-slider",
                type="range",
                min=bounds.low,
                max=bounds.high,
                step=step,
                value=given,
            ),
            html.Label(
                _("{label}, typed").format(label=label), htmlFor=identity, className="aside"
            ),
            dcc.Input(
                id=identity,
                type="number",
                step="any",  # without bounds: what is beyond them is refused in words
                value=given,
                debounce=False,
            ),
            html.Small(hint) if hint else None,
        ],
        className="control",
    )


def choice(
    identity: str, label: str, options: Sequence[tuple[str, str]], value: str, hint: str = ""
) -> Any:
    """Return a native list to choose from; the `data` of `identity` is read."""
    return html.Div(
        [
            html.Label(label, htmlFor=f"{identity}-list"),
            html.Select(
                [html.Option(text, value=name, selected=name == value) for name, text in options],
                id=f"{identity}-list",
                **named(data_choice=identity),
            ),
            dcc.Store(id=identity, data=value),
            html.Small(hint) if hint else None,
        ],
        className="control",
    )


def picture(
    name: str,
    words_of_it: Explanation,
    height: int,
    figure: go.Figure | None = None,
    accounts: Sequence[str] = (),
) -> Any:
    """Return the place of a picture; its data go to the store `{"kind": "picture", "name": name}`.

    `accounts` are sentences that say what it shows; `NAME-says` is the place for one that changes.
    """
    return html.Figure(
        [
            html.H3(words_of_it.title),
            html.Figcaption(words_of_it.caption),
            html.Div(
                dcc.Graph(
                    id={"kind": "graph", "name": name},
                    style={"height": f"{height}px"},
                    figure={
                        "data": [],
                        "layout": {"height": height, "xaxis": HIDDEN, "yaxis": HIDDEN},
                    },
                    config={"staticPlot": True},
                ),
                className="plot",
                id=f"{name}-plot",
                role="img",
                **named(aria_label=words_of_it.title, aria_describedby=f"{name}-says"),
            ),
            html.P(id=f"{name}-says", className="account"),
            *(html.P(prose(account), className="account") for account in accounts),
            dcc.Store(
                id={"kind": "picture", "name": name}, data=None if figure is None else plain(figure)
            ),
            html.Details(
                [
                    html.Summary(_("How to read this picture")),
                    *(html.P(paragraph) for paragraph in words_of_it.help),
                    html.P(_download(name)),
                ],
                className="help",
            )
            if words_of_it.help
            else None,
        ],
        id=f"{name}-figure",
    )


HIDDEN = {"visible": False}


def _download(name: str) -> Any:
    return html.Button(
        _("Download the data (CSV)"), type="button", className="data", **named(data_of=name)
    )


def plain(figure: go.Figure) -> dict[str, Any]:
    """Return a figure as data for `picture`: its title is a heading there."""
    data: dict[str, Any] = figure.to_plotly_json()
    layout = data["layout"]
    layout.pop("title", None)
    layout["margin"] = {**layout.get("margin", {}), "t": 24}
    return {"data": data["data"], "layout": layout}


def verdict(diagnosis: Diagnosis, *lines: str, level: int = 1) -> Any:
    """Return the verdict of a run as a box, as at the head of its report."""
    tone = focus.severity(diagnosis)
    heading = html.H1 if level == 1 else html.H2
    return html.Div(
        [
            html.Span(MARKS[tone], className="mark", **named(aria_hidden="true")),
            html.Div(
                [heading(prose(focus.sentence(diagnosis))), *(html.P(line) for line in lines)]
            ),
        ],
        className=f"verdict {tone}",
    )


MARKS = {"error": "✕", "warning": "!", "info": "✓"}


def facts(pairs: Sequence[tuple[str, Any]]) -> Any:
    """Return a list of names with what they are; what is empty is left out."""
    return html.Dl(
        [part for name, value in pairs if value for part in (html.Dt(name), html.Dd(value))]
    )


def finding(one: Finding, prefix: str) -> Any:
    """Return a finding with its evidence; its code leads to the page of its rule."""
    return html.Article(
        [
            html.H4(
                [
                    html.Span(
                        [
                            words.severity_name(one.severity) + " ",
                            html.A(one.code, href=address.link(f"{prefix}rule", code=one.code)),
                        ],
                        className="code",
                    ),
                    *prose(focus.title_of(one)),
                ]
            ),
            facts(
                (
                    (_("where"), words.shorten(focus.where(one.where), 300)),
                    (_("step"), None if one.step is None else str(one.step)),
                    (_("factor"), words.factor_name(one.factor) if one.factor else None),
                    (_("evidence"), _evidence(one) if one.evidence else None),
                    (_("remedy"), prose(words.printable(one.remedy)) if one.remedy else None),
                    (_("explains"), ", ".join(one.explains)),
                )
            ),
        ],
        className=f"finding {one.severity}",
        **named(data_code=one.code),
    )


def _evidence(one: Finding) -> Any:
    rows = []
    for each in one.evidence:
        shown = evidence.value(each)
        text = isinstance(each.value, str)
        value = shown if isinstance(each.value, str) else number(each.value, shown)
        rows.append(
            [
                evidence.label(each.name),
                html.Td(value, className="w" if text else "n"),
                number(each.threshold, evidence.threshold(each)),
            ]
        )
    heads = (_("measured"), _("value"), _("threshold"))
    return table(heads, rows, "evidence", numbers=(1, 2), label=_("evidence"))


def table(
    heads: Sequence[Any],
    rows: Sequence[Sequence[Any]],
    kind: str,
    *,
    numbers: Sequence[int] = (),
    label: str,
) -> Any:
    """Return a table that scrolls where it is too wide; columns in `numbers` are set flush right.

    A cell may be a Td of its own.
    """

    def of(column: int) -> str:
        return "n" if column in numbers else ""

    return html.Div(
        html.Table(
            [
                html.Thead(
                    html.Tr(
                        [
                            html.Th(head, scope="col", className=of(i))
                            for i, head in enumerate(heads)
                        ]
                    )
                ),
                html.Tbody(
                    [
                        html.Tr(
                            [
                                cell
                                if isinstance(cell, html.Td)
                                else html.Td(cell, className=of(i))
                                for i, cell in enumerate(row)
                            ]
                        )
                        for row in rows
                    ]
                ),
            ],
            className=kind,
        ),
        className="scroll",
        tabIndex=0,
        role="region",
        **named(aria_label=label),
    )
