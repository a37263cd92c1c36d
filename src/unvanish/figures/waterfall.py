"""The waterfall: the level of the backward signal from the loss to the input, factor by factor."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby

import plotly.graph_objects as go

from unvanish import words
from unvanish.figures import theme
from unvanish.i18n import _
from unvanish.records import FACTORS, Factor, MainPath, PathEdge

MOST_OPS = 90  # bars up to which every op has its own
MOST_BARS = 72  # bars of a longer path, where one stands for several ops
LONGEST_CALL = 24  # ops of one module call that are taken together (an opened LSTM has hundreds)


@dataclass(frozen=True, slots=True)
class Bar:
    """What one factor does to the level over one op, one call or several neighbouring calls."""

    factor: Factor
    first: PathEdge  # nearest to the loss
    last: PathEdge
    count: int  # edges
    start_log10: float  # level before
    change_log10: float  # log-gain, or merge term
    blame_log10: float

    @property
    def end_log10(self) -> float:
        """Level after."""
        return self.start_log10 + self.change_log10


@dataclass(frozen=True, slots=True)
class Bars:
    """The bars of one path, from the loss down, and how many ops a group of them stands for."""

    bars: tuple[Bar, ...]
    ops: int  # in a group of bars, about; 1: every op has a bar of its own


def bars(path: MainPath) -> Bars:
    """Return the bars of `path`; their changes add up to the log-ratio of its ends' levels.

    A short path has a bar for every op (and one for its merge term, if there is one). On a longer
    one the ops of a module call are taken together by factor, and on a very long one those of
    several neighbouring calls.
    """
    if sum(1 + bool(edge.merge_log10) for edge in path.edges) <= MOST_OPS:
        return Bars(tuple(_stack([[edge] for edge in path.edges], path.root_level_log10)), 1)
    pieces = list(_pieces(path.edges))
    size = 1
    while True:
        groups = [list(chain(*pieces[i : i + size])) for i in range(0, len(pieces), size)]
        made = tuple(_stack(groups, path.root_level_log10))
        if len(made) <= MOST_BARS:
            return Bars(made, max(2, round(len(path.edges) / len(groups))))
        size += max(1, size * (len(made) - MOST_BARS) // MOST_BARS)


def _pieces(edges: Sequence[PathEdge]) -> Iterator[list[PathEdge]]:
    """Yield the edges of one module call after the other, a long one in several pieces."""
    for _key, own in groupby(edges, key=lambda edge: (edge.module, edge.call)):
        call = list(own)
        count = -(-len(call) // LONGEST_CALL)
        for i in range(count):
            yield call[i * len(call) // count : (i + 1) * len(call) // count]


def _stack(groups: Sequence[Sequence[PathEdge]], level: float) -> Iterator[Bar]:
    for edges in groups:
        parts: dict[Factor, list[tuple[PathEdge, float, float]]] = {}
        for edge in edges:
            parts.setdefault(edge.factor, []).append((edge, edge.gain_log10, edge.blame_log10))
            if edge.merge_log10:
                parts.setdefault("merge", []).append((edge, edge.merge_log10, 0.0))
        for factor, found in parts.items():
            change = _sum([gain for _edge, gain, _blame in found])
            yield Bar(
                factor, found[0][0], found[-1][0], len(found), level, change,
                _sum([blame for _edge, _gain, blame in found]),
            )  # fmt: skip
            level += change


def _sum(values: Sequence[float]) -> float:
    return math.fsum(values) if all(map(math.isfinite, values)) else sum(values)


def waterfall(path: MainPath) -> go.Figure:
    """Draw `path` as a waterfall coloured by factor: the loss at the left, the source at right.

    A gain that is exactly zero reaches down to the frame; one that is not finite is a cross, and
    nothing follows it.
    """
    made = bars(path)
    levels = [path.root_level_log10, *(bar.end_log10 for bar in made.bars)]
    finite = [level for level in levels if math.isfinite(level)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    room = max(0.5, 0.08 * (high - low))
    floor = low - room
    figure = theme.figure(
        _("The backward signal from the loss to the input"),
        _x_title(made.ops),
        _("level (powers of ten)"),
        height=460,
    )
    for factor in FACTORS:
        own = [(i, bar) for i, bar in enumerate(made.bars) if bar.factor == factor]
        if own:
            figure.add_trace(_trace(factor, own, floor))
    figure.add_trace(_outline(levels))
    _mark_end(figure, path, levels)
    broken = next((i for i, bar in enumerate(made.bars) if math.isnan(bar.change_log10)), None)
    if broken is not None:
        figure.add_trace(_cross(broken, made.bars[broken]))
    figure.update_xaxes(
        tickmode="array",
        tickvals=list(range(len(made.bars))),
        ticktext=[_tick(bar.first) for bar in made.bars],
        range=[-0.8, len(made.bars) + 0.4],
        showgrid=False,
    )
    figure.update_yaxes(range=[floor, high + room])
    figure.update_layout(barmode="overlay")
    return figure


def _x_title(ops: int) -> str:
    if ops == 1:
        return _("from the loss (left) to the input (right): a bar for each op")
    return _(
        "from the loss (left) to the input (right): a bar for each factor of {count} ops"
    ).format(count=ops)


def _trace(factor: Factor, own: Sequence[tuple[int, Bar]], floor: float) -> go.Bar:
    fill = theme.FILLS[factor]
    heights = [
        floor - bar.start_log10 if bar.change_log10 == -math.inf else bar.change_log10
        for _i, bar in own
    ]
    return go.Bar(
        name=words.factor_name(factor),
        x=[i for i, _bar in own],
        base=[_finite(bar.start_log10) for _i, bar in own],
        y=[_finite(height) for height in heights],
        width=0.9,
        marker={
            "color": fill.color,
            "line": {"color": "rgba(127,127,127,0.8)", "width": 0.5},
            "pattern": {"shape": fill.pattern, "size": 6, "fillmode": "replace"},
        },
        hovertext=[_hover(bar) for _i, bar in own],
        hoverinfo="text",
    )


def _outline(levels: Sequence[float]) -> go.Scatter:
    """Draw the level itself as a staircase over the bars."""
    xs = [edge for i in range(len(levels) - 1) for edge in (i - 0.5, i + 0.5)]
    ys = [level for i in range(len(levels) - 1) for level in (levels[i], levels[i])]
    return go.Scatter(
        x=[*xs, len(levels) - 1.5, len(levels) - 0.9],
        y=[_finite(level) for level in [*ys, levels[-1], levels[-1]]],
        mode="lines",
        line={"color": theme.GREY, "width": 1},
        showlegend=False,
        hoverinfo="skip",
    )


def _mark_end(figure: go.Figure, path: MainPath, levels: Sequence[float]) -> None:
    """Draw an arrow at the right from the level at the loss to the level at the source."""
    whole = levels[-1] - levels[0]
    if not math.isfinite(whole):
        return
    x = len(levels) - 0.9
    figure.add_annotation(
        x=x,
        y=levels[-1],
        ax=x,
        ay=levels[0],
        axref="x",
        ayref="y",
        text=_("{gain} arrives at layer {source}").format(
            gain=words.times(whole), source=_tick_of(path.source_module, path.source_op)
        ),
        xanchor="right",
        yanchor="bottom" if whole < 0 else "top",
        arrowhead=2,
        arrowwidth=1.5,
        arrowcolor=theme.GREY,
    )


def _cross(position: int, bar: Bar) -> go.Scatter:
    return go.Scatter(
        name=_("not finite"),
        x=[position],
        y=[_finite(bar.start_log10)],
        mode="markers",
        marker={"symbol": "x", "size": 12, "color": theme.PURPLE},
        hovertext=[_hover(bar)],
        hoverinfo="text",
    )


def _hover(bar: Bar) -> str:
    first, last = bar.first, bar.last
    place = theme.name(first.module) + (f" #{first.call}" if first.call else "")
    if (first.module, first.call) != (last.module, last.call):
        place = _("{first} to {last}").format(first=place, last=theme.name(last.module))
    ops = theme.safe(first.op) if bar.count == 1 else _("{count} ops").format(count=bar.count)
    change = f"{words.times(bar.change_log10)} ({words.decades(bar.change_log10)})"
    lines = [
        f"<b>{place}</b>",
        ops,
        f"{words.factor_name(bar.factor)} {change}",
        _("level {start} → {end}").format(
            start=words.level(bar.start_log10), end=words.level(bar.end_log10)
        ),
    ]
    if bar.blame_log10 != bar.change_log10 and bar.factor not in {"merge", "loss", "pool", "scale"}:
        lines.append(
            _("against its reference {blame}").format(blame=words.decades(bar.blame_log10))
        )
    return "<br>".join(lines)


def _tick(edge: PathEdge) -> str:
    return _tick_of(edge.module, edge.op) + (f" #{edge.call}" if edge.call else "")


def _tick_of(module: str | None, op: str) -> str:
    """Return the name of a module; of an op, where it belongs to none or to the whole model."""
    return theme.tick(module or op.partition("Backward")[0])


def _finite(value: float) -> float | None:
    """Plotly leaves a gap where a value is None."""
    return value if math.isfinite(value) else None
