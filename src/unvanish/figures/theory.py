"""The theory of an activation: its curve with its slope, and where its layers are critical."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from unvanish import words
from unvanish.figures import theme
from unvanish.i18n import _
from unvanish.meanfield import Activation
from unvanish.meanfield.facade import Setting
from unvanish.meanfield.maps import EXPLODED, VANISHED, FixedPoint, Layer, fixed_point
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


def phases(
    activation: Activation, settings: Sequence[Setting], columns: int = 80, rows: int = 41
) -> Diagram:
    """Return the phase diagram, over a grid of σ_w × σ_b, with room for all of `settings`."""
    widest = max([4.0, *(1.2 * setting.sigma_w for setting in settings)])
    highest = max([2.0, *(1.2 * setting.sigma_b for setting in settings)])
    return diagram(
        activation,
        np.linspace(widest / columns, widest, columns).tolist(),
        np.linspace(0.0, highest, rows).tolist(),
    )


def slope_picture(activation: Activation, q: float) -> go.Figure:
    """Draw φ, φ' and the band of pre-activations within ±√q."""
    drawn = curve(activation)
    figure = theme.figure(_("The activation and its slope"), "z", "", height=380)
    for name, values, colour in (
        ("φ(z)", drawn.value, theme.BLUE),
        ("φ'(z)", drawn.slope, theme.VERMILLION),
    ):
        hover = [f"z = {z:.3g}, {name} = {y:.4g}" for z, y in zip(drawn.z, values, strict=True)]
        figure.add_trace(theme.points(name, drawn.z, values, hover, color=colour))
    sigma = math.sqrt(q)
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


def gain_log10(point: FixedPoint) -> float:
    """Return the log10 of the gain of the gradient's norm a layer, ½ log10 χ₁."""
    return 0.5 * math.log10(point.chi_1) if point.chi_1 > 0.0 else -math.inf


def own_point(sigma_w: float, sigma_b: float, gain: str) -> dict[str, Any]:
    """Return the trace of one point of a phase diagram, as plain data."""
    trace: dict[str, Any] = theme.points(
        _("your choice"),
        [sigma_w],
        [sigma_b],
        [f"σ_w = {sigma_w:.3g}, σ_b = {sigma_b:.3g}: {gain}"],
        color=theme.PURPLE,
        symbol="star",
        mode="markers",
    ).to_plotly_json()
    trace["marker"]["size"] = 14
    return trace


def depth_scale(
    activation: Activation, sigma_b: float, widest: float, points: int = 40
) -> tuple[list[float], list[float]]:
    """Return σ_w from 0 to `widest`, and the greatest depth expected to train (6 ξ_c) at each."""
    grid = [widest * (i + 1) / points for i in range(points)]
    return grid, [fixed_point(Layer(activation, w, sigma_b)).trainable_depth for w in grid]


def depth_picture(
    grid: Sequence[float], depths: Sequence[float], sigma_w: float, here: float
) -> go.Figure:
    """Draw the greatest depth expected to train over σ_w; `here` is that at `sigma_w`."""
    figure = theme.figure(
        _("How deep a plain network is expected to train"), "σ_w", _("layers (6 ξ_c)"), height=340
    )
    hover = [f"σ_w = {w:.3g}: {_layers(depth)}" for w, depth in zip(grid, depths, strict=True)]
    figure.add_trace(
        theme.points("6 ξ_c", grid, [depth or None for depth in depths], hover, color=theme.BLUE)
    )
    if 0.0 < here < math.inf:
        text = [f"σ_w = {sigma_w:.3g}: {_layers(here)}"]
        figure.add_trace(
            theme.points(
                _("here"),
                [sigma_w],
                [here],
                text,
                color=theme.VERMILLION,
                symbol="diamond",
                mode="markers",
            )
        )
    figure.update_layout(yaxis={"type": "log"}, xaxis={"range": [0, grid[-1]]})
    return figure


def _layers(depth: float) -> str:
    return _("without a limit") if math.isinf(depth) else f"{depth:.4g}"


@dataclass(frozen=True, slots=True)
class Map:
    """One layer's map at equally spaced points, with the fixed point it leads to."""

    before: tuple[float, ...]
    after: tuple[float, ...]
    fixed: float


def length_map(layer: Layer, point: FixedPoint, points: int = 41) -> Map:
    """Return q' over q, with room for the fixed point where it is finite."""
    end = max(2.0, 1.6 * point.q) if point.q < 1e6 else 4.0
    before = [end * (i + 1) / points for i in range(points)]
    return Map(tuple(before), tuple(layer.length(q) for q in before), point.q)


def correlation_map(layer: Layer, point: FixedPoint, points: int = 21) -> Map:
    """Return c' over c at the length of the fixed point (at 1 where that is 0 or infinite)."""
    q = point.q if VANISHED < point.q < EXPLODED else 1.0
    before = [i / (points - 1) for i in range(points)]
    after = [min(1.0, layer.correlation(q, c, rough=True)) for c in before]
    return Map(tuple(before), tuple(after), point.correlation)


def map_picture(shown: Map, title: str, x: str, y: str) -> go.Figure:
    """Draw a map, the diagonal that leaves everything as it is, and the fixed point."""
    figure = theme.figure(title, x, y, height=340)
    hover = [f"{x} = {a:.3g} → {b:.4g}" for a, b in zip(shown.before, shown.after, strict=True)]
    figure.add_trace(
        theme.points(
            _("one layer"), shown.before, shown.after, hover, color=theme.BLUE, mode="lines"
        )
    )
    end = shown.before[-1]
    same = theme.points(
        _("unchanged"), [0, end], [0, end], ["", ""], color=theme.GREY, mode="lines"
    )
    figure.add_trace(same.update(line={"dash": "dash", "width": 1}))
    if 0.0 <= shown.fixed <= end:
        figure.add_trace(
            theme.points(
                _("fixed point"),
                [shown.fixed],
                [shown.fixed],
                [f"{shown.fixed:.6g}"],
                color=theme.VERMILLION,
                symbol="diamond",
                mode="markers",
            )
        )
    figure.update_layout(xaxis={"range": [0, 1.02 * end]}, yaxis={"rangemode": "tozero"})
    return figure
