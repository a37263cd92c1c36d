"""The singular values of the network's Jacobian, sorted; all at 1 is dynamical isometry."""

from __future__ import annotations

import math

import plotly.graph_objects as go

from unvanish import words
from unvanish.figures import theme
from unvanish.i18n import _
from unvanish.records import Spectrum, Trace


def places(found: Spectrum) -> list[float]:
    """Return where each value stands: its rank if all are known, else the middle of its share."""
    if found.exact:
        return [float(rank) for rank in range(1, len(found.values_log10) + 1)]
    starts = (0.0, *found.shares)
    return [(start + end) / 2 for start, end in zip(starts, found.shares, strict=False)]


def spectrum(trace: Trace) -> go.Figure | None:
    """Draw the singular values, the greatest first, on a logarithmic axis with 1 marked.

    None where they were not measured.
    """
    found = trace.spectrum
    if found is None or not found.values_log10:
        return None
    xs = places(found)
    known = [
        value
        for value in (*found.values_log10, *found.low_log10, *found.high_log10)
        if math.isfinite(value)
    ]
    low, high = min([0.0, *known]), max([0.0, *known])
    room = max(0.3, 0.06 * (high - low))
    figure = theme.figure(
        _("Singular values from input to output"),
        _x_title(found),
        _("singular value (log₁₀)"),
        height=380,
    )
    _band(figure, found, xs)
    figure.add_trace(
        theme.points(
            _("median of the samples")
            if found.exact and found.samples > 1
            else _("singular value"),
            xs,
            found.values_log10,
            [_hover(found, i) for i in range(len(xs))],
            color=theme.VERMILLION,
        )
    )
    zeros = [i for i, value in enumerate(found.values_log10) if value == -math.inf]
    if zeros:
        figure.add_trace(
            theme.points(
                _("exactly zero"),
                [xs[i] for i in zeros],
                [low - room] * len(zeros),
                [_hover(found, i) for i in zeros],
                color=theme.PURPLE,
                symbol="triangle-down",
                mode="markers",
            )
        )
    edges = [0.5, len(xs) + 0.5] if found.exact else [0.0, 1.0]
    _rule(figure, _("1: as long as before"), edges, 0.0, theme.GREEN, "dash")
    if found.floor_log10 > low - room:
        _rule(figure, _("below it: rounding"), edges, found.floor_log10, theme.GREY, "dot")
    figure.update_xaxes(range=edges)
    if found.exact:
        figure.update_xaxes(dtick=1 if len(xs) <= 20 else None)
    else:
        figure.update_xaxes(tickformat=".0%")
    figure.update_yaxes(range=[low - 1.6 * room, high + room])
    figure.update_layout(showlegend=True)
    return figure


def _x_title(found: Spectrum) -> str:
    count = min(found.rows, found.columns)
    if not found.exact:
        text = _("share of the singular values; {count} a sample, seen from {starts} directions")
    elif found.coupled:
        text = _("singular values of the whole batch; all {count}")
    else:
        text = _("singular values of each of {samples} samples; all {count}")
    return text.format(count=f"{count:,}", starts=found.starts, samples=found.samples)


def _band(figure: go.Figure, found: Spectrum, xs: list[float]) -> None:
    """Draw the area between the least and the greatest of samples or random directions."""
    whole = [
        i
        for i in range(len(xs))
        if math.isfinite(found.low_log10[i]) and math.isfinite(found.high_log10[i])
    ]
    if all(found.low_log10[i] == found.high_log10[i] for i in whole):
        return
    figure.add_trace(
        go.Scatter(
            name=_("from the least to the greatest"),
            x=[xs[i] for i in (*whole, *reversed(whole))],
            y=[
                *(found.high_log10[i] for i in whole),
                *(found.low_log10[i] for i in reversed(whole)),
            ],
            fill="toself",
            mode="lines",
            line={"width": 0, "color": theme.VERMILLION},
            opacity=0.25,
            hoverinfo="skip",
        )
    )


def _rule(
    figure: go.Figure, name: str, edges: list[float], level: float, color: str, dash: str
) -> None:
    figure.add_trace(
        go.Scatter(
            name=name,
            x=edges,
            y=[level, level],
            mode="lines",
            line={"color": color, "width": 1.5, "dash": dash},
            hoverinfo="skip",
        )
    )


def _hover(found: Spectrum, i: int) -> str:
    value = found.values_log10[i]
    head = (
        _("number {number} of {count}").format(number=i + 1, count=len(found.values_log10))
        if found.exact
        else _("{share} are as great or greater").format(share=words.percent(found.shares[i]))
    )
    spread = _("from {low} to {high}").format(
        low=words.times(found.low_log10[i]), high=words.times(found.high_log10[i])
    )
    lines = [f"<b>{head}</b>", f"{words.times(value)} ({words.decades(value)})"]
    return "<br>".join(lines if found.samples == 1 and found.exact else [*lines, spread])
