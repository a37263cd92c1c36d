"""From numbers to paths: main paths with merge terms, cut points and segments.

Works on indices and floats only, after the pass has been resolved.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from unvanish.measure.factors import homogeneous_reference_log10
from unvanish.measure.graph import Graph, Op
from unvanish.measure.passes import BackwardPass, Contribution
from unvanish.measure.reduce import join_log10
from unvanish.records import Factor

# Factors that are shown, never blamed by themselves.
_BLAMELESS: frozenset[Factor] = frozenset({"loss", "pool", "scale", "merge"})


@dataclass(frozen=True, slots=True)
class Step:
    """One edge of a path: from `vertex` (nearer the loss) down to `child`."""

    vertex: int
    child: int
    gain: float
    merge: float


class Numbers:
    """A resolved pass: levels, gains and shares as log10 floats."""

    def __init__(self, measured: BackwardPass, values: list[float]) -> None:
        self.measured = measured
        self.values = values
        self.outputs: dict[int, list[int]] = {}  # by vertex: its ops that are used outside it
        graph, vertex = self.measured.graph, self.measured.vertex
        for op in graph.ops:
            inside = vertex[op.index]
            consumers = graph.consumers[op.index]
            if not consumers or any(vertex[edge.parent] != inside for edge in consumers):
                self.outputs.setdefault(inside, []).append(op.index)
        self.recurrent = recurrent_weights(graph)
        self._position = {index: place for place, index in enumerate(graph.topological)}
        self._steps: dict[int, Step | None] = {}
        self._depths: dict[int, int] = {}
        self.slots: dict[int, list[tuple[int, int]]] = {}
        for key in self.measured.slot_norm:
            self.slots.setdefault(key[0], []).append(key)

    def op_level(self, index: int) -> float | None:
        """Return the joint level of an op's outputs; None where no gradient came back."""
        keys = self.slots.get(index)
        if not keys:
            return None
        return join_log10([self.values[self.measured.slot_norm[key]] for key in keys])

    def vertex_level(self, vertex: int) -> float | None:
        """Return the joint level of what a vertex hands on."""
        levels = [self.op_level(index) for index in self.outputs.get(vertex, [vertex])]
        known = [level for level in levels if level is not None]
        return join_log10(known) if known else None

    def factor(self, vertex: int) -> Factor:
        """Return the factor of a vertex; weights that act on their own output are `recurrence`."""
        whole = self.measured.vertex_factor.get(vertex)
        if whole is not None:
            return whole
        op = self.measured.graph.ops[vertex]
        return "recurrence" if op.weight in self.recurrent else op.factor

    def step_up(self, vertex: int) -> Step | None:
        """Return the edge that leads into `vertex` from its consumer of greatest signed share.

        The share of a consumer is <c, G> / ||G||^2, where c is what came back through it and G is
        the sum; shares add to 1. None at the loss, or where no gradient came back.
        """
        if vertex not in self._steps:
            self._steps[vertex] = self._best_step(vertex)
        return self._steps[vertex]

    def _best_step(self, vertex: int) -> Step | None:
        level = self.vertex_level(vertex)
        best: tuple[tuple[float, float, int], Step] | None = None
        for key, consumer, contribution in self.contributions(vertex):
            assert level is not None
            norm = self.values[contribution.norm]
            share = 1.0 if contribution.share is None else self.values[contribution.share]
            slot_level = self.values[self.measured.slot_norm[key]]
            part = 10.0 ** (2.0 * (slot_level - level)) if math.isfinite(level) else 1.0
            # Where no share is usable (no signal, not finite) the nearest consumer is taken.
            rank = (_usable(share * part), _usable(norm), self._position[consumer])
            if best is None or rank > best[0]:
                best = (rank, self._step(consumer, vertex, norm, level))
        return best[1] if best else None

    def contributions(self, vertex: int) -> Iterator[tuple[tuple[int, int], int, Contribution]]:
        """Yield (output, consumer, what came back through it) for what a vertex hands on."""
        for index in self.outputs.get(vertex, [vertex]):
            for key in self.slots.get(index, ()):
                for consumer, contribution in self.measured.by_vertex.get(key, {}).items():
                    if consumer != vertex:
                        yield key, consumer, contribution

    def _step(self, consumer: int, vertex: int, norm: float, level: float) -> Step:
        above = self.vertex_level(consumer)
        merge = level - norm if math.isfinite(level) and math.isfinite(norm) else 0.0
        gain = norm - above if above is not None and math.isfinite(above) else math.nan
        return Step(consumer, vertex, gain, merge)

    def leaves_row(self, index: int) -> bool:
        """Whether an op's output is used outside its row (and carries a signal)."""
        row = self.measured.row
        consumers = self.measured.graph.consumers[index]
        outside = any(row[edge.parent] != row[index] for edge in consumers)
        return outside and self.op_level(index) is not None

    def path(self, source: int) -> list[Step]:
        """Return the main path of a source vertex, from the loss down to it."""
        steps: list[Step] = []
        step = self.step_up(source)
        while step is not None:
            steps.append(step)
            step = self.step_up(step.vertex)
        return steps[::-1]

    def sources(self) -> list[int]:
        """Return the source vertices that a signal reached, farthest from the loss first."""
        graph = self.measured.graph
        reached = [op for op in graph.ops if op.source and self.slots.get(op.index) is not None]
        vertices = dict.fromkeys(self.measured.vertex[op.index] for op in reached)
        depth = {vertex: self._depth(vertex) for vertex in vertices}
        return sorted(vertices, key=lambda vertex: (-depth[vertex], graph.ops[vertex].order))

    def _depth(self, vertex: int) -> int:
        """Return the number of steps from the loss, remembering those of all ops on the way."""
        trail: list[int] = []
        while vertex not in self._depths:
            step = self.step_up(vertex)
            trail.append(vertex)
            if step is None:
                self._depths[vertex] = 0
                trail.pop()
                break
            vertex = step.vertex
        depth = self._depths[vertex]
        for passed in reversed(trail):
            depth += 1
            self._depths[passed] = depth
        return depth


