"""The traced graph, collapsed: a box for each module call of some depth, or for several of them.

A box is a run of neighbouring ops in forward order, so the collapsed graph has no cycle. Only where
the same weights act again and again (a recurrent network) do all calls of a module share one box;
the links that lead back to it are marked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from unvanish.records import Factor, OpGraph


@dataclass(frozen=True, slots=True)
class Thing:
    """What a node belongs to at some depth: a module call, an op by itself, or the loss."""

    key: tuple[str, int]  # the same for all nodes of one thing
    name: str  # dotted path of the module; of an op the path of its owner
    kind: str  # class of the module; name of the op
    call: int
    op: bool = False


@dataclass(frozen=True, slots=True)
class Box:
    """Neighbouring things, mostly one, drawn as one."""

    first: Thing
    last: Thing
    things: int
    calls: int  # of the same module, taken together
    nodes: tuple[int, ...]  # of the graph, in forward order
    level_log10: float | None  # of what it hands on (joint); None: no signal came back
    gain_log10: float | None  # along the main path; off it the gain of a single way in
    factors_log10: Mapping[Factor, float]  # log-gains on the main path; without, nan by factor
    on_main_path: bool


@dataclass(frozen=True, slots=True)
class Link:
    """All edges from one box to another. `back`: against forward order (recurrence)."""

    tail: int
    head: int
    share: float  # signed share of what comes back to the tail; nan: unknown
    back: bool = False


@dataclass(frozen=True, slots=True)
class Boxes:
    """A collapsed graph, in forward order. `depth` 0 is every op by itself."""

    depth: int
    boxes: tuple[Box, ...]
    links: tuple[Link, ...]
    folded: bool  # neighbours share a box: there were more than asked for
    things: int  # boxes there would be without


def collapse(graph: OpGraph, depth: int, most: int, *, recurrent: bool = False) -> Boxes:
    """Return a box for each module call `depth` below the root, in at most `most` boxes.

    Ops that lie above that depth have a box each. `recurrent` puts all calls of a module into one.
    """
    things = Things(graph).at(depth, recurrent=recurrent)
    groups: dict[tuple[str, int], list[int]] = {}
    for node, thing in enumerate(things):
        groups.setdefault(thing.key, []).append(node)
    parts = list(groups.values())
    folded = len(parts) > most
    if folded:
        parts = _fold(graph, parts, most)
    reader = _Reader(graph, {node: i for i, nodes in enumerate(parts) for node in nodes})
    boxes = tuple(reader.box([(node, things[node]) for node in nodes]) for nodes in parts)
    return Boxes(depth, boxes, tuple(reader.links()), folded, len(groups))


class Things:
    """What the nodes of a graph belong to, at any depth."""

    def __init__(self, graph: OpGraph) -> None:
        """Find, for every call, the calls from below the root down to it."""
        self._graph = graph
        self._chains: list[list[int]] = []
        roots = {call.module for call in graph.calls if call.parent is None}
        for position, call in enumerate(graph.calls):
            if call.parent is None:  # of several models each is one thing at depth 1
                self._chains.append([position] if len(roots) > 1 else [])
                continue
            wrapped = graph.calls[call.parent].module == call.module  # DataParallel and the like
            self._chains.append([*self._chains[call.parent], *([] if wrapped else [position])])
        self._holding = {call.parent for call in graph.calls}
        self._views = _views(graph)

    @property
    def depth(self) -> int:
        """How deep modules lie within each other, the root not counted."""
        return max(map(len, self._chains), default=0)

    def at(self, depth: int, *, recurrent: bool) -> list[Thing]:
        """Return what each node belongs to; see `collapse`."""
        found: list[Thing] = []
        for node, owner in enumerate(self._graph.owners):
            chain = self._chains[owner] if owner is not None else []
            if depth and self._graph.factors[node] == "loss":
                found.append(Thing(("loss", -1), "loss", "loss", 0, op=True))
            elif depth and len(chain) >= depth:
                found.append(self._module(chain[depth - 1], recurrent))
            elif depth and chain and owner not in self._holding:
                found.append(self._module(chain[-1], recurrent))
            elif depth and node in self._views:
                found.append(found[self._views[node]])
            else:
                found.append(self._op(node, recurrent and depth > 0))
        return found

    def _module(self, position: int, recurrent: bool) -> Thing:
        call = self._graph.calls[position]
        return Thing(
            (call.module, -1 if recurrent else position), call.module, call.type, call.call
        )

    def _op(self, node: int, recurrent: bool) -> Thing:
        owner, op = self._graph.owners[node], self._graph.names[self._graph.ops[node]]
        call = self._graph.calls[owner] if owner is not None else None
        name = call.module if call is not None else ""
        key = (f"{name}\n{op}", -1) if recurrent else ("", node)
        return Thing(key, name, op, call.call if call is not None else 0, op=True)


def joint(levels: Sequence[float | None]) -> float | None:
    """Return log10 of the joint norm of parts whose norms have these log10."""
    known = [level for level in levels if level is not None]
    top = math.nan if any(map(math.isnan, known)) else max(known, default=None)
    if top is None or not math.isfinite(top):
        return top
    return top + 0.5 * math.log10(math.fsum(10.0 ** (2.0 * (level - top)) for level in known))


def _views(graph: OpGraph) -> dict[int, int]:
    """Return the nodes that only hand on what they get (a reshape), and where from."""
    entering: dict[int, list[tuple[int, float]]] = {}
    for tail, head, gain in zip(graph.tails, graph.heads, graph.gains_log10, strict=True):
        entering.setdefault(head, []).append((tail, gain))
    return {
        head: edges[0][0]
        for head, edges in entering.items()
        if graph.factors[head] == "scale" and len(edges) == 1 and abs(edges[0][1]) < 1e-9
    }


def _fold(graph: OpGraph, parts: Sequence[list[int]], most: int) -> list[list[int]]:
    """Join neighbours to at most `most` parts, split where one tensor passes, if there is such."""
    narrow = _narrow(graph, {node: i for i, nodes in enumerate(parts) for node in nodes})
    size = len(parts) / most
    ends = {0, len(parts)}
    for number in range(1, most):
        ideal = round(number * size)
        reach = range(1, max(1, round(size / 2)))
        near = [ideal, *(place for step in reach for place in (ideal - step, ideal + step))]
        ends.add(next((place for place in near if place in narrow), ideal))
    return [
        sorted(node for nodes in parts[start:end] for node in nodes)
        for start, end in pairwise(sorted(ends))
    ]


def _narrow(graph: OpGraph, owner: Mapping[int, int]) -> set[int]:
    """Return the places between neighbouring parts that the output of a single one crosses."""
    last: dict[int, int] = {}
    for tail, head in zip(graph.tails, graph.heads, strict=True):
        last[owner[tail]] = max(last.get(owner[tail], 0), owner[head])
    change: dict[int, int] = {}
    for tail, head in last.items():
        change[tail + 1] = change.get(tail + 1, 0) + 1
        change[head + 1] = change.get(head + 1, 0) - 1
    found, crossing = set(), 0
    for place in range(max(owner.values(), default=0) + 1):
        crossing += change.get(place, 0)
        if crossing == 1:
            found.add(place)
    return found


@dataclass(slots=True)
class _Reader:
    """Reads boxes and links off the graph. `owner` is the box of each node."""

    graph: OpGraph
    owner: Mapping[int, int]
    _leaving: set[int] = field(default_factory=set)  # nodes whose output is used in another box
    _ways_in: dict[int, list[float]] = field(default_factory=dict)  # by box: gains of edges into it
    _on_path: frozenset[int] = frozenset()
    _main: dict[int, tuple[Factor, float, float]] = field(default_factory=dict)
    # by node on the main path: its factor, its gain toward the next one, and the merge there if
    # that one is in the same box

    def __post_init__(self) -> None:
        graph, owner = self.graph, self.owner
        gains: dict[tuple[int, int], float] = {}
        used: set[int] = set()
        for tail, head, gain in zip(graph.tails, graph.heads, graph.gains_log10, strict=True):
            gains[tail, head] = gain
            used.add(tail)
            if owner[tail] != owner[head]:
                self._leaving.add(tail)
                self._ways_in.setdefault(owner[head], []).append(gain)
        self._leaving |= set(owner) - used
        for head, tail in pairwise(graph.main):
            above, below = graph.levels_log10[head], graph.levels_log10[tail]
            gain = gains.get((tail, head), math.nan)
            merge = 0.0
            if owner[head] == owner[tail] and above is not None and below is not None:
                merge = below - above - gain
            self._main[head] = (graph.factors[head], gain, merge)
        self._on_path = frozenset(graph.main)

    def box(self, members: Sequence[tuple[int, Thing]]) -> Box:
        """Return the box of these nodes."""
        graph = self.graph
        nodes = [node for node, _thing in members]
        factors, gain = self._gains(nodes)
        things = len({thing.key for _node, thing in members})
        calls = len({thing.call for _node, thing in members})
        return Box(
            first=members[0][1],
            last=members[-1][1],
            things=things,
            calls=calls if things == 1 else 1,
            nodes=tuple(nodes),
            level_log10=joint(
                [graph.levels_log10[node] for node in nodes if node in self._leaving]
            ),
            gain_log10=gain,
            factors_log10=factors,
            on_main_path=not self._on_path.isdisjoint(nodes),
        )

    def _gains(self, nodes: Sequence[int]) -> tuple[dict[Factor, float], float | None]:
        """Return the log-gains on the main path by factor, merges inside too, and their sum."""
        found: dict[Factor, float] = {}
        for node in nodes:
            if node in self._main:
                factor, gain, merge = self._main[node]
                found[factor] = found.get(factor, 0.0) + gain
                if abs(merge) > 1e-9:
                    found["merge"] = found.get("merge", 0.0) + merge
        if found:
            return found, sum(found.values())
        ways = self._ways_in.get(self.owner[nodes[0]], [])
        own = dict.fromkeys((self.graph.factors[node] for node in nodes), math.nan)
        return own, ways[0] if len(ways) == 1 and not math.isnan(ways[0]) else None

    def links(self) -> Iterator[Link]:
        """Yield the links between boxes. Shares add up: they are of one sum."""
        graph, owner = self.graph, self.owner
        whole: dict[int, list[float | None]] = {}
        for node in sorted(self._leaving):
            whole.setdefault(owner[node], []).append(graph.levels_log10[node])
        level = {box: joint(levels) for box, levels in whole.items()}
        shares: dict[tuple[int, int], float] = {}
        for tail, head, share in zip(graph.tails, graph.heads, graph.shares, strict=True):
            pair = (owner[tail], owner[head])
            own, all_of_it = graph.levels_log10[tail], level.get(pair[0])
            part = math.nan
            if own is not None and all_of_it is not None and math.isfinite(all_of_it):
                part = share * 10.0 ** (2.0 * (own - all_of_it))
            if pair[0] != pair[1]:
                shares[pair] = shares.get(pair, 0.0) + part
        for (tail, head), share in shares.items():
            yield Link(tail, head, share, back=head < tail)
