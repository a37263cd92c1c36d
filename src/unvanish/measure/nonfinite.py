"""The first op that turned finite numbers into NaN or infinity, forward or backward.

When the forward is not finite, backward hooks blame the loss op. But before backward runs, a node's
saved tensors usually hold the forward's inputs and results: walking them in sequence order brackets
the first op that went wrong, without running anything again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from unvanish.measure.calls import ModuleCall
from unvanish.measure.forward import tensors_in
from unvanish.measure.graph import Graph, Node, Op
from unvanish.measure.passes import BackwardPass
from unvanish.measure.path import Numbers
from unvanish.measure.sharding import emptied

# Ops that leave out some of the numbers they are given: those get a gradient of 0.
CHOOSING = frozenset({"Where", "MaskedFill", "MaskedSelect", "Index", "Slice"})
INPUT = "input"  # the op's name when the batch itself is not finite
_INPUTS = ("self", "input", "mat1", "mat2", "other", "tensors", "query", "key", "value", "exponent")
# Under which name an op saves its input of this number; `mat2` is the third of Addmm.
_NAMES_OF_INPUT = {0: ("self", "input", "query", "grid"), 1: ("other", "mat1", "mat2", "key")}
# What keeps every number that is not finite, and makes none: its result tells of its input.
_PASSES_THROUGH = frozenset({"Relu", "Threshold", "LeakyRelu"})
_VIEWS = frozenset({"T", "Transpose", "Permute", "View", "Unsqueeze", "Squeeze", "Expand", "Slice"})
_RESULTS = ("result", "output", "result0", "logsumexp")


class ForwardFault:
    """Where the forward first became non-finite: an op, or the module call that brackets it."""

    def __init__(
        self,
        op: Op | None,
        call: ModuleCall | None,
        kind: Literal["nan", "inf"],
        detail: str,
        name: str | None = None,
    ) -> None:
        """Without an op the fault is named `name`, or after the class of the call's module."""
        named = type(call.module).__name__ if call is not None else "?"
        self.name = name or (op.name if op is not None else named)
        self.call = call
        self.weight = None if op is None else op.weight
        self.kind = kind
        self.detail = detail


def locate_forward(
    graph: Graph, nodes: Sequence[Node], calls: Sequence[ModuleCall]
) -> ForwardFault | None:
    """Return the first op, in forward order, that made a non-finite number; None if none is seen.

    An op is guilty if its result is not finite and its inputs were. Its result is its own saved
    result, or what a later op saved as its input; what no op saved is bracketed by the outputs of
    module calls. Saved tensors behind hooks (checkpointing) are not read: that would run code.
    """
    for call in calls:
        given = [] if call.inputs is None or call.parent else tensors_in(call.inputs.arguments)
        for tensor in given:
            kind = nonfinite_kind(tensor) if tensor.is_floating_point() else None
            if kind is not None:
                count = int((~torch.isfinite(tensor)).sum())
                return ForwardFault(None, call, kind, f"{count} of {tensor.numel()} entries", INPUT)
    order = sorted((op for op in graph.ops if op.variable is None), key=lambda op: op.sequence)
    produced: dict[int, bool] = {}
    results: dict[int, Tensor] = {}
    for op in order:
        inputs, own = _saved(nodes[op.index])
        if own:
            results[op.index] = own[0]
        for edge in op.edges:
            child = graph.ops[edge.child]
            saved = _saved_input(nodes[op.index], op.kind, edge.input)
            if saved is None and own and op.kind in _PASSES_THROUGH:
                saved = own[0]
            if child.variable is None and saved is not None and saved.shape in child.shapes[:1]:
                results.setdefault(edge.child, saved)
    for op in order:
        inputs, _ = _saved(nodes[op.index])
        result = results.get(op.index)
        bad_inputs = any(nonfinite_kind(item) is not None for item in inputs) or any(
            produced.get(edge.child, False) for edge in op.edges
        )
        kind = nonfinite_kind(result) if result is not None else None
        produced[op.index] = kind is not None or (result is None and bad_inputs)
        if kind is not None and not bad_inputs:
            maker = _maker(op, graph)
            inputs, _ = _saved(nodes[maker.index])
            return ForwardFault(maker, maker.call, kind, _describe(inputs))
    for op in order:
        inputs, _ = _saved(nodes[op.index])
        for item in inputs:
            kind = nonfinite_kind(item)
            if kind is not None:
                return ForwardFault(op, op.call, kind, "its input was not finite already")
    for call in calls:
        if call.signal is not None and not call.has_children:
            rms = float(call.signal.rms)
            if not math.isfinite(rms):
                return ForwardFault(None, call, "nan" if math.isnan(rms) else "inf", "")
    return None


