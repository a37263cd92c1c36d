"""The story of the textbook chain: slope and saturation, gain by depth, the band, training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate

import plotly.graph_objects as go

from unvanish.chain.activations import SATURATED, find_activation, sigmoid_slope
from unvanish.chain.learn import Training
from unvanish.chain.solution import Solution
from unvanish.figures import theme
from unvanish.i18n import _

_REACH = 8.0  # pre-activations drawn, on both sides
_POINTS = 321
_COLORS = (
    *(theme.VERMILLION, theme.BLUE, theme.GREEN),
    *(theme.ORANGE, theme.PURPLE, theme.SKY, theme.BLACK),
)
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")


def slope(activation: str = "sigmoid") -> go.Figure:
    """Draw an activation and its slope; where it saturates, the ground is grey.

    Raises UnknownNameError for an activation that the chain does not know.
    """
    phi = find_activation(activation)
    zs = _grid(_REACH)
    figure = theme.figure(_("The activation and its slope"), "z", "", height=360)
    for name, function, color in (
        (_("value"), phi.value, theme.BLUE),
        (_("slope"), phi.slope, theme.VERMILLION),
    ):
        ys = [function(z) for z in zs]
        hover = [f"z = {z:.3g}, {name} {y:.4g}" for z, y in zip(zs, ys, strict=True)]
        figure.add_trace(theme.points(name, zs, ys, hover, color=color))
    for low, high in _stretches(zs, [0 < phi.slope(z) < SATURATED * phi.steepest for z in zs]):
        figure.add_vrect(
            x0=low, x1=high, fillcolor=theme.GREY, opacity=0.2, line_width=0, layer="below"
        )
    return figure


def gains(solutions: Mapping[str, Solution]) -> go.Figure:
    """Draw log10 of |∂a_L/∂a_k| for every neuron k: the product of the factors behind it."""
    figure = theme.figure(
        _("What of the signal arrives at each neuron"),
        _("neuron: the input (left) to the output (right)"),
        _("gain from the output (powers of ten)"),
        height=400,
    )
    for (name, solution), color, symbol in zip(solutions.items(), _COLORS, _SYMBOLS, strict=False):
        logs = arriving(solution)
        hover = [f"{theme.safe(name)}<br>k = {k}, 10^{log:.2f}" for k, log in enumerate(logs)]
        figure.add_trace(
            theme.points(
                theme.safe(name), range(len(logs)), logs, hover, color=color, symbol=symbol
            )
        )
    figure.update_layout(showlegend=True)
    return figure


def arriving(solution: Solution) -> list[float]:
    """Return log10 |∂a_L/∂a_k| for k = 0 … L."""
    factors = (neuron.factor_log10 for neuron in reversed(solution.neurons))
    return [*accumulate(factors, initial=0.0)][::-1]


def band(weights: Sequence[float], reach: float = 2.0) -> go.Figure:
    """Draw a sigmoid neuron's factor |w σ'(w x)| over its input x, and the line at 1.

    A bias only shifts a curve. An input outside the band, where the curve is below 1, shrinks
    the signal.
    """
    xs = _grid(reach)
    figure = theme.figure(_("The band: inputs with a factor of 1 or more"), "x", "|w·σ'(w·x)|", 400)
    for weight, color in zip(weights, _COLORS, strict=False):
        ys = [abs(weight) * sigmoid_slope(weight * x) for x in xs]
        hover = [f"w = {weight:g}, x = {x:.3g}: {y:.3g}" for x, y in zip(xs, ys, strict=True)]
        figure.add_trace(theme.points(f"w = {weight:g}", xs, ys, hover, color=color))
    figure.add_hline(y=1.0, line={"color": theme.GREY, "dash": "dash", "width": 2})
    figure.update_yaxes(type="log", range=[-3, 1.5], dtick=1)
    figure.update_layout(showlegend=True)
    return figure


def losses(trainings: Mapping[str, Training]) -> go.Figure:
    """Draw the loss of trained chains by step, and that of the best answer that ignores x."""
    figure = theme.figure(_("The chain learns, or does not"), _("step"), _("loss"), height=420)
    for (name, training), color in zip(trainings.items(), _COLORS, strict=False):
        steps = [step.step for step in training.steps]
        hover = [
            f"{theme.safe(name)}<br>"
            + _("step {step}, loss {loss}").format(step=step.step, loss=f"{step.loss:.4g}")
            for step in training.steps
        ]
        figure.add_trace(
            theme.points(theme.safe(name), steps, training.losses, hover, color=color, mode="lines")
        )
    known = next(iter(trainings.values()), None)
    if known is not None:
        label, end = (
            _("an answer that ignores x"),
            max(t.steps[-1].step for t in trainings.values()),
        )
        ignorant = theme.points(
            label, [0, end], [known.constant_loss] * 2, [label] * 2, color=theme.GREY, mode="lines"
        )
        figure.add_trace(ignorant.update(line={"dash": "dash"}))
    figure.update_yaxes(exponentformat="power")
    figure.update_yaxes(type="log", dtick=1)
    figure.update_layout(showlegend=True)
    return figure


def _grid(reach: float) -> list[float]:
    return [reach * (2.0 * k / (_POINTS - 1) - 1.0) for k in range(_POINTS)]


def _stretches(zs: Sequence[float], inside: Sequence[bool]) -> list[tuple[float, float]]:
    """Return the ends of every unbroken stretch of `zs` that is inside."""
    found: list[tuple[float, float]] = []
    start = math.nan
    for z, now, before in zip(zs, inside, [False, *inside], strict=False):
        if now and not before:
            start = z
        if now:
            found = [*found[:-1], (start, z)] if before else [*found, (start, z)]
    return found
