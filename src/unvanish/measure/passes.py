"""One backward pass over one graph, with a hook on every op that a path to a source passes.

Hooks hold indices, never nodes. Each gradient is reduced once, though two ops see it: what an op
hands on is recognised when it arrives (same memory, same version, only contribution).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unvanish.meanfield import slope_supremum
from unvanish.measure.calls import ModuleCall
from unvanish.measure.dynamo import uncompiled
from unvanish.measure.graph import (
    Edge,
    Graph,
    Node,
    assign_factors,
    assign_owners,
    mark_data,
    walk,
    whole_call_groups,
)
from unvanish.measure.reduce import Reducer, dense
from unvanish.measure.slopes import InputSlots, SlopeSlots, queue_inputs, queue_slopes
from unvanish.records import Factor

# Bounds of a float32 Gram matrix's greatest entry whose square is exact enough: see reduce.py.
_MODERATE = (1e-12, 1e15)
_SAMPLES = 256  # at most looked at, evenly spaced, where samples are compared with each other
_Key = tuple[int, int, int]  # memory, version, entries


@dataclass(slots=True)
class _Arrival:
    """What came back through one edge: its norm, and the tensor where it is needed again."""

    edge: Edge
    norm: int
    key: _Key
    tensor: Tensor | None


@dataclass(frozen=True, slots=True)
class Contribution:
    """The sum of what came back to a tensor through one vertex (or one row)."""

    norm: int  # slot of its log10 norm
    share: int | None  # slot of its signed share of the whole; None: it is the whole


@dataclass(slots=True)
class ParameterSlots:
    """Where a reducer will deliver one parameter's numbers."""

    gradient: int
    zeros: int
    nonfinite: int | None  # None: there are none
    subnormals: int | None  # None: the gradient lies far above them


