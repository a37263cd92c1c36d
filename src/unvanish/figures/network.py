"""The network as a graph, from the input to the loss, coloured by level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from unvanish import words
from unvanish.figures import theme
from unvanish.figures.boxes import Box, Boxes, Link, Thing
from unvanish.figures.placing import READABLE, curve, places, views
from unvanish.i18n import _
from unvanish.records import OpGraph, Trace

NARROWEST = 3.0  # decades on either side of the output's level that the colours span, at least
_COLOURS = [[0.0, theme.BLUE], [0.5, "#f7f7f7"], [1.0, theme.VERMILLION]]
# Shares from which a link is drawn this thick; thinner ones and unknown ones are dashed.
_WIDTHS: tuple[tuple[float, float, str], ...] = (
    (0.5, 3.2, "solid"),
    (0.1, 1.8, "solid"),
    (-math.inf, 1.0, "dot"),
)


def network(trace: Trace) -> go.Figure | None:
    """Draw the graph of `trace`, the input at the left, with a menu of module depths.

    None where the graph was not kept.
    """
    graph = trace.graph
    if graph is None or len(graph.ops) < 2:
        return None
    shown, first = views(graph, recurrent=bool(trace.recurrences))
    painted = [_Painter(trace, view) for view in shown]
    figure = theme.figure(_("The network, coloured by level"), theme.depth_title(), "")
    counts = []
    for painter in painted:
        traces = painter.traces()
        counts.append(len(traces))
        figure.add_traces(traces)
    buttons: list[dict[str, Any]] = [
        {
            "label": _label(view),
            "method": "update",
            "args": [
                {"visible": [i == j for j, count in enumerate(counts) for _n in range(count)]},
                painter.axes(),
            ],
        }
        for i, (view, painter) in enumerate(zip(shown, painted, strict=True))
    ]
    for one, visible in zip(figure.data, buttons[first]["args"][0]["visible"], strict=True):
        one.visible = visible
    lanes = {place.y for place in painted[first].places}
    figure.update_layout(
        height=min(560, 300 + 44 * len(lanes)),
        coloraxis=_colours(trace, graph),
        showlegend=True,
        legend={"itemsizing": "trace"},
    )
    figure.update_xaxes(tickmode="array", showgrid=False)
    figure.update_yaxes(showticklabels=False, showgrid=False, zeroline=False, showline=False)
    figure.update_layout(
        {key.replace(".", "_"): value for key, value in painted[first].axes().items()}
    )
    if len(buttons) > 1:
        theme.add_menu(figure, buttons, first)
    return figure


def _colours(trace: Trace, graph: OpGraph) -> dict[str, Any]:
    """Return the scale of levels: white as at the network's output, blue below, red above."""
    centre = trace.output_level_log10
    if centre is None or not math.isfinite(centre):
        centre = 0.0
    known = [level for level in graph.levels_log10 if level is not None and math.isfinite(level)]
    reach = max([NARROWEST, *(abs(level - centre) for level in known)])
    return {
        "colorscale": _COLOURS,
        "cmin": centre - reach,
        "cmax": centre + reach,
        "colorbar": {"thickness": 12, "outlinewidth": 0, "title": {"text": _("level")}},
    }


def _label(view: Boxes) -> str:
    if view.folded:
        return _("{things} parts in {count} groups").format(
            things=view.things, count=len(view.boxes)
        )
    if view.depth == 0:
        return _("every op ({count})").format(count=len(view.boxes))
    return _("modules, depth {depth} ({count})").format(depth=view.depth, count=len(view.boxes))


