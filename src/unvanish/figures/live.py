"""The newest sample of a run that goes on: one quantity, layer by layer."""

from __future__ import annotations

import math

import plotly.graph_objects as go

from unvanish import words
from unvanish.figures import theme
from unvanish.i18n import _
from unvanish.records import Readings


def newest(reading: Readings) -> go.Figure:
    """Draw a reading; zeros lie on the floor, and what is not finite is marked there too."""
    titles = {
        "level": _("level (powers of ten)"),
        "gradient": _("norm of the gradient (log₁₀)"),
    }
    figure = theme.figure(
        _("The newest sample"),
        theme.depth_title(),
        titles.get(reading.quantity, theme.safe(reading.quantity)),
        height=340,
    )
    names = [name.removesuffix("#0") for name in reading.names]
    values = list(reading.values)
    floor = min((value for value in values if math.isfinite(value)), default=0.0) - 0.5
    hover = [
        f"<b>{theme.name(name)}</b><br>{words.level(value)}"
        for name, value in zip(names, values, strict=True)
    ]
    figure.add_trace(
        theme.points(
            titles.get(reading.quantity, ""), range(len(names)), values, hover, color=theme.BLUE
        )
    )
    kinds = (
        (_("exactly zero"), "triangle-down", _is_zero),
        (_("not finite"), "x", _is_wild),
    )
    for label, symbol, fits in kinds:
        found = [i for i, value in enumerate(values) if fits(value)]
        theme.mark(figure, label, symbol, found, floor, [hover[i] for i in found])
    figure.update_layout(
        xaxis={
            "tickmode": "array",
            "tickvals": list(range(len(names))),
            "ticktext": [theme.tick(name) for name in names],
            "range": [-0.7, len(names) - 0.3],
            "showgrid": False,
        },
        showlegend=False,
    )
    return figure


def _is_zero(value: float) -> bool:
    return value == -math.inf


def _is_wild(value: float) -> bool:
    return math.isnan(value) or value == math.inf
