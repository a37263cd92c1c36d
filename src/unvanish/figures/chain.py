"""The textbook chain: its factors, their product, its gradients, one neuron, its training."""

from __future__ import annotations

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from unvanish import words
from unvanish.chain import Band, Neuron, Solution, Training, band, find_activation
from unvanish.chain.formula import figure as digits
from unvanish.figures import theme
from unvanish.i18n import _

REACH = 8.0  # pre-activations on both sides that the picture of a neuron holds
POINTS = 161


def product(solution: Solution) -> list[float]:
    """Return log10 |∂a_L/∂a_(k−1)| for k = 1 … L: the product of the factors k to L."""
    running, found = 0.0, []
    for neuron in reversed(solution.neurons):
        running += neuron.factor_log10
        found.append(running)
    return found[::-1]


def factors(solution: Solution) -> go.Figure:
    """Draw every factor w_k φ'(z_k) as a bar (log10 of its size), above their running product."""
    neurons = solution.neurons
    figure = theme.two_rows(
        _("The factors and their product"),
        _("neuron k: the front of the chain (left) to its output (right)"),
        _("factor (powers of ten)"),
        _("product from the output"),
        height=460,
    )
    ks = [neuron.k for neuron in neurons]
    sizes = [neuron.factor_log10 for neuron in neurons]
    low, high = _limits(sizes)
    for kind, color, pattern in (
        ("grows", theme.BLUE, ""),
        ("shrinks", theme.VERMILLION, ""),
        ("zero", theme.PURPLE, "/"),
    ):
        own = [one for one in neurons if effect(one.factor_log10) == kind]
        if own:
            figure.add_trace(
                go.Bar(
                    name=_effect_name(kind),
                    x=[one.k for one in own],
                    y=[max(one.factor_log10, low) for one in own],
                    width=0.8,
                    marker={"color": color, "pattern": {"shape": pattern}},
                    hovertext=[_hover(one) for one in own],
                    hoverinfo="text",
                )
            )
    for kind, color, symbol in (("keeps", theme.GREEN, "square"), ("unknown", theme.PURPLE, "x")):
        own = [one for one in neurons if effect(one.factor_log10) == kind]
        if own:
            hover = [_hover(one) for one in own]
            marks = theme.points(
                _effect_name(kind),
                [one.k for one in own],
                [0.0] * len(own),
                hover,
                color=color,
                symbol=symbol,
                mode="markers",
            )
            figure.add_trace(marks)
    running = product(solution)
    text = [
        f"<b>∂a_{len(ks)}/∂a_{k - 1}</b><br>{words.times(p)}"
        for k, p in zip(ks, running, strict=True)
    ]
    line = theme.points(_("product"), ks, running, text, color=theme.GREEN, axis="y2")
    figure.add_trace(line)
    bottom, top = _limits(running)
    figure.update_layout(
        barmode="overlay",
        xaxis={**_neurons(len(ks))},
        yaxis={"range": [low - 0.15, high + 0.15]},
        yaxis2={"range": [bottom - 0.2, top + 0.2]},
    )
    return figure


def effect(log10: float) -> str:
    """Return what a factor does: "grows", "shrinks", "keeps" (exactly 1), "zero", "unknown"."""
    if math.isnan(log10):
        return "unknown"
    if log10 == 0:
        return "keeps"
    return "zero" if log10 == -math.inf else "grows" if log10 > 0 else "shrinks"


def _effect_name(kind: str) -> str:
    return {
        "grows": _("grows"),
        "shrinks": _("shrinks"),
        "keeps": _("exactly 1"),
        "zero": _("exactly zero"),
        "unknown": _("not a number"),
    }[kind]


def gradients(solution: Solution) -> go.Figure:
    """Draw log10 |∂C/∂w_k| by neuron; an exact zero lies on the floor."""
    neurons = solution.neurons
    figure = theme.figure(
        _("The gradient of each weight"),
        _("neuron k: the front of the chain (left) to its output (right)"),
        "∂C/∂w (log₁₀)",
        height=320,
    )
    ks = [neuron.k for neuron in neurons]
    sizes = [neuron.dC_dw_log10 for neuron in neurons]
    low, high = _limits(sizes)
    hover = [
        f"<b>∂C/∂w_{neuron.k}</b><br>{digits(neuron.dC_dw, neuron.dC_dw_log10)}"
        for neuron in neurons
    ]
    figure.add_trace(theme.points("∂C/∂w", ks, sizes, hover, color=theme.VERMILLION))
    zeros = [i for i, size in enumerate(sizes) if size == -math.inf]
    if zeros:
        figure.add_trace(
            theme.points(
                _("exactly zero"),
                [ks[i] for i in zeros],
                [low] * len(zeros),
                [hover[i] for i in zeros],
                color=theme.PURPLE,
                symbol="triangle-down",
                mode="markers",
            )
        )
    figure.update_layout(
        xaxis=_neurons(len(ks)), yaxis={"range": [low - 0.3, high + 0.3]}, showlegend=bool(zeros)
    )
    return figure


