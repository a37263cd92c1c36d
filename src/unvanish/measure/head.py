"""What the code behind the network's output does with it: stretch it, reduce it, scale it.

Read off the graph between the network's output and the loss, before the backward frees what its
nodes saved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from unvanish.measure.calls import ModuleCall
from unvanish.measure.graph import Edge, Graph, Node, Op
from unvanish.records import LossHead

_REDUCTIONS: dict[int, Literal["none", "mean", "sum"]] = {0: "none", 1: "mean", 2: "sum"}
_STRETCHING = frozenset({"Expand", "Sub", "Rsub", "Add", "Mul", "Div", "MseLoss", "SmoothL1Loss"})


@dataclass(frozen=True, slots=True)
class HeadFacts:
    """What is to become a `LossHead` once modules have names."""

    entry: Op
    output: tuple[int, ...]
    stretched: tuple[int, ...] | None
    reduction: Literal["none", "mean", "sum"] | None
    entries: int
    constant_log10: float

    def record(self, name_of: Callable[[ModuleCall | None], str | None]) -> LossHead:
        """Return the record; `name_of` gives the path of a call's module."""
        return LossHead(
            op=self.entry.name,
            module=name_of(self.entry.call),
            output_shape=self.output,
            broadcast_shape=self.stretched,
            reduction=self.reduction,
            entries=self.entries,
            constant_log10=self.constant_log10,
        )


def read_head(graph: Graph, nodes: Sequence[Node]) -> HeadFacts | None:
    """Return what lies between the network's output and the loss; None where nothing does."""
    inside = [op for op in graph.ops if op.data and op.after_output and op.variable is None]
    entering = [
        (op, edge)
        for op in inside
        for edge in graph.data_edges(op.index)
        if not graph.ops[edge.child].after_output
    ]
    if not entering:
        return None
    op, edge = min(entering, key=lambda item: item[0].sequence)
    steps = ((op, edge) for op in inside for edge in graph.data_edges(op.index))
    stretched = next((shape for step in steps if (shape := _stretch(graph, *step))), None)
    reduction, entries = _reduction(graph, nodes, inside)
    return HeadFacts(
        entry=op,
        output=_shape(graph, edge),
        stretched=stretched,
        reduction=reduction,
        entries=entries,
        constant_log10=_constants(graph, nodes),
    )


def _shape(graph: Graph, edge: Edge) -> tuple[int, ...]:
    shapes = graph.ops[edge.child].shapes
    return shapes[edge.slot] if edge.slot < len(shapes) else ()


def _stretch(graph: Graph, op: Op, edge: Edge) -> tuple[int, ...] | None:
    """Return the shape that an op stretched its input to, if by a constant of transposed shape.

    A column of n numbers against a row of n constants becomes an n x n table: the new extent is
    one that the input has already, in another place.
    """
    given, made = _shape(graph, edge), op.shapes[0] if op.shapes else ()
    if op.kind not in _STRETCHING or math.prod(given) < 2 or math.prod(made) <= math.prod(given):
        return None
    if op.kind == "Expand":
        users = [graph.ops[consumer.parent] for consumer in graph.consumers[op.index]]
        alone = all(_against_constant(graph, user) for user in users) and bool(users)
    else:
        alone = _against_constant(graph, op)
    grown = math.prod(made) // math.prod(given)
    padded = (1,) * (len(made) - len(given)) + given
    new = [after for before, after in zip(padded, made, strict=True) if before != after]
    return made if alone and new == [grown] and grown in given else None


def _against_constant(graph: Graph, op: Op) -> bool:
    return op.has_constant_input and len(graph.data_edges(op.index)) == 1 == len(op.edges)


def _reduction(
    graph: Graph, nodes: Sequence[Node], inside: Sequence[Op]
) -> tuple[Literal["none", "mean", "sum"] | None, int]:
    """Return how the loss is reduced, and over how many numbers."""
    for op in inside:
        code = getattr(nodes[op.index], "_saved_reduction", None)
        made = math.prod(op.shapes[0]) if op.shapes else 1
        if isinstance(code, int) and made == 1:
            edges = graph.data_edges(op.index)
            shape = _shape(graph, edges[0]) if edges else ()
            # Of a class loss one number a sample is reduced, not one a class.
            count = math.prod(shape[:1]) if op.kind.startswith("NllLoss") else math.prod(shape)
            return _REDUCTIONS.get(code), count
    for op in inside:
        if op.kind in ("Mean", "Sum") and op.shapes and math.prod(op.shapes[0]) == 1:
            edges = graph.data_edges(op.index)
            if edges and math.prod(_shape(graph, edges[0])) > 1:
                return "mean" if op.kind == "Mean" else "sum", math.prod(_shape(graph, edges[0]))
    return None, 0


def _constants(graph: Graph, nodes: Sequence[Node]) -> float:
    """Return log10 of the constants that multiply the loss as one number, near its root."""
    total = 0.0
    index = graph.roots[0] if len(graph.roots) == 1 else None
    while index is not None:
        op = graph.ops[index]
        data = graph.data_edges(index)
        if len(data) != 1 or not op.shapes or math.prod(op.shapes[0]) != 1:
            break
        if op.kind in ("Mul", "Div"):
            name = "other" if data[0].input == 0 else "self"
            value = getattr(nodes[index], f"_saved_{name}", None)
            number = float(value) if isinstance(value, Tensor) and value.numel() == 1 else value
            if isinstance(number, int | float) and math.isfinite(number) and number:
                sign = 1.0 if op.kind == "Mul" else -1.0
                total += sign * math.log10(abs(number))
        elif op.kind not in ("Neg", "View", "Squeeze", "ToCopy", "Add", "Sub", "Rsub"):
            break
        index = data[0].child
    return total
