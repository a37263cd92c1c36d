"""Where the boxes of a collapsed graph stand, and how the links between them run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from unvanish.figures.boxes import Boxes, Things, collapse
from unvanish.records import OpGraph

READABLE = 48  # boxes of the view that is shown first
MOST = 600  # boxes of any other


@dataclass(frozen=True, slots=True)
class Place:
    """Where a box is drawn: its rank from the input on, and its lane beside the main path."""

    x: int
    y: int


def views(graph: OpGraph, *, recurrent: bool) -> tuple[list[Boxes], int]:
    """Return the collapsed graphs worth showing, and which one to show first.

    That is the deepest modules in at most READABLE boxes; if there are more already at depth 1,
    these, folded. Every op by itself comes first only where there are no modules.
    """
    deepest = Things(graph).depth
    found = [collapse(graph, depth, MOST, recurrent=recurrent) for depth in range(1, deepest + 1)]
    found.append(collapse(graph, 0, MOST))
    kept = [view for i, view in enumerate(found) if i == 0 or view.boxes != found[i - 1].boxes]
    fitting = [i for i, view in enumerate(kept) if len(view.boxes) <= READABLE]
    if fitting[1:] and not kept[fitting[-1]].depth:
        fitting.pop()
    if fitting:
        return kept, fitting[-1]
    first = collapse(graph, kept[0].depth, READABLE, recurrent=recurrent)
    return [first, *kept], 0


def places(shown: Boxes) -> list[Place]:
    """Return a place for each box: by generation from the input, the main path on lane 0.

    A box beside the main path is put on the nearest free lane to what feeds it.
    """
    import networkx  # here: a report without this picture need not wait for it

    forward = networkx.DiGraph()
    forward.add_nodes_from(range(len(shown.boxes)))
    forward.add_edges_from((link.tail, link.head) for link in shown.links if not link.back)
    rank = {
        box: number
        for number, generation in enumerate(networkx.topological_generations(forward))
        for box in generation
    }
    taken: set[tuple[int, int]] = set()
    lane: dict[int, int] = {}
    main = [i for i, box in enumerate(shown.boxes) if box.on_main_path]
    # Recurrence can put two boxes of the main path on one rank.
    for box in [*main, *(i for i in range(len(shown.boxes)) if i not in set(main))]:
        feeding = [lane[tail] for tail in forward.predecessors(box) if tail in lane]
        near = 0.0 if shown.boxes[box].on_main_path or not feeding else sum(feeding) / len(feeding)
        free = (y for y in _lanes() if (rank[box], y) not in taken)
        options = [next(free) for _number in range(3)]
        if not shown.boxes[box].on_main_path and main:
            options = [y for y in options if y] or options
        lane[box] = min(options, key=lambda y: (abs(y - near), abs(y)))
        taken.add((rank[box], lane[box]))
    return [Place(rank[box], lane[box]) for box in range(len(shown.boxes))]


def _lanes() -> Iterator[int]:
    """Yield 0, 1, -1, 2, -2, …"""
    yield 0
    number = 1
    while True:
        yield number
        yield -number
        number += 1


def curve(a: Place, b: Place, taken: Sequence[Sequence[int]]) -> list[tuple[float, float]]:
    """Return points of a line from `a` to `b` that passes no box; `taken` has lanes by rank.

    It is straight where it can be, else it bows over or under all that lies between, the farther
    the longer it is, so that the skips of a U-Net nest.
    """
    between = [(x, y) for x in range(a.x + 1, b.x) for y in taken[x]]
    if a.x < b.x and all(
        abs(a.y + (b.y - a.y) * (x - a.x) / (b.x - a.x) - y) > 0.3 for x, y in between
    ):
        return [(a.x, a.y), (b.x, b.y)]
    length = abs(b.x - a.x)
    room = 0.35 + 0.13 * math.log2(1 + length)
    lanes = [a.y, b.y, *(y for x in range(min(a.x, b.x), max(a.x, b.x) + 1) for y in taken[x])]
    over, under = max(lanes) + room, min(lanes) - room
    middle = (a.y + b.y) / 2
    if a.x < b.x:
        top = over if over - middle <= middle - under else under
    else:  # a step back: on the side of what it leads to, away from the main path
        top = over if b.y > 0 else under
    # A cubic Bézier curve whose control points are level rises to three quarters of their height.
    control = middle + (top - middle) / 0.75
    reach = max(0.12 * length, 0.5 if length else 0.9)
    xs, ys = (a.x, a.x + reach, b.x - reach, b.x), (a.y, control, control, b.y)
    points = []
    for step in range(15):
        t = step / 14
        weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3)
        points.append(
            (
                sum(w * x for w, x in zip(weights, xs, strict=True)),
                sum(w * y for w, y in zip(weights, ys, strict=True)),
            )
        )
    return points
