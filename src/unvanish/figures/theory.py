"""The theory of an activation: its curve with its slope, and where its layers are critical."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from unvanish import words
from unvanish.figures import theme
from unvanish.i18n import _
from unvanish.meanfield import Activation
from unvanish.meanfield.facade import Setting, Theory
from unvanish.meanfield.phase import Diagram, diagram

_REACH = 6.0  # pre-activations drawn, on both sides
_STEEPEST = 0.3  # decades a layer from which the colour of a phase is full
_COLOURS = [[0.0, theme.BLUE], [0.5, "#f7f7f7"], [1.0, theme.VERMILLION]]


@dataclass(frozen=True, slots=True)
class Curve:
    """An activation and its slope at equally spaced pre-activations."""

    z: tuple[float, ...]
    value: tuple[float, ...]
    slope: tuple[float, ...]


def curve(activation: Activation, points: int = 241, reach: float = _REACH) -> Curve:
    """Return φ and φ' for |z| ≤ `reach`."""
    z = np.linspace(-reach, reach, points)
    f, df = activation.f(z), activation.df(z)
    return Curve(tuple(z.tolist()), tuple(f.tolist()), tuple(df.tolist()))


def phases(activation: Activation, settings: Sequence[Setting]) -> Diagram:
    """Return the phase diagram with room for all of `settings`."""
    widest = max([4.0, *(1.2 * setting.sigma_w for setting in settings)])
    highest = max([2.0, *(1.2 * setting.sigma_b for setting in settings)])
    return diagram(
        activation,
        np.linspace(widest / 80.0, widest, 80).tolist(),
        np.linspace(0.0, highest, 41).tolist(),
    )


def slope_picture(activation: Activation, theory: Theory) -> go.Figure:
    """Draw φ, φ' and the band of pre-activations within ±√q."""
    drawn = curve(activation)
    figure = theme.figure(_("The activation and its slope"), "z", "", height=380)
    for name, values, colour in (
        ("φ(z)", drawn.value, theme.BLUE),
        ("φ'(z)", drawn.slope, theme.VERMILLION),
    ):
        hover = [f"z = {z:.3g}, {name} = {y:.4g}" for z, y in zip(drawn.z, values, strict=True)]
        figure.add_trace(theme.points(name, drawn.z, values, hover, color=colour))
    sigma = math.sqrt(theory.q)
    figure.add_vrect(
        x0=-sigma, x1=sigma, fillcolor=theme.GREY, opacity=0.15, line_width=0, layer="below"
    )
    figure.update_yaxes(range=_range(drawn))
    return figure


def _range(drawn: Curve) -> list[float]:
    """Return limits that show the slope, where the value alone would leave it flat."""
    low = min(-1.5, *drawn.slope)
    return [max(low, min(*drawn.value, *drawn.slope)) - 0.1, max(2.0, *drawn.slope) + 0.1]


def phase_picture(shown: Diagram, settings: Sequence[Setting]) -> go.Figure:
    """Draw the gain a layer over σ_w and σ_b, the critical line, and the settings."""
    figure = theme.figure(_("Where gradients vanish and where they grow"), "σ_w", "σ_b", height=440)
    figure.add_trace(
        go.Heatmap(
            x=list(shown.sigma_w),
            y=list(shown.sigma_b),
            z=[[gain if math.isfinite(gain) else None for gain in row] for row in shown.gain_log10],
            customdata=[[words.times(gain) for gain in row] for row in shown.gain_log10],
            zmin=-_STEEPEST,
            zmax=_STEEPEST,
            colorscale=_COLOURS,
            colorbar={"title": {"text": _("decades a layer")}, "thickness": 12},
            hovertemplate="σ_w %{x:.3g}, σ_b %{y:.3g}: %{customdata}<extra></extra>",
        )
    )
    widest, highest = shown.sigma_w[-1], shown.sigma_b[-1]
    on_line = [
        (point.sigma_w, point.sigma_b, f"q = {point.q:.4g}")
        for point in shown.line
        if point.sigma_b is not None
    ]
    if len(on_line) > 1:
        xs, ys, hover = zip(*on_line, strict=True)
        line = theme.points(_("critical line"), xs, ys, hover, color=theme.GREY, mode="lines")
        figure.add_trace(line)
    figure.add_trace(
        theme.points(
            _("settings"),
            [setting.sigma_w for setting in settings],
            [setting.sigma_b for setting in settings],
            [theme.safe(f"{s.name}: {words.times(s.gain_log10)}") for s in settings],
            color=theme.GREEN,
            symbol="diamond",
            mode="markers",
        )
    )
    figure.update_xaxes(range=[0.0, widest])
    figure.update_yaxes(range=[-0.03 * highest, highest])
    return figure