def window(weight: float, bias: float, at: float) -> tuple[float, float]:
    """Return the inputs that the picture of a neuron shows: |z| up to REACH, and the input `at`."""
    steep = max(abs(weight), 0.2)
    low, high = (-REACH - bias) / steep, (REACH - bias) / steep
    if weight < 0:
        low, high = -high, -low
    room = 0.05 * (high - low)
    if not math.isfinite(at):
        return low, high
    return min(low, at - room), max(high, at + room)


def neuron(activation: str, weight: float, bias: float, at: float) -> go.Figure:
    """Draw |w φ'(w x + b)| over x, the band where it is 1 or more, and the input `at`."""
    slope = find_activation(activation).slope
    low, high = window(weight, bias, at)
    xs = [low + (high - low) * i / (POINTS - 1) for i in range(POINTS)]
    ys = [abs(weight) * slope(weight * x + bias) for x in xs]
    figure = theme.figure(
        _("One neuron: which inputs it lets through"),
        _("input x of the neuron"),
        "|w φ'(w x + b)|",
        height=320,
    )
    good: Band | None = band(weight, bias) if activation == "sigmoid" else None
    if good is not None:
        figure.add_trace(
            go.Scatter(
                name=_("band: the factor is 1 or more"),
                x=[good.low, good.high, good.high, good.low],
                y=[0, 0, max(ys) * 1.05, max(ys) * 1.05],
                fill="toself",
                mode="lines",
                line={"width": 0, "color": theme.GREEN},
                fillcolor="rgba(0, 158, 115, 0.2)",
                hoverinfo="skip",
            )
        )
    hover = [f"x = {digits(x)}<br>{digits(y)}" for x, y in zip(xs, ys, strict=True)]
    curve = theme.points(_("factor"), xs, ys, hover, color=theme.BLUE, mode="lines")
    figure.add_trace(curve)
    one = theme.points(
        _("1: the signal keeps its size"),
        [low, high],
        [1, 1],
        ["1", "1"],
        color=theme.GREY,
        mode="lines",
    )
    figure.add_trace(one.update(line={"dash": "dash", "width": 1}))
    if math.isfinite(at):
        size = abs(weight) * slope(weight * at + bias)
        figure.add_trace(
            theme.points(
                _("its input"),
                [at],
                [size],
                [f"x = {digits(at)}<br>{digits(size)}"],
                color=theme.VERMILLION,
                symbol="diamond",
                mode="markers",
            )
        )
    figure.update_layout(
        xaxis={"range": [low, high]}, yaxis={"range": [0, max(1.1, 1.08 * max(ys))]}
    )
    return figure


def training(shown: Training, step: int) -> go.Figure:
    """Draw the loss by step, above |∂C/∂w| of the first and the last weight; `step` is marked."""
    figure = theme.two_rows(
        _("The chain learns"), _("step"), _("loss"), "|∂C/∂w| (log₁₀)", height=460
    )
    drawn = [each for each in shown.steps if each.step % stride(len(shown.steps)) == 0]
    steps = [each.step for each in drawn]
    depth = shown.chain.depth

    def add(label: str, ys: Sequence[float], color: str, axis: str) -> None:
        hover = [f"{label}, {_('step {step}').format(step=s)}" for s in steps]
        figure.add_trace(
            theme.points(label, steps, ys, hover, color=color, mode="lines", axis=axis)
        )

    losses = shown.losses
    add(_("loss"), [each.loss for each in drawn], theme.BLUE, "y")
    add(_("best answer that ignores x"), [shown.constant_loss] * len(steps), theme.GREY, "y")
    add("∂C/∂w_1", [_log(each.dC_dw[0]) for each in drawn], theme.VERMILLION, "y2")
    if depth > 1:
        add(f"∂C/∂w_{depth}", [_log(each.dC_dw[-1]) for each in drawn], theme.SKY, "y2")
    here = min(step, len(losses) - 1)
    figure.add_trace(
        theme.points(
            _("now"),
            [here],
            [losses[here]],
            [_("step {step}: loss {loss}").format(step=here, loss=digits(losses[here]))],
            color=theme.PURPLE,
            symbol="diamond",
            mode="markers",
        )
    )
    finite = [loss for loss in losses if math.isfinite(loss)]
    top = max([*finite, shown.constant_loss])
    figure.update_layout(yaxis={"range": [-0.03 * top, 1.08 * top]})
    return figure


def stride(count: int, most: int = 130) -> int:
    """Return how many steps lie between two points of a line of `count` steps."""
    return max(1, -(-count // most))


def _log(value: float) -> float:
    return math.log10(abs(value)) if value and math.isfinite(value) else -math.inf


def _neurons(count: int) -> dict[str, object]:
    return {"range": [0.3, count + 0.7], "showgrid": False, "dtick": 1 if count <= 12 else 5}


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """Return the least and the greatest finite value, with 0 among them and room for zeros."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = min([0.0, *finite]), max([0.0, *finite])
    if any(value == -math.inf for value in values):
        low -= max(1.0, 0.3 * (high - low))
    return low, high


def _hover(one: Neuron) -> str:
    return "<br>".join(
        [
            f"<b>{_('neuron {k}').format(k=one.k)}</b>",
            f"w φ'(z) = {digits(one.factor, one.factor_log10)}",
            f"w = {digits(one.weight)}, φ'(z) = {digits(one.slope, one.slope_log10)}",
            f"z = {digits(one.z)}, a = {digits(one.a)}",
        ]
    )
