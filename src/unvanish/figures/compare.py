"""Several runs in one picture: their losses by step, their levels by layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from unvanish import words
from unvanish.figures import theme
from unvanish.figures.levels import key, trunk
from unvanish.figures.time import LOG_FROM, thin
from unvanish.i18n import _
from unvanish.records import StepRecord, Trace

COLORS = (theme.BLUE, theme.VERMILLION, theme.GREEN, theme.PURPLE, theme.ORANGE, theme.SKY)
SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "star")
MOST = len(COLORS)  # runs that can be told apart


def losses(runs: Sequence[tuple[str, Sequence[StepRecord]]], most: int = 1000) -> go.Figure | None:
    """Draw the loss of each run by step; what is not finite is left out. None without a line."""
    lines = [(name, thin(steps, most)) for name, steps in runs]
    if not any(len(line) > 1 for _name, line in lines):
        return None
    figure = theme.figure(_("The losses"), _("step"), _("loss"), height=360)
    for i, (name, line) in enumerate(lines):
        label = _label(name)
        hover = [f"<b>{label}</b><br>{step.step}: {words.loss(step.loss)}" for step in line]
        figure.add_trace(
            theme.points(
                label,
                [step.step for step in line],
                [step.loss for step in line],
                hover,
                color=COLORS[i % MOST],
                mode="lines",
            )
        )
    values = [step.loss for _name, line in lines for step in line]
    if min(values) > 0 and max(values) / min(values) > LOG_FROM:
        figure.update_yaxes(type="log", dtick=1)
    return figure


def levels(runs: Sequence[tuple[str, Trace]]) -> go.Figure | None:
    """Draw the level by layer of one trace of each run; None where there is no level.

    Layers are matched by their names: the axis is that of the first run, and further layers of
    others follow.
    """
    axis: dict[tuple[str, int, str | None], str] = {}
    for _name, trace in runs:
        for layer in trunk(trace):
            axis.setdefault(key(layer), theme.layer_tick(layer))
    if not axis:
        return None
    positions = {place: i for i, place in enumerate(axis)}
    figure = theme.figure(
        _("The levels"), theme.depth_title(), _("level (powers of ten)"), height=400
    )
    for i, (name, trace) in enumerate(runs):
        label = f"{_label(name)}, {_('step {step}').format(step=trace.step)}"
        here = {
            positions[key(layer)]: layer
            for layer in trunk(trace)
            if layer.level_log10 is not None and math.isfinite(layer.level_log10)
        }
        found = [(position, here[position]) for position in sorted(here)]
        figure.add_trace(
            theme.points(
                label,
                [position for position, _layer in found],
                [layer.level_log10 for _position, layer in found],
                [
                    theme.layer_hover(layer, f"{label}: {words.level(layer.level_log10)}")
                    for _position, layer in found
                ],
                color=COLORS[i % MOST],
                symbol=SYMBOLS[i % MOST],
            )
        )
    figure.update_xaxes(
        tickmode="array",
        tickvals=list(range(len(axis))),
        ticktext=list(axis.values()),
        range=[-0.7, len(axis) - 0.3],
        showgrid=False,
    )
    return figure


def _label(name: str) -> str:
    return theme.safe(words.shorten(words.printable(name), 32))
