"""Level against depth, for the sampled steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from unvanish import words
from unvanish.figures import theme
from unvanish.i18n import _
from unvanish.records import LayerSignal, Trace

MOST_STEPS = 9  # lines in one picture


def key(layer: LayerSignal) -> tuple[str, int, str | None]:
    """Return what identifies a layer in every trace of a run."""
    return layer.module, layer.call, layer.op


def trunk(trace: Trace) -> list[LayerSignal]:
    """Return the layers on the main path that have a level, in forward order; without any, all."""
    known = [layer for layer in trace.layers if layer.level_log10 is not None]
    return [layer for layer in known if layer.on_main_path] or known


def spread(traces: Sequence[Trace], most: int = MOST_STEPS) -> list[Trace]:
    """Return at most `most` of `traces`: the first, the last and evenly those between."""
    if len(traces) <= most:
        return list(traces)
    return [traces[round(i * (len(traces) - 1) / (most - 1))] for i in range(most)]


@dataclass(frozen=True, slots=True)
class Line:
    """Levels of one step: (position of the layer, level), zeros and non-finite ones apart."""

    step: int
    points: tuple[tuple[int, float], ...]
    zeros: tuple[int, ...]
    nonfinite: tuple[int, ...]


def level_lines(traces: Sequence[Trace], axis: Sequence[LayerSignal]) -> list[Line]:
    """Return the levels of `traces` at the layers of `axis`."""
    lines = []
    for trace in traces:
        by_key = {key(layer): layer.level_log10 for layer in trace.layers}
        found = [(i, by_key.get(key(layer))) for i, layer in enumerate(axis)]
        known = [(i, level) for i, level in found if level is not None]
        lines.append(
            Line(
                trace.step,
                tuple((i, level) for i, level in known if math.isfinite(level)),
                tuple(i for i, level in known if level == -math.inf),
                tuple(i for i, level in known if math.isnan(level) or level == math.inf),
            )
        )
    return lines


def levels(traces: Sequence[Trace], focus: Trace) -> go.Figure | None:
    """Draw level against depth for the sampled steps, that of `focus` in front."""
    axis = trunk(focus)
    if not axis:
        return None
    shown = spread([trace for trace in traces if trace.layers])
    if focus not in shown:
        shown = sorted([*shown, focus], key=lambda trace: trace.step)
    lines = level_lines(shown, axis)
    every = [level for line in lines for _i, level in line.points]
    low, high = min(every, default=0.0), max(every, default=0.0)
    room = max(0.5, 0.06 * (high - low))
    figure = theme.figure(
        _("Level against depth"),
        theme.depth_title(),
        _("level (powers of ten)"),
    )
    markers = "lines+markers" if len(axis) <= theme.MARKERS_UP_TO else "lines"
    for position, line in enumerate(lines):
        front = line.step == focus.step
        label = _("step {step}").format(step=line.step)
        color = theme.VERMILLION if front else theme.BLUE
        figure.add_trace(
            go.Scatter(
                name=label,
                x=[i for i, _level in line.points],
                y=[level for _i, level in line.points],
                mode=markers,
                opacity=1 if front else 0.3 + 0.6 * position / len(lines),
                line={"color": color, "width": 3 if front else 1.5},
                marker={"size": 6 if front else 4},
                zorder=1 if front else 0,
                hovertext=[
                    theme.layer_hover(
                        axis[i], _("step {step}").format(step=line.step), words.level(level)
                    )
                    for i, level in line.points
                ],
                hoverinfo="text",
            )
        )
    _mark(figure, lines, axis, low - room)
    figure.update_xaxes(**theme.layer_ticks(axis))
    figure.update_yaxes(range=[low - 1.6 * room, high + room])
    return figure


def _mark(
    figure: go.Figure, lines: Sequence[Line], axis: Sequence[LayerSignal], floor: float
) -> None:
    kinds: tuple[tuple[str, str, Callable[[Line], tuple[int, ...]]], ...] = (
        (_("exactly zero"), "triangle-down", lambda line: line.zeros),
        (_("not finite"), "x", lambda line: line.nonfinite),
    )
    for label, symbol, pick in kinds:
        # All lie on the floor of the picture, so a layer has one mark for all its steps.
        found: dict[int, list[str]] = {}
        for line in lines:
            for i in pick(line):
                found.setdefault(i, []).append(str(line.step))
        if found:
            figure.add_trace(
                go.Scatter(
                    name=label,
                    x=sorted(found),
                    y=[floor] * len(found),
                    mode="markers",
                    marker={"symbol": symbol, "size": 8, "color": theme.PURPLE},
                    hovertext=[
                        theme.layer_hover(
                            axis[i], _("step {step}").format(step=", ".join(found[i])), label
                        )
                        for i in sorted(found)
                    ],
                    hoverinfo="text",
                )
            )