@dataclass(slots=True)
class BackwardPass:
    """Measures one backward pass. Fields named `*_norm` hold slots of the reducer.

    A *vertex* is an op, or the ops of a module call that is one factor as a whole; a *row* is a
    leaf module call, or an op owned by a module that has children.
    """

    graph: Graph
    nodes: list[Node]
    reducer: Reducer
    vertex: list[int]
    row: list[int]
    vertex_factor: dict[int, Factor]
    slot_norm: dict[tuple[int, int], int] = field(default_factory=dict)
    edge_norm: dict[tuple[int, int], int] = field(default_factory=dict)
    by_vertex: dict[tuple[int, int], dict[int, Contribution]] = field(default_factory=dict)
    row_in: dict[int, list[int]] = field(default_factory=dict)
    row_out: dict[int, list[int]] = field(default_factory=dict)
    slopes: dict[int, SlopeSlots] = field(default_factory=dict)
    inputs: dict[int, Tensor] = field(default_factory=dict)  # by vertex: entries of z
    input_slots: dict[int, InputSlots] = field(default_factory=dict)
    parameters: dict[int, ParameterSlots] = field(default_factory=dict)
    participation: dict[int, int] = field(default_factory=dict)
    ratios: dict[int, Tensor] = field(default_factory=dict)  # grad_in / grad_out of unknown ops
    fired: list[int] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    keep_gradients: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    wanted: frozenset[tuple[int, int]] = frozenset()
    watched: int | None = None  # an op: how alike are the gradients of its output, by sample?
    alike: tuple[int, int] | None = None  # of `watched`: Σ pᵢ² and Σ pᵢpⱼρᵢⱼ², see `_see_alike`
    per_sample: bool = False  # a probe: measure the participation of samples only
    _arrived: dict[tuple[int, int], list[_Arrival]] = field(default_factory=dict)
    _fan_in: dict[tuple[int, int], int] = field(default_factory=dict)
    _group_out: dict[int, Tensor] = field(default_factory=dict)
    _handles: list[Any] = field(default_factory=list)

    # --- hooks ---------------------------------------------------------------------------------

    def attach(self) -> None:
        """Register the hooks. `detach` must follow, also after an exception."""
        for op, node in zip(self.graph.ops, self.nodes, strict=True):
            if op.variable is not None:
                self._handles.append(node.register_prehook(self._leaf_hook(op.index)))
            elif op.data and self.per_sample:
                if self._is_candidate(op.index):
                    self._handles.append(node.register_hook(self._ratio_hook(op.index)))
                if self._leaves_row(op.index):
                    self._handles.append(node.register_hook(self._sample_hook(op.index)))
            elif op.data:
                self._handles.append(node.register_hook(self._op_hook(op.index)))

    def _leaves_row(self, index: int) -> bool:
        consumers = self.graph.consumers[index]
        return not consumers or any(self.row[edge.parent] != self.row[index] for edge in consumers)

    def also(self, handle: Any) -> None:
        """Keep one more hook handle, to be removed with the others."""
        self._handles.append(handle)

    def receive(self, index: int, slot: int, gradient: Tensor | None) -> None:
        """Take the gradient of a source that the engine hands out instead of running its op."""
        with torch.no_grad():
            if not self.per_sample:
                self._see_outputs(index, [None] * slot + [gradient])
            elif gradient is not None:
                self._see_samples(self.row[index], gradient)

    def detach(self) -> None:
        """Remove the hooks and let go of the nodes and of every gradient that was held."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._arrived.clear()
        self._group_out.clear()
        self.inputs.clear()
        self.nodes = []

    def _op_hook(self, index: int) -> Any:
        def see(grad_inputs: tuple[Any, ...], grad_outputs: tuple[Any, ...]) -> None:
            if _inside_transform():
                return
            try:
                with torch.no_grad():
                    self.fired.append(index)
                    self._see_outputs(index, grad_outputs)
                    self._see_inputs(index, grad_inputs, grad_outputs)
            except Exception as error:  # measuring must never stop a backward
                self.errors.append(f"{type(error).__name__}: {error}")

        return uncompiled(see)

    def _sample_hook(self, index: int) -> Any:
        def see(_grad_inputs: tuple[Any, ...], grad_outputs: tuple[Any, ...]) -> None:
            if grad_outputs[0] is None or _inside_transform():
                return
            try:
                with torch.no_grad():
                    self._see_samples(self.row[index], grad_outputs[0])
            except Exception as error:
                self.errors.append(f"{type(error).__name__}: {error}")

        return see

    def _ratio_hook(self, index: int) -> Any:
        def see(grad_inputs: tuple[Any, ...], grad_outputs: tuple[Any, ...]) -> None:
            edge = self.graph.data_edges(index)[0]
            if not _inside_transform():
                with torch.no_grad():
                    self._see_ratio(index, grad_inputs[edge.input], grad_outputs[0])

        return see

    def _is_candidate(self, index: int) -> bool:
        """Whether an op that no table knows may be element-wise: one data input, of its shape."""
        op = self.graph.ops[index]
        if op.known or op.factor != "opaque" or len(op.edges) != 1 or len(op.shapes) != 1:
            return False
        edge = op.edges[0]
        child = self.graph.ops[edge.child]
        return child.data and child.shapes[edge.slot : edge.slot + 1] == op.shapes

    def _see_ratio(self, index: int, grad_in: Tensor | None, grad_out: Tensor | None) -> None:
        if grad_in is not None and grad_out is not None and grad_in.shape == grad_out.shape:
            usable = grad_out.abs() >= torch.finfo(grad_out.dtype).tiny
            self.ratios[index] = (grad_in / grad_out).masked_fill(~usable, torch.nan)

    def _leaf_hook(self, index: int) -> Any:
        def see(grad_outputs: tuple[Any, ...]) -> None:
            if not _inside_transform():
                self.receive_leaf(index, grad_outputs[0])

        return uncompiled(see)

    def receive_leaf(self, index: int, gradient: Tensor | None) -> None:
        """Take the whole gradient of a leaf: a parameter's, or that of data."""
        op = self.graph.ops[index]
        if gradient is None or op.variable is None:
            return
        try:
            with torch.no_grad():
                if op.source:
                    self._see_outputs(index, (gradient,))
                else:
                    self._see_parameter(id(op.variable), gradient)
        except Exception as error:
            self.errors.append(f"{type(error).__name__}: {error}")

    # --- what a hook sees ----------------------------------------------------------------------

    def _see_outputs(self, index: int, gradients: Sequence[Tensor | None]) -> None:
        for slot, gradient in enumerate(gradients):
            arrivals = self._arrived.pop((index, slot), [])
            if gradient is None:
                continue
            key = (index, slot)
            if len(arrivals) == 1 and arrivals[0].key == _key(gradient):
                self.slot_norm[key] = arrivals[0].norm
            else:
                self.slot_norm[key] = self.reducer.norm(gradient)
            if key in self.wanted:
                self.keep_gradients[key] = gradient
            if index == self.watched and slot == 0:
                self._see_alike(gradient)
            self._merge(key, gradient, arrivals)

    def _merge(self, key: tuple[int, int], whole: Tensor, arrivals: list[_Arrival]) -> None:
        """Split what arrived at a tensor by the vertex and by the row that it came through."""
        index = key[0]
        by_vertex: dict[int, list[_Arrival]] = {}
        by_row: dict[int, list[_Arrival]] = {}
        for arrival in arrivals:
            by_vertex.setdefault(self.vertex[arrival.edge.parent], []).append(arrival)
            by_row.setdefault(self.row[arrival.edge.parent], []).append(arrival)
        alone = len(by_vertex) == 1
        contributions: dict[int, Contribution] = {}
        for vertex, parts in by_vertex.items():
            norm, total = self._total(parts, whole, self.slot_norm[key] if alone else None)
            share = (
                None
                if alone or total is None
                else self.reducer.share(total, whole, self.slot_norm[key])
            )
            contributions[vertex] = Contribution(norm, share)
            held = self._group_out.get(vertex)
            if held is not None and self.vertex[index] != vertex:
                grad_in = whole if alone else total
                if grad_in is not None:
                    self._see_slope(vertex, grad_in, self._group_out.pop(vertex))
        self.by_vertex[key] = contributions
        outside = [
            arrival for arrival in arrivals if self.row[arrival.edge.parent] != self.row[index]
        ]
        for row, parts in by_row.items():
            if row != self.row[index]:
                known = self.slot_norm[key] if len(by_row) == 1 else None
                self.row_in.setdefault(row, []).append(self._total(parts, whole, known)[0])
        if outside or not arrivals:
            known = self.slot_norm[key] if len(outside) == len(arrivals) else None
            self.row_out.setdefault(self.row[index], []).append(
                known if known is not None else self._total(outside, whole, None)[0]
            )

    def _total(
        self, parts: list[_Arrival], whole: Tensor, known: int | None
    ) -> tuple[int, Tensor | None]:
        """Return the norm slot, and the tensor where it is held, of a sum of arrivals."""
        if known is not None:
            return known, whole
        if len(parts) == 1:
            return parts[0].norm, parts[0].tensor
        held = [part.tensor for part in parts if part.tensor is not None]
        total = held[0]
        for tensor in held[1:]:
            total = total + tensor
        return self.reducer.norm(total), total

    def _see_inputs(
        self, index: int, grad_inputs: Sequence[Tensor | None], grad_outputs: Sequence[Any]
    ) -> None:
        op = self.graph.ops[index]
        for edge in op.edges:
            gradient = grad_inputs[edge.input]
            if gradient is None or not self.graph.ops[edge.child].data:
                continue
            norm = self.reducer.norm(gradient)
            self.edge_norm[(index, edge.input)] = norm
            target = (edge.child, edge.slot)
            hold = gradient if self._fan_in[target] > 1 else None
            self._arrived.setdefault(target, []).append(_Arrival(edge, norm, _key(gradient), hold))
        vertex = self.vertex[index]
        if self._is_candidate(index):
            gradient = grad_inputs[op.edges[0].input]
            self._see_ratio(index, gradient, grad_outputs[0])
            if gradient is not None and index in self.ratios:
                self._see_slope(vertex, gradient, grad_outputs[0])
        if self.vertex_factor.get(vertex, op.factor) != "slope" or grad_outputs[0] is None:
            return
        if vertex != index or index in self.vertex_factor:
            # The output op of an element-wise call: the slope is known when its input arrives.
            if any(self.vertex[edge.parent] != vertex for edge in self.graph.consumers[index]):
                self._group_out[vertex] = grad_outputs[0]
            return
        data = self.graph.data_edges(index)
        gradient = grad_inputs[data[0].input] if len(data) == 1 else None
        if gradient is not None:
            self._see_slope(vertex, gradient, grad_outputs[0])

    def _see_slope(self, vertex: int, grad_in: Tensor, grad_out: Tensor) -> None:
        if grad_in.shape != grad_out.shape or grad_out.layout != torch.strided:
            return
        op = self.graph.ops[vertex]
        supremum = None
        if vertex not in self.vertex_factor and op.activation and op.negative_slope is None:
            supremum = slope_supremum(op.activation)
        dimension = _unit_dimension(self.graph, vertex, grad_out.dim())
        self.slopes[vertex] = queue_slopes(grad_in, grad_out, dimension, supremum, self.reducer)
        values = self.inputs.pop(vertex, None)
        if values is not None:
            slots = queue_inputs(values, grad_in, grad_out, self.reducer)
            if slots is not None:
                self.input_slots[vertex] = slots

    def _see_parameter(self, identity: int, gradient: Tensor) -> None:
        values = dense(gradient)
        norm = self.reducer.norm(gradient)
        nonfinite = subnormals = None
        # The counts that need a pass of their own are formed where there can be something to
        # count; on an accelerator that is not known yet, and a pass is cheap.
        level = self.reducer.known(norm)
        size = values.numel()
        if level is None or not math.isfinite(level):
            nonfinite = self.reducer.scalar(size - torch.count_nonzero(torch.isfinite(values)))
        smallest = torch.finfo(values.dtype).tiny
        if level is None or level - 0.5 * math.log10(max(size, 1)) < math.log10(smallest) + 6.0:
            small = values.abs() < smallest
            subnormals = self.reducer.scalar(torch.count_nonzero(small & (values != 0)))
        self.parameters[identity] = ParameterSlots(
            gradient=norm,
            zeros=self.reducer.scalar(size - torch.count_nonzero(values)),
            nonfinite=nonfinite,
            subnormals=subnormals,
        )

    def _see_samples(self, row: int, gradient: Tensor) -> None:
        """Queue the participation ratio (tr K)^2 / tr(K^2) of the per-sample gradients' Gram K."""
        strided = gradient.layout == torch.strided
        if row in self.participation or not strided or gradient.dim() < 2 or len(gradient) < 2:
            return
        rows = gradient.reshape(len(gradient), -1)
        if rows.dtype in (torch.float16, torch.bfloat16):
            rows = rows.float()
        gram = rows @ rows.mT.conj()
        if rows.device.type != "cpu" or not _MODERATE[0] < float(gram.abs().amax()) < _MODERATE[1]:
            # Neither the norms' squares nor those of the Gram may leave the range.
            rows = rows / _not_zero(rows.abs().amax())
            gram = rows @ rows.mT.conj()
            gram = gram / _not_zero(gram.abs().amax())
        trace, norm = gram.diagonal().sum().abs(), torch.linalg.vector_norm(gram)
        ratio = (trace / _not_zero(norm)) ** 2
        self.participation[row] = self.reducer.scalar(ratio)

    def _see_alike(self, gradient: Tensor) -> None:
        """Queue how alike the gradients gᵢ of the samples are, pᵢ = ‖gᵢ‖²/Σ‖gⱼ‖² being their parts.

        Σ pᵢ², and with their cosines ρᵢⱼ the sum of pᵢ pⱼ ρᵢⱼ², one over the participation ratio.
        """
        if gradient.layout != torch.strided or gradient.dim() < 1:
            return
        rows = gradient.reshape(len(gradient), -1)
        rows = rows[:: max(1, len(rows) // _SAMPLES)].float()
        rows = rows / _not_zero(rows.abs().amax())
        squares = rows.square().sum(dim=1)
        whole = _not_zero(squares.sum())
        short = rows if rows.shape[0] <= rows.shape[1] else rows.mT
        gram = short @ short.mT
        self.alike = (
            self.reducer.scalar((squares / whole).square().sum()),
            self.reducer.scalar((gram / whole).square().sum()),
        )


def agreement(one: Tensor, other: Tensor) -> Tensor:
    """Return how far two ratios of one op differ, relative to the greatest; nan: not comparable.

    An op is element-wise if grad_in / grad_out is the same under two different cotangents.
    """
    both = torch.isfinite(one) & torch.isfinite(other)
    zero = torch.zeros((), dtype=one.dtype, device=one.device)
    difference = torch.where(both, (one - other).abs(), zero).amax()
    size = torch.where(both, one.abs(), zero).amax()
    return torch.where(both.any(), difference / size.clamp(min=1e-30), torch.nan)


def prepare(
    roots: Sequence[Tensor],
    calls: Sequence[ModuleCall],
    reducer: Reducer,
    *,
    known_parameters: frozenset[int] = frozenset(),
    batch_size: int | None = None,
    per_sample: bool = False,
) -> BackwardPass:
    """Walk the graph below `roots` and lay out the measurement; no hook is registered yet."""
    nodes, graph = walk(roots)
    assign_owners(graph, calls)
    batch_size = batch_size or next((call.batch_size for call in calls if call.batch_size), None)
    mark_data(graph, known_parameters, batch_size)
    assign_factors(graph, nodes)
    vertex = list(range(len(graph.ops)))
    vertex_factor: dict[int, Factor] = {}
    for members, factor in whole_call_groups(graph):
        head = members[0]
        vertex_factor[head] = factor
        for index in members:
            vertex[index] = head
    fan_in: dict[tuple[int, int], int] = {}
    for edges in graph.consumers:
        for edge in edges:
            fan_in[(edge.child, edge.slot)] = fan_in.get((edge.child, edge.slot), 0) + 1
    return BackwardPass(
        graph=graph,
        nodes=nodes,
        reducer=reducer,
        vertex=vertex,
        row=_rows(graph),
        vertex_factor=vertex_factor,
        per_sample=per_sample,
        _fan_in=fan_in,
    )


def _rows(graph: Graph) -> list[int]:
    """Return the row of each op: the first op of its leaf call, or the op itself."""
    first: dict[int, int] = {}
    rows: list[int] = []
    for op in graph.ops:
        if op.call is not None and not op.call.has_children:
            rows.append(first.setdefault(id(op.call), op.index))
        else:
            rows.append(op.index)
    return rows


def _unit_dimension(graph: Graph, index: int, dimensions: int) -> int:
    """Return the dimension that units lie along: channels after a convolution, else the last."""
    if dimensions <= 2:
        return max(dimensions - 1, 0)
    if dimensions >= 4:
        return 1
    for _ in range(6):
        edges = graph.data_edges(index)
        if not edges:
            break
        index = edges[0].child
        if graph.ops[index].kind.endswith("Convolution"):
            return 1
        if graph.ops[index].factor == "weight":
            break
    return dimensions - 1


def _key(tensor: Tensor) -> _Key:
    if tensor.layout != torch.strided:
        return (id(tensor), 0, tensor.numel())
    return (tensor.data_ptr(), tensor._version, tensor.numel())


def _not_zero(scale: Tensor) -> Tensor:
    return torch.where(scale > 0, scale, torch.ones_like(scale))


def _inside_transform() -> bool:
    return torch._C._functorch.peek_interpreter_stack() is not None
