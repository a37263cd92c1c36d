"""Level of every layer at every sampled step, as a heat map."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from unvanish import words
from unvanish.figures import theme
from unvanish.figures.levels import Line, level_lines, spread, trunk
from unvanish.i18n import _
from unvanish.records import LayerSignal, Trace

MOST_ROWS = 60  # steps
MOST_CELLS = 20_000  # each has its own hover text, and the page has to stay light


def heat_lines(traces: Sequence[Trace], focus: Trace) -> tuple[list[LayerSignal], list[Line]]:
    """Return the layers (columns) and the levels by step (rows) that the heat map shows."""
    axis = trunk(focus)
    rows = max(2, min(MOST_ROWS, MOST_CELLS // max(1, len(axis))))
    return axis, level_lines(spread([one for one in traces if one.layers], rows), axis)


def heatmap(traces: Sequence[Trace], focus: Trace) -> go.Figure | None:
    """Draw level by layer (across) and sampled step (up); None below two steps or layers."""
    axis, lines = heat_lines(traces, focus)
    if len(axis) < 2 or len(lines) < 2:
        return None
    figure = theme.figure(
        _("Level by layer and step"),
        theme.depth_title(),
        _("step"),
        height=max(380, 12 * len(lines)),
    )
    cells: list[list[float | None]] = []
    texts: list[list[str]] = []
    for line in lines:
        known = dict(line.points)
        cells.append([known.get(i) for i in range(len(axis))])
        texts.append([_hover(axis[i], line, known.get(i)) for i in range(len(axis))])
    figure.add_trace(
        go.Heatmap(
            z=cells,
            y=[str(line.step) for line in lines],
            hovertext=texts,
            hoverinfo="text",
            colorscale="Cividis",  # even for colour-blind eyes (Nunez et al. 2018)
            colorbar={"thickness": 12, "outlinewidth": 0, "title": {"text": _("level")}},
        )
    )
    kinds = (
        (_("exactly zero"), "triangle-down", [(line, i) for line in lines for i in line.zeros]),
        (_("not finite"), "x", [(line, i) for line in lines for i in line.nonfinite]),
    )
    for label, symbol, found in kinds:
        if found:
            figure.add_trace(
                go.Scatter(
                    name=label,
                    x=[i for _line, i in found],
                    y=[str(line.step) for line, _i in found],
                    mode="markers",
                    marker={"symbol": symbol, "size": 8, "color": theme.PURPLE},
                    hovertext=[_hover(axis[i], line, None, label) for line, i in found],
                    hoverinfo="text",
                )
            )
    figure.update_xaxes(**theme.layer_ticks(axis))
    figure.update_yaxes(type="category", showgrid=False)
    return figure


def _hover(layer: LayerSignal, line: Line, level: float | None, state: str = "") -> str:
    step = _("step {step}").format(step=line.step)
    return theme.layer_hover(layer, step, state or words.level(level))