def _maker(op: Op, graph: Graph) -> Op:
    """Return the op that made what a view shows: views save nothing and make no numbers."""
    while op.kind in _VIEWS and len(op.edges) == 1:
        child = graph.ops[op.edges[0].child]
        if child.variable is not None:
            break
        op = child
    return op


def _saved(node: Node) -> tuple[list[Tensor], list[Tensor]]:
    inputs = [item for name in _INPUTS if (item := read_saved(node, name)) is not None]
    results = [item for name in _RESULTS if (item := read_saved(node, name)) is not None]
    return inputs, results


def _saved_input(node: Node, kind: str, number: int) -> Tensor | None:
    """Return what `node` saved of its input of this number, None if nothing."""
    names = ("mat2",) if (kind, number) == ("Addmm", 2) else _NAMES_OF_INPUT.get(number, ())
    if kind == "Addmm" and number == 1:
        names = ("mat1",)
    return next((item for name in names if (item := read_saved(node, name)) is not None), None)


def read_saved(node: Node, name: str) -> Tensor | None:
    """Return the floating-point tensor that `node` saved as `name`; None if it cannot be read."""
    raw = getattr(node, f"_raw_saved_{name}", None)
    if raw is None or isinstance(raw, tuple) or getattr(raw, "unpack_hook", None) is not None:
        return None
    try:
        value = getattr(node, f"_saved_{name}")
    except RuntimeError:  # freed, or written to since
        return None
    readable = isinstance(value, Tensor) and value.is_floating_point() and not emptied(value)
    return value.detach() if readable else None


def nonfinite_kind(tensor: Tensor) -> Literal["nan", "inf"] | None:
    """Return "nan" or "inf" if an entry is one, else None."""
    if bool(torch.isfinite(tensor).all()):
        return None
    return "nan" if bool(torch.isnan(tensor).any()) else "inf"


def _describe(inputs: Sequence[Tensor]) -> str:
    """Return the range of the op's inputs in words: `input in [-3, 0]`."""
    parts = []
    for item in inputs[:2]:
        low, high = (float(bound) for bound in item.float().aminmax())
        parts.append(f"[{low:.4g}, {high:.4g}]")
    return f"{'inputs' if len(parts) > 1 else 'input'} in {' and '.join(parts)}" if parts else ""


def backward_fault(measured: BackwardPass, numbers: Numbers) -> tuple[Op, str] | None:
    """Return the first op, in backward order, whose gradient went in finite and came out not.

    The second value is "nan" or "inf".
    """
    graph = measured.graph
    for index in measured.fired:
        level = numbers.op_level(index)
        if level is None or not _finite_norm(level):
            continue
        op = graph.ops[index]
        edges = [measured.edge_norm.get((index, edge.input)) for edge in op.edges]
        bad = [numbers.values[slot] for slot in edges if slot is not None]
        bad += [
            numbers.values[measured.parameters[id(variable)].gradient]
            for edge in op.edges
            if (variable := graph.ops[edge.child].variable) is not None
            and id(variable) in measured.parameters
        ]
        bad = [value for value in bad if not _finite_norm(value)]
        if bad:
            return op, "nan" if any(math.isnan(value) for value in bad) else "inf"
    return None


def _finite_norm(level: float) -> bool:
    return math.isfinite(level) or level == -math.inf
