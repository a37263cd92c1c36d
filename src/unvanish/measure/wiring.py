"""The traced graph as a record: which op feeds which, with levels, gains and shares."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from unvanish.measure.calls import ModuleCall
from unvanish.measure.names import Names
from unvanish.measure.path import Numbers
from unvanish.measure.reduce import join_log10
from unvanish.measure.routes import Opened, farthest
from unvanish.records import GraphCall, OpGraph


@dataclass(slots=True)
class _Calls:
    """The calls that own nodes and the calls around them, each once."""

    names: Names
    records: list[GraphCall] = field(default_factory=list)
    _positions: dict[int, int] = field(default_factory=dict)

    def position(self, call: ModuleCall | None) -> int | None:
        if call is None:
            return None
        if id(call) not in self._positions:
            parent = self.position(call.parent)
            module, number = self.names.module(call) or "", self.names.number(call)
            self.records.append(GraphCall(module, type(call.module).__name__, number, parent))
            self._positions[id(call)] = len(self.records) - 1
        return self._positions[id(call)]


@dataclass(slots=True)
class _Edge:
    """All that comes back to one vertex (the tail) through another (the head)."""

    norms: list[float] = field(default_factory=list)  # log10, one for each output of the tail
    share: float = 0.0


def op_graph(numbers: Numbers, names: Names, opened: Mapping[int, Opened]) -> OpGraph:
    """Return the graph of one resolved pass; what a replay opened stays one node here."""
    graph, vertex = numbers.measured.graph, numbers.measured.vertex
    heads_of = {vertex[op.index] for op in graph.ops if op.data}
    edges = _edges(numbers, heads_of)
    order = sorted(heads_of, key=lambda index: graph.ops[index].order)
    place = {index: position for position, index in enumerate(order)}
    if any(place[tail] >= place[head] for tail, head in edges):
        # Numbers are per thread: ops made inside another backward do not follow forward order.
        order = [index for index in reversed(graph.topological) if index in heads_of]
        place = {index: position for position, index in enumerate(order)}
    calls, kinds = _Calls(names), dict.fromkeys(graph.ops[i].name for i in order)
    known = {name: position for position, name in enumerate(kinds)}
    listed = sorted(edges, key=lambda edge: (place[edge[1]], place[edge[0]]))
    return OpGraph(
        owners=tuple(calls.position(graph.ops[index].call) for index in order),
        calls=tuple(calls.records),
        names=tuple(kinds),
        ops=tuple(known[graph.ops[index].name] for index in order),
        factors=tuple(numbers.factor(index) for index in order),
        levels_log10=tuple(numbers.vertex_level(index) for index in order),
        tails=tuple(place[tail] for tail, _head in listed),
        heads=tuple(place[head] for _tail, head in listed),
        gains_log10=tuple(_gain(numbers, head, edges[tail, head]) for tail, head in listed),
        shares=tuple(edges[edge].share if edges[edge].norms else math.nan for edge in listed),
        main=_main(numbers, opened, place),
    )


def _edges(numbers: Numbers, kept: set[int]) -> dict[tuple[int, int], _Edge]:
    """Return by (tail, head) what came back; also where no signal did."""
    graph, vertex = numbers.measured.graph, numbers.measured.vertex
    found: dict[tuple[int, int], _Edge] = {}
    for op in graph.ops:
        for edge in op.edges:
            tail, head = vertex[edge.child], vertex[op.index]
            if tail != head and tail in kept and head in kept:
                found.setdefault((tail, head), _Edge())
    for tail in kept:
        whole = numbers.vertex_level(tail)
        for key, head, contribution in numbers.contributions(tail):
            came = found.setdefault((tail, head), _Edge())
            came.norms.append(numbers.values[contribution.norm])
            share = 1.0 if contribution.share is None else numbers.values[contribution.share]
            level = numbers.values[numbers.measured.slot_norm[key]]
            # Of several outputs each counts by its part of the joint square.
            if whole is None or not math.isfinite(whole):
                came.share = math.nan
            else:
                came.share += share * 10.0 ** (2.0 * (level - whole))
    return found


def _gain(numbers: Numbers, head: int, edge: _Edge) -> float:
    level = numbers.vertex_level(head)
    if not edge.norms or level is None or not math.isfinite(level):
        return math.nan
    return join_log10(edge.norms) - level


def _main(
    numbers: Numbers, opened: Mapping[int, Opened], place: Mapping[int, int]
) -> tuple[int, ...]:
    """Return the nodes of the main path as far as they lie in this pass."""
    paths = farthest(numbers, opened)
    if not paths:
        return ()
    links, end = paths[0]
    return tuple(place[link.vertex] for link in [*links, end] if link.numbers is numbers)
