"""The slope of each activation, and under it how its input z is spread, layer by layer."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import plotly.graph_objects as go

from unvanish import words
from unvanish.errors import UnvanishError
from unvanish.figures import theme
from unvanish.i18n import _
from unvanish.meanfield import Activation, named
from unvanish.records import INPUT_BINS, INPUT_REACH, ActivationInput, Trace

MOST_LINES = 4  # layers that have a line of their own; more share a heat map
MOST_ROWS = 120  # of a heat map
SATURATION = 0.0707  # of the steepest slope: see the vocabulary
_WIDTH = 2 * INPUT_REACH / INPUT_BINS
_CENTRES = tuple(_WIDTH * (i + 0.5) - INPUT_REACH for i in range(INPUT_BINS))
_COLOURS = (theme.BLUE, theme.ORANGE, theme.GREEN, theme.PURPLE)
_UNLIKE = 0.05  # of the steepest slope: a known curve may be off by so much before it is not drawn


@dataclass(frozen=True, slots=True)
class Group:
    """The layers of one activation."""

    label: str
    activation: Activation | None  # None: not known, or measured to be another
    layers: tuple[ActivationInput, ...]
    slopes: tuple[float, ...]  # by bin, mean over layers; nan: not seen


def groups(trace: Trace) -> list[Group]:
    """Return the activations of a trace, that with the most layers first."""

    def kind(one: ActivationInput) -> tuple[str, float]:
        return one.activation or types.get((one.module, one.call), ""), one.negative_slope or 0.0

    types = {(layer.module, layer.call): layer.type for layer in trace.layers if layer.op is None}
    found = []
    for (name, slope), members in groupby(sorted(trace.inputs, key=kind), key=kind):
        own = {id(one) for one in members}
        layers = tuple(one for one in trace.inputs if id(one) in own)  # in forward order
        means = _means(layers)
        known = _known(name, slope) if layers[0].activation else None
        if known is not None and not _alike(known, means):
            known = None
        label = f"{name} ({slope:.3g})" if slope else name
        found.append(Group(label or _("not known"), known, layers, means))
    return sorted(found, key=lambda group: -len(group.layers))


def _known(name: str, negative_slope: float) -> Activation | None:
    parameters = {"negative_slope": negative_slope} if name == "leaky_relu" else {}
    with contextlib.suppress(UnvanishError):
        return named(name, **parameters)
    return None


def _means(layers: Sequence[ActivationInput]) -> tuple[float, ...]:
    """Return the mean slope by bin, each layer counted by its entries there."""
    total, weight = np.zeros(INPUT_BINS), np.zeros(INPUT_BINS)
    for one in layers:
        bins = slice(one.first, one.first + len(one.counts))
        slopes, counts = np.array(one.slopes), np.array(one.counts, dtype=float)
        seen = np.isfinite(slopes) & (counts > 0)
        total[bins] += np.where(seen, slopes * counts, 0.0)
        weight[bins] += np.where(seen, counts, 0.0)
    means = np.full(INPUT_BINS, math.nan)
    np.divide(total, weight, out=means, where=weight > 0)
    return tuple(means.tolist())


def _alike(known: Activation, means: Sequence[float]) -> bool:
    """Whether a known slope is the measured one: parameters (an ELU's alpha) can make it another.

    The outermost bins hold what lies beyond, and are left out.
    """
    inner = [i for i in range(1, INPUT_BINS - 1) if math.isfinite(means[i])]
    if not inner:
        return True
    expected = known.df(np.array([_CENTRES[i] for i in inner]))
    steepest = known.slope_supremum or float(np.abs(expected).max())
    difference = np.abs(expected - np.array([means[i] for i in inner]))
    return bool(difference.mean() < _UNLIKE * steepest)


def saturated(activation: Activation) -> list[tuple[float, float]]:
    """Return the ranges of z within reach where the slope is too small, and not exactly 0."""
    supremum = activation.slope_supremum
    if not supremum:
        return []
    z = np.linspace(-INPUT_REACH, INPUT_REACH, 1601)
    steep = np.abs(activation.df(z))
    inside = (steep < SATURATION * supremum) & (steep > 0)
    ranges = []
    for small, places in groupby(range(len(z)), key=lambda i: bool(inside[i])):
        own = list(places)
        if small and len(own) > 1:
            ranges.append((float(z[own[0]]), float(z[own[-1]])))
    return ranges


def share(one: ActivationInput) -> list[float]:
    """Return the share of entries in each bin, of all that were looked at."""
    after = INPUT_BINS - one.first - len(one.counts)
    counts = [*[0] * one.first, *one.counts, *[0] * after]
    return [count / one.entries for count in counts]


def activations(trace: Trace) -> go.Figure | None:
    """Draw slope and spread of z for each activation of `trace`, with a menu of several.

    None where no activation's input was seen.
    """
    found = groups(trace)
    if not found:
        return None
    figure = theme.two_rows(
        _("Where the inputs of the activations fall"),
        _("z, the input of the activation; what lies beyond: in the outermost bins"),
        _("slope φ'(z)"),
        "",
        height=540,
    )
    views = [_View(group) for group in found]
    counts = []
    for view in views:
        traces = view.traces()
        counts.append(len(traces))
        figure.add_traces(traces)
    buttons: list[dict[str, Any]] = [
        {
            "label": view.label(),
            "method": "update",
            "args": [
                {"visible": [i == j for j, count in enumerate(counts) for _n in range(count)]},
                view.axes(),
            ],
        }
        for i, view in enumerate(views)
    ]
    for one, visible in zip(figure.data, buttons[0]["args"][0]["visible"], strict=True):
        one.visible = visible
    figure.update_layout({k.replace(".", "_"): v for k, v in views[0].axes().items()})
    figure.update_layout(
        showlegend=True,
        coloraxis={
            "colorscale": [[0.0, "rgba(86,180,233,0.12)"], [1.0, theme.BLUE]],
            "cmin": 0,
            "colorbar": {
                "thickness": 12,
                "outlinewidth": 0,
                "len": 0.48,
                "y": 0,
                "yanchor": "bottom",
                "tickformat": ".0%",
                "title": {"text": _("share")},
            },
        },
    )
    if len(buttons) > 1:
        theme.add_menu(figure, buttons, 0)
    return figure


class _View:
    """One activation, drawn."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self._lines = len(group.layers) <= MOST_LINES
        stride = -(-len(group.layers) // MOST_ROWS)
        self._layers = group.layers[::stride]

    def label(self) -> str:
        return _("{activation}: {count} layers").format(
            activation=theme.safe(words.shorten(self.group.label, 40)),
            count=len(self.group.layers),
        )

    def axes(self) -> dict[str, Any]:
        filled = [
            abs(_CENTRES[i]) + _WIDTH / 2
            for one in self._layers
            for i in (one.first, one.first + len(one.counts) - 1)
        ]
        reach = min(INPUT_REACH, max(6.0, *filled))
        low, high = self._slope_range()
        return {
            "xaxis.range": [-reach, reach],
            "yaxis.range": [low, high],
            "yaxis2.title.text": _("share of the units")
            if self._lines
            else _("layers, the first below"),
            "yaxis2.type": "linear" if self._lines else "category",
            "yaxis2.showticklabels": self._lines,
            "yaxis2.tickformat": ".0%",
            "yaxis2.autorange": True,
        }

    def traces(self) -> list[Any]:
        return [*self._bands(), *self._slopes(), *(self._shares() if self._lines else self._map())]

    def _slope_range(self) -> tuple[float, float]:
        values = [value for value in self.group.slopes if math.isfinite(value)]
        if self.group.activation is not None:
            curve = self.group.activation.df(np.array(_CENTRES))
            values += [float(value) for value in curve if math.isfinite(value)]
        low, high = min([0.0, *values]), max([0.0, *values])
        room = 0.08 * (high - low or 1.0)
        return low - room, high + room

    def _bands(self) -> list[go.Scatter]:
        """Return the ranges of z where units saturate, as one area."""
        ranges = saturated(self.group.activation) if self.group.activation is not None else []
        if not ranges:
            return []
        low, high = self._slope_range()
        xs: list[float | None] = []
        ys: list[float | None] = []
        for start, end in ranges:
            xs += [start, end, end, start, start, None]
            ys += [low, low, high, high, low, None]
        return [
            go.Scatter(
                name=_("saturated"),
                x=xs,
                y=ys,
                mode="lines",
                fill="toself",
                fillcolor="rgba(230,159,0,0.25)",
                line={"width": 0, "color": theme.ORANGE},
                hoverinfo="skip",
            )
        ]

    def _slopes(self) -> list[go.Scatter]:
        made = []
        if self.group.activation is not None:
            z = np.linspace(-INPUT_REACH, INPUT_REACH, 321)
            values = [float(value) for value in self.group.activation.df(z)]
            hover = [f"z = {x:.2f}, φ' = {y:.4g}" for x, y in zip(z, values, strict=True)]
            made.append(
                theme.points(
                    _("slope, from its formula"),
                    z.tolist(),
                    values,
                    hover,
                    color=theme.VERMILLION,
                    mode="lines",
                )
            )
        seen = [i for i, value in enumerate(self.group.slopes) if math.isfinite(value)]
        if seen:
            made.append(
                theme.points(
                    _("slope, measured"),
                    [_CENTRES[i] for i in seen],
                    [self.group.slopes[i] for i in seen],
                    [f"z = {_bin(i)}, φ' = {self.group.slopes[i]:.4g}" for i in seen],
                    color=theme.VERMILLION if self.group.activation is None else theme.GREY,
                    symbol="circle-open",
                    mode="markers",
                )
            )
        return made

    def _shares(self) -> list[go.Scatter]:
        """Return a line for each layer, with steps at the edges of the bins."""
        return [
            go.Scatter(
                name=_place(one),
                x=list(_CENTRES),
                y=share(one),
                mode="lines",
                line={"color": color, "width": 2, "shape": "hvh"},
                fill="tozeroy",
                fillcolor=_faded(color),
                hovertext=[_hover(one, i, value) for i, value in enumerate(share(one))],
                hoverinfo="text",
                yaxis="y2",
            )
            for one, color in zip(self._layers, _COLOURS, strict=False)
        ]

    def _map(self) -> list[go.Heatmap]:
        """Return a row for each layer; hovering names it without a text for every cell."""
        number = {id(one): i + 1 for i, one in enumerate(self.group.layers)}
        where = f"<b>%{{y}}</b><br>z %{{x:.2f}} ± {_WIDTH / 2:.3g}<br>%{{z:.1%}}<extra></extra>"
        return [
            go.Heatmap(
                name=_("share of the units"),
                x=list(_CENTRES),
                y=[f"{number[id(one)]}: {_place(one)}" for one in self._layers],
                z=[[value or None for value in share(one)] for one in self._layers],
                coloraxis="coloraxis",
                hovertemplate=where,
                yaxis="y2",
            )
        ]


def _place(one: ActivationInput) -> str:
    return theme.name(one.module, 40) + (f" #{one.call}" if one.call else "")


def _bin(place: int) -> str:
    low, high = _CENTRES[place] - _WIDTH / 2, _CENTRES[place] + _WIDTH / 2
    if place == 0:
        return f"< {high:g}"
    return f"≥ {low:g}" if place == INPUT_BINS - 1 else f"{low:g} … {high:g}"


def _hover(one: ActivationInput, place: int, value: float) -> str:
    lines = [f"<b>{_place(one)}</b>", f"z {_bin(place)}".replace("<", "&lt;"), f"{value:.1%}"]
    if one.unseen:
        hidden = words.percent(one.unseen / one.entries)
        lines.append(_("not seen, z ≤ 0: {share}").format(share=hidden))
    return "<br>".join(lines)


def _faded(color: str) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.15)"
