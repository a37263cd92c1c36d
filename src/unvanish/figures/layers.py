"""One trace, layer by layer: slopes and saturation, the forward signal, the parameters."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

import plotly.graph_objects as go

from unvanish import words
from unvanish.figures import theme
from unvanish.i18n import _
from unvanish.records import LayerSignal, ParameterSignal, Trace

Value = Callable[[LayerSignal], float | None]


def slopes(trace: Trace) -> go.Figure | None:
    """Draw the slope of every activation above the shares of saturated, off and dead units."""
    layers = [layer for layer in trace.layers if layer.slope_rms is not None]
    if not layers:
        return None
    figure = theme.two_rows(
        _("Slope and saturation of the activations"),
        _("activations in forward order: the input (left) to the output (right)"),
        _("slope (rms)"),
        _("share of units"),
    )
    figure.add_trace(
        _series(layers, _("slope (rms)"), lambda layer: layer.slope_rms, theme.VERMILLION)
    )
    figure.add_trace(
        _series(
            layers, _("reference"), reference_slope, theme.GREY, symbol="line-ew-open", lines=False
        ).update(marker={"size": 13, "line": {"width": 2}})
    )
    shares: tuple[tuple[str, Value, str, str], ...] = (
        (_("saturated"), lambda layer: layer.saturated_share, theme.ORANGE, "circle"),
        (_("off"), lambda layer: layer.off_share, theme.SKY, "square"),
        (_("dead"), lambda layer: layer.dead_share, theme.PURPLE, "x"),
    )
    for label, value, color, symbol in shares:
        if any(value(layer) is not None for layer in layers):
            figure.add_trace(
                _series(layers, label, value, color, symbol=symbol, axis="y2", share=True)
            )
    figure.update_xaxes(**theme.layer_ticks(layers))
    top = max((layer.slope_rms or 0.0) for layer in layers)
    figure.update_layout(
        yaxis={"range": [0, 1.1 * top if math.isfinite(top) and top > 1 else 1.08]},
        yaxis2={"range": [-0.04, 1.04], "tickformat": ".0%", "dtick": 0.25},
    )
    return figure


def reference_slope(layer: LayerSignal) -> float | None:
    """Return the slope that would not be blamed: 1, or a ReLU's √½."""
    gain, blame = layer.factors_log10.get("slope"), layer.blame_log10.get("slope")
    if gain is None or blame is None or not math.isfinite(gain - blame):
        return None
    return float(10 ** (gain - blame))


def forward(trace: Trace) -> go.Figure | None:
    """Draw the size of the forward signal above how alike its samples are."""
    layers = [
        layer
        for layer in trace.layers
        if layer.forward_rms is not None or layer.sample_correlation is not None
    ]
    if not layers:
        return None
    layers, kind = _one_kind(layers)
    figure = theme.two_rows(
        _("The forward signal"),
        _("{axis}; of type {kind} only").format(axis=theme.depth_title(), kind=theme.safe(kind))
        if kind
        else theme.depth_title(),
        _("size, rms (log₁₀)"),
        _("share"),
    )
    figure.add_trace(
        _series(layers, _("size of the output (rms)"), _forward_log10, theme.BLUE, log=True)
    )
    figure.add_trace(
        _series(
            layers,
            _("correlation between samples"),
            lambda layer: layer.sample_correlation,
            theme.GREEN,
            axis="y2",
        )
    )
    batch = trace.batch_size
    if batch and any(layer.participation is not None for layer in layers):
        figure.add_trace(
            _series(
                layers,
                _("samples that take part in the backward signal"),
                lambda layer: None if layer.participation is None else layer.participation / batch,
                theme.PURPLE,
                symbol="square",
                axis="y2",
                share=True,
            )
        )
    figure.update_xaxes(**theme.layer_ticks(layers))
    figure.update_layout(yaxis2={"range": [-0.05, 1.05], "dtick": 0.25})
    return figure


