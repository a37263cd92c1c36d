"""Pictures of a proof: losses of the untreated and the cured networks, and levels before, after."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from unvanish import words
from unvanish.figures import theme
from unvanish.figures.time import LOG_FROM
from unvanish.i18n import _
from unvanish.records import LevelAt

_COLORS = (theme.GREEN, theme.BLUE, theme.ORANGE, theme.PURPLE)

Triple = tuple[float, float, float]  # least, median, greatest over seeds


@dataclass(frozen=True, slots=True)
class Curve:
    """Losses of one network over several seeds: a triple for each of some equal stretches."""

    name: str
    steps: int  # optimiser steps in all
    triples: Sequence[Triple]


def losses(untreated: Curve, cured: Sequence[Curve]) -> go.Figure | None:
    """Draw the loss by step: the median over seeds as a line, from least to greatest as a band.

    Returns None where no loss is finite.
    """
    lines = [(untreated, theme.VERMILLION), *zip(cured, _COLORS, strict=False)]
    finite = [v for one, _c in lines for triple in one.triples for v in triple if _finite(v)]
    if not finite:
        return None
    figure = theme.figure(
        _("Training, untreated and cured"), _("optimiser step"), _("loss"), height=420
    )
    for one, color in lines:
        for trace in _traces(one, color):
            figure.add_trace(trace)
    if min(finite) > 0 and max(finite) / min(finite) > LOG_FROM:
        figure.update_yaxes(type="log", dtick=1)
    figure.update_layout(showlegend=True)
    return figure


def levels(before: Sequence[LevelAt], cured: Sequence[tuple[str, Sequence[LevelAt]]]) -> go.Figure:
    """Draw the level at each layer of the main path before training, untreated and cured.

    The cured network may have more layers: each line runs from its own first to its own last.
    """
    figure = theme.figure(
        _("Level before and after"),
        _("from the first layer (left) to the last (right)"),
        _("level (powers of ten)"),
        height=380,
    )
    lines = [(_("untreated"), before, theme.VERMILLION)]
    lines += [(name, row, color) for (name, row), color in zip(cured, _COLORS, strict=False)]
    for name, row, color in lines:
        label = theme.safe(words.shorten(words.printable(name), 60))
        known = [(i, at) for i, at in enumerate(row) if _finite(at.level_log10)]
        hover = [
            f"<b>{label}</b><br>{theme.name(at.layer)}<br>"
            + _("level {level}").format(level=words.level(at.level_log10))
            for _i, at in known
        ]
        figure.add_trace(
            theme.points(
                label,
                [i / max(1, len(row) - 1) for i, _at in known],
                [at.level_log10 for _i, at in known],
                hover,
                color=color,
            )
        )
    figure.update_xaxes(showticklabels=False)
    figure.update_layout(showlegend=True)
    return figure


def _traces(one: Curve, color: str) -> list[go.Scatter]:
    name = theme.safe(words.shorten(words.printable(one.name), 60))
    count = max(1, len(one.triples))
    known = [
        (round((i + 0.5) * one.steps / count), triple)
        for i, triple in enumerate(one.triples)
        if all(map(_finite, triple))
    ]
    steps = [step for step, _triple in known]
    area = go.Scatter(
        x=[*steps, *reversed(steps)],
        y=[*(t[2] for _s, t in known), *(t[0] for _s, t in reversed(known))],
        fill="toself",
        mode="lines",
        line={"width": 0, "color": color},
        opacity=0.25,
        hoverinfo="skip",
        showlegend=False,
    )
    hover = [
        f"<b>{name}</b><br>"
        + _("step {step}, loss {loss} ({low} to {high})").format(
            step=step, loss=words.loss(middle), low=words.loss(low), high=words.loss(high)
        )
        for step, (low, middle, high) in known
    ]
    label = name if known else _("{name}: not finite").format(name=name)
    middles = [triple[1] for _s, triple in known]
    return [area, theme.points(label, steps, middles, hover, color=color, mode="lines")]


def _finite(value: float) -> bool:
    return math.isfinite(value)