def _usable(value: float) -> float:
    return value if math.isfinite(value) else -math.inf


def recurrent_weights(graph: Graph) -> frozenset[int]:
    """Return the ids of weights that act again on what they made: one user is below another."""
    users: dict[int, list[Op]] = {}
    for op in graph.ops:
        if op.data and op.weight is not None and op.factor == "weight":
            users.setdefault(op.weight, []).append(op)
    found: set[int] = set()
    for weight, ops in users.items():
        if len(ops) > 1:
            last = max(ops, key=lambda op: op.order)
            others = {op.index for op in ops if op is not last}
            if _reaches(graph, last.index, others):
                found.add(weight)
    return frozenset(found)


def _reaches(graph: Graph, start: int, targets: set[int]) -> bool:
    """Whether a path from `start` toward the sources passes one of `targets`."""
    stack, seen = [start], {start}
    while stack:
        for edge in graph.data_edges(stack.pop()):
            if edge.child in targets:
                return True
            if edge.child not in seen:
                seen.add(edge.child)
                stack.append(edge.child)
    return False


def blames(factors: Sequence[Factor], gains: Sequence[float], ops: Sequence[Op]) -> list[float]:
    """Return each edge's blame, loss first: its log-gain minus the reference of its factor.

    The reference of a positively homogeneous activation is its root mean square slope
    sqrt((1 + a^2) / 2); the weight that feeds it, the next one toward the source, has the inverse.
    Without it 34 badly scaled ReLU layers would be blamed on ReLU (a factor 0.71 by nature) and
    not on the weights.
    """
    result: list[float] = []
    owed = 0.0
    for factor, gain, op in zip(factors, gains, ops, strict=True):
        reference = 0.0
        if factor == "slope" and op.negative_slope is not None:
            reference = homogeneous_reference_log10(op.negative_slope)
            owed -= reference
        elif factor in ("weight", "recurrence"):
            reference, owed = owed, 0.0
        result.append(0.0 if factor in _BLAMELESS else gain - reference)
    return result


def cut_points(graph: Graph) -> list[int]:
    """Return the ops that every path from the loss to a source passes, loss first.

    In a topological order an op is one exactly when no edge jumps over it: all ops are reachable
    from the loss, so any two that some path orders appear in that order.
    """
    found: list[int] = []
    open_edges = len(graph.roots)
    roots = set(graph.roots)
    for index in graph.topological:
        op = graph.ops[index]
        if not op.data:
            continue
        open_edges -= len(graph.consumers[index]) + (index in roots)
        if open_edges == 0:
            found.append(index)
        open_edges += len(graph.data_edges(index)) + op.source
    return found


def known(level: float | None) -> float:
    """Return a level, nan where none was measured."""
    return math.nan if level is None else level