def _one_kind(layers: list[LayerSignal]) -> tuple[list[LayerSignal], str]:
    """Return the layers of the most frequent type, and that type, if there are very many layers.

    Linear maps and activations take turns, and a line through both would fill the picture.
    """
    if len(layers) <= theme.MARKERS_UP_TO:
        return layers, ""
    kinds = Counter(layer.type for layer in reversed(layers))
    kind = max(kinds, key=lambda name: kinds[name])
    return [layer for layer in layers if layer.type == kind], kind


def _forward_log10(layer: LayerSignal) -> float | None:
    rms = layer.forward_rms
    if rms is None or not math.isfinite(rms):
        return None
    return math.log10(rms) if rms > 0 else -math.inf


def parameters(trace: Trace) -> go.Figure | None:
    """Draw gradients and sizes of the weights above the size of the optimiser's step.

    Biases are left out: they lie elsewhere, and lines through both would only zigzag.
    """
    shown = [p for p in trace.parameters if not p.name.endswith("bias")] or trace.parameters
    if not shown:
        return None
    title, x = _("The parameters and their gradients"), _("weights, from the input to the output")
    size, ratio = _("norm (log₁₀)"), _("update ratio (log₁₀)")
    updates = any(parameter.update_ratio_log10 is not None for parameter in shown)
    figure = theme.two_rows(title, x, size, ratio) if updates else theme.figure(title, x, size)

    def add(label: str, values: Sequence[float | None], color: str, symbol: str, axis: str) -> None:
        texts = [
            _parameter_hover(parameter, f"{label} {words.decades(value)}")
            for parameter, value in zip(shown, values, strict=True)
        ]
        figure.add_trace(
            theme.points(
                label, range(len(shown)), values, texts, color=color, symbol=symbol, axis=axis
            )
        )

    add(_("weights"), [p.weight_log10 for p in shown], theme.BLUE, "circle", "y")
    add(_("gradients"), [p.grad_log10 for p in shown], theme.VERMILLION, "square", "y")
    _mark_missing(figure, shown)
    if updates:
        add(_("update ratio"), [p.update_ratio_log10 for p in shown], theme.GREEN, "diamond", "y2")
    figure.update_xaxes(**theme.ticks([theme.tick(parameter.name) for parameter in shown]))
    return figure


def _parameter_hover(parameter: ParameterSignal, *lines: str) -> str:
    return "<br>".join([f"<b>{theme.name(parameter.name)}</b>", *lines])


def _mark_missing(figure: go.Figure, shown: Sequence[ParameterSignal]) -> None:
    """Mark the parameters that got no gradient, or one that is exactly zero or not finite."""
    known = [
        value
        for parameter in shown
        for value in (parameter.grad_log10, parameter.weight_log10)
        if value is not None and math.isfinite(value)
    ]
    floor = min(known, default=0.0) - 0.5
    kinds: tuple[tuple[str, str, Callable[[float | None], bool]], ...] = (
        (_("no gradient"), "x", lambda grad: grad is None),
        (_("gradient exactly zero"), "triangle-down", lambda grad: grad == -math.inf),
        (_("gradient not finite"), "star", lambda grad: grad is not None and math.isnan(grad)),
    )
    for label, symbol, fits in kinds:
        found = [i for i, parameter in enumerate(shown) if fits(parameter.grad_log10)]
        hover = [_parameter_hover(shown[i], label) for i in found]
        theme.mark(figure, label, symbol, found, floor, hover)


def _series(
    layers: Sequence[LayerSignal],
    label: str,
    value: Value,
    color: str,
    *,
    symbol: str = "circle",
    axis: str = "y",
    lines: bool = True,
    share: bool = False,
    log: bool = False,
) -> go.Scatter:
    values = [value(layer) for layer in layers]
    write = words.percent if share else words.decades if log else _plain
    return theme.points(
        label,
        range(len(layers)),
        values,
        [
            theme.layer_hover(layer, f"{label} {write(number)}")
            for layer, number in zip(layers, values, strict=True)
        ],
        color=color,
        symbol=symbol,
        mode=None if lines else "markers",
        axis=axis,
    )


def _plain(value: float | None) -> str:
    return words.NONE if value is None else words.quantity(value)