class _Painter:
    """Draws one view."""

    def __init__(self, trace: Trace, view: Boxes) -> None:
        self.view = view
        self.places = places(view)
        self._layers = {(one.module, one.call): one for one in trace.layers if one.op is None}
        self._taken: list[list[int]] = [[] for _rank in range(1 + max(p.x for p in self.places))]
        for place in self.places:
            self._taken[place.x].append(place.y)

    def axes(self) -> dict[str, Any]:
        """Return ticks (the box nearest to the main path at each rank) and ranges."""
        names: dict[int, tuple[int, str]] = {}
        for box, place in zip(self.view.boxes, self.places, strict=True):
            if abs(place.y) < abs(names.get(place.x, (1000, ""))[0]):
                names[place.x] = (place.y, _tick(box))
        low, high = min(p.y for p in self.places), max(p.y for p in self.places)
        bows = [y for link in self.view.links for _x, y in self._curve(link)]
        room = 0.02 * len(self._taken)
        return {
            "xaxis.tickvals": sorted(names),
            "xaxis.ticktext": [names[x][1] for x in sorted(names)],
            "xaxis.range": [-0.6 - room, len(self._taken) - 0.4 + room],
            "yaxis.range": [min([low - 0.8, *(y - 0.2 for y in bows)]),
                            max([high + 0.8, *(y + 0.2 for y in bows)])],
            "annotations": self._labels({(x, y) for x, (y, _text) in names.items()}),
        }  # fmt: skip

    def _labels(self, named: set[tuple[int, int]]) -> list[dict[str, Any]]:
        """Return the names of the boxes that have no tick, where there is room for them."""
        if len(self.view.boxes) > READABLE:
            return []
        return [
            {
                "x": place.x,
                "y": place.y,
                "text": _tick(box),
                "textangle": -45,
                "showarrow": False,
                "xanchor": "left",
                "yanchor": "bottom",
                "xshift": 4,
                "yshift": 4,
                "font": {"size": 10},
            }
            for box, place in zip(self.view.boxes, self.places, strict=True)
            if (place.x, place.y) not in named
        ]

    def traces(self) -> list[go.Scatter]:
        """Return the links by thickness, what hovering says of them, and the boxes."""
        by_width: dict[tuple[float, str], list[Link]] = {}
        for link in self.view.links:
            by_width.setdefault(_width(link.share), []).append(link)
        names = {
            (3.2, "solid"): _("at least half of the gradient"),
            (1.8, "solid"): _("10 to 50 %"),
            (1.0, "dot"): _("less, or not known"),
        }
        lines = [self._lines(names[key], key, by_width[key]) for key in names if key in by_width]
        return [*lines, *self._hovers(), *self._boxes()]

    def _lines(self, name: str, look: tuple[float, str], links: Sequence[Link]) -> go.Scatter:
        points: list[tuple[float | None, float | None]] = []
        for link in links:
            points += [*self._curve(link), (None, None)]
        return go.Scatter(
            name=name,
            x=[x for x, _y in points],
            y=[y for _x, y in points],
            mode="lines",
            line={"color": theme.GREY, "width": look[0], "dash": look[1]},
            hoverinfo="skip",
        )

    def _hovers(self) -> list[go.Scatter]:
        """Return invisible points half way along each link, to hover over."""
        curves = [self._curve(link) for link in self.view.links]
        if not curves:
            return []
        middles = [_middle(points) for points in curves]
        return [
            go.Scatter(
                name=_("links"),
                x=[x for x, _y in middles],
                y=[y for _x, y in middles],
                mode="markers",
                marker={"size": 12, "color": "rgba(0,0,0,0)"},
                hovertext=[self._link_hover(link) for link in self.view.links],
                hoverinfo="text",
                showlegend=False,
            )
        ]

    def _curve(self, link: Link) -> list[tuple[float, float]]:
        return curve(self.places[link.tail], self.places[link.head], self._taken)

    def _boxes(self) -> list[go.Scatter]:
        boxes = list(enumerate(self.view.boxes))
        found = [
            i for i, box in boxes if box.level_log10 is not None and math.isfinite(box.level_log10)
        ]
        silent = [i for i, box in boxes if box.level_log10 is None]
        zero = [i for i, box in boxes if box.level_log10 == -math.inf]
        kinds = (
            (_("exactly zero"), "triangle-down", zero),
            (_("not finite"), "x", sorted({i for i, _b in boxes} - {*found, *silent, *zero})),
            (_("no signal came back"), "square-open", silent),
        )
        size = max(5.0, min(17.0, 640.0 / len(self._taken)))
        made = [
            self._marks(_("level"), found, "square", size).update(
                showlegend=False,
                marker={
                    "color": [self.view.boxes[i].level_log10 for i in found],
                    "coloraxis": "coloraxis",
                },
            )
        ]
        made += [
            self._marks(name, which, symbol, size).update(marker={"color": theme.PURPLE})
            for name, symbol, which in kinds
            if which
        ]
        return made

    def _marks(self, name: str, which: Sequence[int], symbol: str, size: float) -> go.Scatter:
        return go.Scatter(
            name=name,
            x=[self.places[i].x for i in which],
            y=[self.places[i].y for i in which],
            mode="markers",
            marker={
                "symbol": symbol,
                "size": size,
                "line": {"color": "#57606a", "width": 1},
            },
            hovertext=[self._box_hover(self.view.boxes[i]) for i in which],
            hoverinfo="text",
        )

    def _box_hover(self, box: Box) -> str:
        lines = [f"<b>{_name(box)}</b>"]
        if box.things > 1:
            lines.append(_("{count} parts").format(count=box.things))
        elif box.calls > 1:
            lines.append(_("{kind}, {count} calls").format(
                kind=theme.safe(box.first.kind), count=box.calls
            ))  # fmt: skip
        else:
            lines.append(theme.safe(box.first.kind))
        lines.append(_("level {level}").format(level=words.level(box.level_log10)))
        layer = self._layers.get((box.first.name, box.first.call))
        gain = box.gain_log10
        if box.things == box.calls == 1 and not box.first.op and layer is not None:
            gain = layer.gain_log10
        if gain is not None and not math.isnan(gain):
            lines.append(
                _("gain {gain}").format(gain=f"{words.times(gain)} ({words.decades(gain)})")
            )
        parts = [
            f"{words.factor_name(factor)} {words.decades(value)}"
            if not math.isnan(value)
            else words.factor_name(factor)
            for factor, value in box.factors_log10.items()
        ]
        return "<br>".join([*lines, ", ".join(parts)])

    def _link_hover(self, link: Link) -> str:
        ends = _("{first} to {last}").format(
            first=_name(self.view.boxes[link.tail]), last=_name(self.view.boxes[link.head])
        )
        share = _("share of the gradient: {share}").format(
            share=_("not known") if math.isnan(link.share) else words.percent(link.share)
        )
        return f"<b>{ends}</b><br>{share}"


