"""Main paths as they are told: from loss to source, through whatever was opened on the way."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from unvanish.measure.graph import Op
from unvanish.measure.names import Names
from unvanish.measure.path import Numbers, Step, blames, cut_points, known
from unvanish.records import Factor, MainPath, PathEdge

_PATHS_KEPT = 16


@dataclass(frozen=True, slots=True)
class Opened:
    """A pass inside one row of the outer pass: a fused layer opened, a checkpoint's backward."""

    numbers: Numbers


@dataclass(frozen=True, slots=True)
class Link:
    """One edge of a path that may lead through several passes."""

    numbers: Numbers
    vertex: int
    gain: float
    merge: float

    @property
    def op(self) -> Op:
        """The op whose output the edge starts at."""
        return self.numbers.measured.graph.ops[self.vertex]

    @property
    def factor(self) -> Factor:
        """The factor of the edge."""
        return self.numbers.factor(self.vertex)

    @property
    def level(self) -> float:
        """The level there, log10."""
        return known(self.numbers.vertex_level(self.vertex))


def links(numbers: Numbers, vertex: int, opened: Mapping[int, Opened]) -> list[Link]:
    """Return the main path down to `vertex`, loss first, through what was opened on the way."""
    found: list[Link] = []
    inside: list[Step] = []
    for step in numbers.path(vertex):
        row = numbers.measured.row[step.vertex]
        if row in opened:
            inside.append(step)
            if numbers.measured.row[step.child] != row:
                found += _through(numbers, inside, opened[row])
                inside = []
        else:
            found.append(Link(numbers, step.vertex, step.gain, step.merge))
    return found + [Link(numbers, step.vertex, step.gain, step.merge) for step in inside]


def _through(numbers: Numbers, inside: Sequence[Step], opened: Opened) -> list[Link]:
    """Return the path through an opened row; the steps over its closed form if there is none.

    What leaves the row is the gradient of one of the opened pass's leaves: the one of the same
    level, to rounding.
    """
    closed = [Link(numbers, step.vertex, step.gain, step.merge) for step in inside]
    inner = opened.numbers
    arrived = closed[0].level + sum(link.gain + link.merge for link in closed) - closed[-1].merge
    leaves = [
        (abs(known(inner.vertex_level(vertex)) - arrived), vertex)
        for vertex in inner.sources()
        if inner.measured.graph.ops[vertex].variable is not None
    ]
    steps = inner.path(min(leaves)[1]) if leaves else []
    if not steps or not min(leaves)[0] < 1e-3:
        return closed
    path = [Link(inner, step.vertex, step.gain, step.merge) for step in steps]
    # Levels telescope exactly, so what rounding and a joint norm leave over goes to the merge.
    over = sum(link.gain + link.merge for link in closed) - sum(
        link.gain + link.merge for link in path
    )
    path[-1] = replace(path[-1], merge=path[-1].merge + over)
    return path


def main_path(path: Sequence[Link], end: Link, names: Names, cuts: frozenset[int]) -> MainPath:
    """Return the path to the source `end` as a record."""
    factors = [link.factor for link in path]
    blame = blames(factors, [link.gain for link in path], [link.op for link in path])
    edges = tuple(
        PathEdge(
            op=link.op.name,
            module=names.module(link.op.call),
            call=names.number(link.op.call),
            factor=factor,
            gain_log10=link.gain,
            merge_log10=link.merge,
            level_log10=link.level,
            blame_log10=blamed,
            weight=names.parameters.get(link.op.weight) if link.op.weight is not None else None,
            cut_point=link.vertex in cuts and link.numbers is path[0].numbers,
        )
        for link, factor, blamed in zip(path, factors, blame, strict=True)
    )
    return MainPath(
        source_op=end.op.name,
        source_module=names.module(end.op.call),
        source_call=names.number(end.op.call),
        source_level_log10=end.level,
        root_level_log10=edges[0].level_log10 if edges else end.level,
        edges=edges,
    )


def farthest(numbers: Numbers, opened: Mapping[int, Opened]) -> list[tuple[list[Link], Link]]:
    """Return the main paths of the sources farthest from the loss, the farthest first."""
    found = [
        (links(numbers, vertex, opened), Link(numbers, vertex, 0.0, 0.0))
        for vertex in numbers.sources()[:_PATHS_KEPT]
    ]
    for row, item in opened.items():
        inner = item.numbers
        inside = [
            vertex
            for vertex in inner.sources()[:_PATHS_KEPT]
            if inner.measured.graph.ops[vertex].variable is None
        ]
        exits = [
            numbers.measured.vertex[op.index]
            for op in numbers.measured.graph.ops
            if numbers.measured.row[op.index] == row and numbers.leaves_row(op.index)
        ]
        if not inside or not exits:
            continue
        head = links(numbers, exits[0], opened)
        for vertex in inside:
            steps = inner.path(vertex)
            tail = [Link(inner, step.vertex, step.gain, step.merge) for step in steps]
            found.append((_joined(head, tail), Link(inner, vertex, 0.0, 0.0)))
    return sorted(found, key=lambda item: -len(item[0]))[:_PATHS_KEPT]


def _joined(head: list[Link], tail: list[Link]) -> list[Link]:
    """Join a path to a row's output with one inside it; the joint norm's share is a merge term."""
    if not head or not tail:
        return [*head, *tail]
    end = head[0].level + sum(link.gain + link.merge for link in head)
    over = tail[0].level - end
    if not math.isfinite(over):
        over = 0.0
    return [*head[:-1], replace(head[-1], merge=head[-1].merge + over), *tail]


def main_paths(
    numbers: Numbers, names: Names, opened: Mapping[int, Opened]
) -> tuple[MainPath | None, tuple[MainPath, ...]]:
    """Return the main path of the farthest source, and those of some further ones."""
    cuts = frozenset(cut_points(numbers.measured.graph))
    paths = [main_path(path, end, names, cuts) for path, end in farthest(numbers, opened)]
    return (paths[0], tuple(paths[1:])) if paths else (None, ())
