"""One quantity by layer over a whole run, however long: a heat map of stretches of steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import plotly.graph_objects as go

from unvanish import words
from unvanish.figures import theme
from unvanish.i18n import _
from unvanish.store import Overview

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


def history(seen: Overview) -> History | None:
    """Return what is drawn of an overview. None of an empty one.

    Of more than MOST_ROWS names an even choice is kept, the first and the last among them.
    """
    if not len(seen.first):
        return None
    rows = list(range(len(seen.names)))
    if len(rows) > MOST_ROWS:
        last = MOST_ROWS - 1
        rows = [round(i * (len(rows) - 1) / last) for i in range(MOST_ROWS)]
    means = [[None if math.isnan(one) else one for one in seen.mean[:, i].tolist()] for i in rows]
    return History(
        seen.quantity,
        tuple(seen.names[i] for i in rows),
        tuple(seen.first.tolist()),
        tuple(seen.last.tolist()),
        tuple(map(tuple, means)),
    )


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