def _width(share: float) -> tuple[float, str]:
    size = -math.inf if math.isnan(share) else abs(share)
    return next((width, dash) for least, width, dash in _WIDTHS if size >= least)


def _middle(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    if len(points) > 2:
        return points[len(points) // 2]
    (x0, y0), (x1, y1) = points
    return (x0 + x1) / 2, (y0 + y1) / 2


def _name(box: Box) -> str:
    first = _thing_name(box.first, 40)
    if box.things == 1:
        return first
    return _("{first} to {last}").format(first=first, last=_thing_name(box.last, 40))


def _thing_name(thing: Thing, columns: int) -> str:
    if thing.kind == "loss":
        return _("loss")
    call = f" #{thing.call}" if thing.call else ""
    if not thing.op:
        return theme.name(thing.name, columns) + call
    op = theme.safe(words.shorten(thing.kind.partition("Backward")[0], columns))
    return f"{op} ({theme.name(thing.name, columns)}{call})" if thing.name else op


def _tick(box: Box) -> str:
    if box.first.kind == "loss":
        return _("loss")
    text = box.first.kind.partition("Backward")[0] if box.first.op else box.first.name
    calls = f" ×{box.calls}" if box.calls > 1 else f" #{box.first.call}" if box.first.call else ""
    more = " …" if box.things > 1 else ""
    return theme.tick(text) + calls + more
