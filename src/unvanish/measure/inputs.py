"""What goes into each activation: a histogram of its input z, with its slope in each bin.

Nothing is added to the forward pass. Modules' inputs and outputs are seen by the hooks on their
calls; where an activation is a function fed by no module, what its autograd node saved tells. The
slope is grad_in / grad_out of the same entries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from unvanish.measure.calls import ModuleCall
from unvanish.measure.forward import thinned
from unvanish.measure.graph import Graph, Node, Op
from unvanish.measure.names import Names
from unvanish.measure.path import Numbers
from unvanish.measure.weights import saved
from unvanish.records import ActivationInput

_MOST = 512  # activations in one trace: of more, every so-many-th
# What a node saves of its own output, turned into its input.
_INVERSES: dict[str, Callable[[Tensor], Tensor]] = {
    "Sigmoid": torch.logit,
    "Tanh": torch.atanh,
    "Relu": lambda result: torch.where(result > 0, result, torch.nan),
}


def find(graph: Graph, nodes: Sequence[Node], vertex: Sequence[int]) -> dict[int, Tensor]:
    """Return, by vertex, entries of the input of each activation that shows it; nan: unseen.

    Must run before the backward, which frees what nodes saved.
    """
    members: dict[int, list[Op]] = {}
    for op in graph.ops:
        if op.data and op.variable is None:
            members.setdefault(vertex[op.index], []).append(op)
    found: dict[int, Tensor] = {}
    for head, ops in members.items():
        if len(ops) == 1 and ops[0].factor not in ("slope", "opaque"):
            continue
        outside = {
            (edge.child, edge.slot)
            for op in ops
            for edge in graph.data_edges(op.index)
            if vertex[edge.child] != head
        }
        if len(outside) == 1:
            values = _seen(graph, nodes, ops, *outside.pop())
            if values is not None:
                found[head] = values
    return found


def _seen(
    graph: Graph, nodes: Sequence[Node], ops: Sequence[Op], child: int, slot: int
) -> Tensor | None:
    feeding = graph.ops[child]
    here, above = _leaf(ops[0].call), _leaf(feeding.call)
    if here is not None and here is not above and not here.module._parameters:
        return here.taken
    output = ((feeding.sequence, slot),)
    if above is not None and above.module._parameters and above.outputs[:1] == output:
        return above.taken
    if len(ops) > 1:
        return None
    own = saved(nodes[ops[0].index], "_saved_self", None)
    if isinstance(own, Tensor) and tuple(own.shape) == ops[0].shapes[0]:
        return thinned(own)
    result = thinned(saved(nodes[ops[0].index], "_saved_result", None))
    inverse = _INVERSES.get(ops[0].kind)
    return None if result is None or inverse is None else inverse(result)


def _leaf(call: ModuleCall | None) -> ModuleCall | None:
    return None if call is None or call.has_children or call.taken is None else call


def records(numbers: Numbers, names: Names) -> tuple[ActivationInput, ...]:
    """Return the inputs of the activations whose input was seen, in forward order."""
    ops, slots = numbers.measured.graph.ops, numbers.measured.input_slots
    shown = sorted(slots, key=lambda vertex: ops[vertex].order)
    stride = max(1, -(-len(shown) // _MOST))
    found = [_record(numbers, names, vertex) for vertex in shown[::stride]]
    return tuple(one for one in found if one is not None)


def _record(numbers: Numbers, names: Names, vertex: int) -> ActivationInput | None:
    measured, values = numbers.measured, numbers.values
    if numbers.factor(vertex) != "slope":
        return None
    op, slots = measured.graph.ops[vertex], measured.input_slots[vertex]
    counts = [round(values[slot]) for slot in slots.counts]
    filled = [place for place, count in enumerate(counts) if count]
    if not filled:
        return None
    bins = range(filled[0], filled[-1] + 1)
    alone = vertex not in measured.vertex_factor
    return ActivationInput(
        module=names.module(op.call) or "",
        call=names.number(op.call),
        op=op.name,
        activation=op.activation if alone else None,
        negative_slope=op.negative_slope if alone else None,
        entries=slots.entries,
        first=filled[0],
        counts=tuple(counts[place] for place in bins),
        slopes=tuple(
            values[slots.slopes[place]] / values[slots.valid[place]]
            if values[slots.valid[place]]
            else math.nan
            for place in bins
        ),
        unseen=slots.entries - sum(counts),
    )
