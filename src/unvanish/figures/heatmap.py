"""Level of every layer at every sampled step, as a heat map."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from unvanish.figures import theme
from unvanish.figures.levels import Line, level_lines, spread, trunk
from unvanish.i18n import _
from unvanish.records import LayerSignal, Trace

MOST_ROWS = 60  # steps
MOST_MARKS = 200  # of cells without a level; more are coloured instead
MOST_CELLS = 10_000  # the page has to stay light


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
    # Categories, numbered to be unlike: hovering can name them without a text for every cell.
    columns = [f"{i + 1}: {theme.name(layer.module)}" for i, layer in enumerate(axis)]
    cells = [[dict(line.points).get(i) for i in range(len(axis))] for line in lines]
    where = f"<b>%{{x}}</b><br>{_('step')} %{{y}}<br>{_('level')} "
    figure.add_trace(
        go.Heatmap(
            z=cells,
            x=columns,
            y=[str(line.step) for line in lines],
            hovertemplate=where + "%{z:.1f}<extra></extra>",
            colorscale="Cividis",  # even for colour-blind eyes (Nunez et al. 2018)
            colorbar={"thickness": 12, "outlinewidth": 0, "title": {"text": _("level")}},
        )
    )
    kinds = (
        (_("exactly zero"), "triangle-down", [(line, i) for line in lines for i in line.zeros]),
        (_("not finite"), "x", [(line, i) for line in lines for i in line.nonfinite]),
    )
    for label, symbol, found in kinds:
        if len(found) > MOST_MARKS:
            where_found = {(line.step, i) for line, i in found}
            figure.add_trace(
                go.Heatmap(
                    name=label,
                    x=columns,
                    y=[str(line.step) for line in lines],
                    z=[
                        [1 if (line.step, i) in where_found else None for i in range(len(axis))]
                        for line in lines
                    ],
                    colorscale=[[0, theme.PURPLE], [1, theme.PURPLE]],
                    showscale=False,
                    showlegend=True,
                    hovertemplate=where + f"{label}<extra></extra>",
                )
            )
        elif found:
            figure.add_trace(
                go.Scatter(
                    name=label,
                    x=[columns[i] for _line, i in found],
                    y=[str(line.step) for line, _i in found],
                    mode="markers",
                    marker={"symbol": symbol, "size": 8, "color": theme.PURPLE},
                    hovertemplate=where + f"{label}<extra></extra>",
                )
            )
    figure.update_xaxes(type="category", **theme.layer_ticks(axis))
    figure.update_yaxes(type="category", showgrid=False)
    return figure
