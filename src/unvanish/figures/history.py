"""One quantity by layer over a whole run, however long: a heat map of stretches of steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from unvanish import words
from unvanish.figures import theme
from unvanish.i18n import _
from unvanish.records import Readings

MOST_STRETCHES = 200
MOST_ROWS = 60


@dataclass(frozen=True, slots=True)
class History:
    """Means of a quantity (log10) by name (rows) and stretch of steps (columns).

    A mean is over what is finite; None where nothing is. `first` and `last` bound each stretch.
    """

    quantity: str
    names: tuple[str, ...]
    first: tuple[int, ...]
    last: tuple[int, ...]
    means: tuple[tuple[float | None, ...], ...]


def history(readings: Sequence[Readings], stretches: int = MOST_STRETCHES) -> History | None:
    """Return `readings` of one quantity, in order of steps, in at most so many stretches.

    Of more than MOST_ROWS names an even choice is kept, the first and the last among them. None
    without readings.
    """
    if not readings:
        return None
    names = list(dict.fromkeys(name for one in (readings[0], readings[-1]) for name in one.names))
    if len(names) > MOST_ROWS:
        last = MOST_ROWS - 1
        names = [names[round(i * (len(names) - 1) / last)] for i in range(MOST_ROWS)]
    size = -(-len(readings) // stretches)
    columns = [readings[start : start + size] for start in range(0, len(readings), size)]
    means = [_means(column, names) for column in columns]
    return History(
        readings[0].quantity,
        tuple(names),
        tuple(column[0].step for column in columns),
        tuple(column[-1].step for column in columns),
        tuple(tuple(column[i] for column in means) for i in range(len(names))),
    )


def _means(column: Sequence[Readings], names: Sequence[str]) -> list[float | None]:
    sums, counts = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0)
    for one in column:
        for name, value in zip(one.names, one.values, strict=True):
            if name in sums and math.isfinite(value):
                sums[name] += value
                counts[name] += 1
    return [sums[name] / counts[name] if counts[name] else None for name in names]


def history_picture(shown: History) -> go.Figure:
    """Draw a history: steps across, the input at the bottom."""
    titles = {"level": _("level"), "gradient": _("gradient (log₁₀)")}
    title = titles.get(shown.quantity, theme.safe(shown.quantity))
    figure = theme.figure(
        _("The whole run"), _("step"), "", height=max(260, 120 + 14 * len(shown.names))
    )
    rows = [theme.safe(words.shorten_path(_row(name), 24)) for name in shown.names]
    spans = [
        str(first) if first == last else f"{first} – {last}"
        for first, last in zip(shown.first, shown.last, strict=True)
    ]
    figure.add_trace(
        go.Heatmap(
            x=list(shown.first),
            y=list(range(len(rows))),
            z=[list(row) for row in shown.means],
            customdata=[[f"{theme.name(name)}<br>{span}" for span in spans] for name in shown.names]
            if len(rows) * len(spans) <= 6000
            else None,
            hovertemplate="%{customdata}<br>%{z:.1f}<extra></extra>"
            if len(rows) * len(spans) <= 6000
            else "%{x}<br>%{z:.1f}<extra></extra>",
            colorscale="Cividis",
            colorbar={"thickness": 12, "outlinewidth": 0, "title": {"text": title}},
        )
    )
    figure.update_layout(
        yaxis={
            "tickvals": list(range(0, len(rows), max(1, len(rows) // 16))),
            "ticktext": [rows[i] for i in range(0, len(rows), max(1, len(rows) // 16))],
            "showgrid": False,
        }
    )
    return figure


def _row(name: str) -> str:
    return words.printable(name.removesuffix("#0"))
