"""What theory needs to know of a traced network: its trunk as stages, and the sizes of weights.

Read off the autograd graph before the backward, while its nodes still know their parameters. The
trunk is what lies between the network's output and its input: ops in a row, and sums of branches
that start at one tensor. Weights are only read; every number stays on its device until the trace
is resolved.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from unvanish.errors import UnvanishError
from unvanish.i18n import _
from unvanish.meanfield.activation import Activation
from unvanish.meanfield.bridge import resolve
from unvanish.meanfield.catalogue import Entry, build, find, named
from unvanish.meanfield.layers import taps_kept
from unvanish.meanfield.stages import Norm, Scale, Slope, Stage, Sum, Unknown, Weights
from unvanish.measure.forward import ForwardSignal
from unvanish.measure.graph import Edge, Graph, Node, Op
from unvanish.measure.passes import BackwardPass
from unvanish.measure.path import cut_points
from unvanish.measure.reduce import Reducer

Values = Sequence[float]
Later = Callable[[Values], Stage]  # a stage, once the reducer's values are known

_LINEAR = frozenset({"Addmm", "Mm", "Linear", "MkldnnLinear"})
_UNCHANGED = frozenset(
    {"View", "Reshape", "ReshapeAlias", "UnsafeView", "Transpose", "Permute", "T", "Unsqueeze"}
    | {"Squeeze", "Clone", "ToCopy", "Alias", "Contiguous", "Flatten", "Movedim", "Swapaxes"}
    | {"Identity", "Neg"}
)
_GIVEN = {
    "Addmm": ("_saved_mat1",),
    "Mm": ("_saved_self",),
    "Linear": ("_saved_input",),
    "Convolution": ("_saved_input",),
}
_TURNED = frozenset({"T", "Transpose", "Permute", "View", "ToCopy", "UnsafeView"})
_ROWS = 8  # rows of a weight whose angles are looked at
_ORTHOGONAL, _ALIKE = 0.0025, 16.0  # of the squared cosine of independent rows, 1/fan_in
_OFF_CENTRE = 6.0  # standard errors by which a weight's mean may differ from 0
# constructor arguments of the theory's activations -> what the autograd node calls them
_SAVED = {
    "negative_slope": "_saved_negative_slope",
    "alpha": "_saved_alpha",
    "beta": "_saved_beta",
    "min_val": "_saved_min_val",
    "max_val": "_saved_max_val",
    "lambd": "_saved_lambd",
    "lower": "_saved_lower",
    "upper": "_saved_upper",
}
_REASONS = {
    "attention": lambda: _("attention follows its input: measure, do not predict"),
    "gate": lambda: _("a product of two signals: measure, do not predict"),
    "recurrence": lambda: _("the same weights act again: measure, do not predict"),
    "pool": lambda: _("pooling of overlapping or unlike windows"),
}


@dataclass(frozen=True, slots=True)
class Element:
    """One element of the trunk: from the output of vertex `head` down to that of vertex `foot`."""

    head: int
    foot: int
    name: str  # "linear", "sigmoid", "LayerNorm", "sum"
    later: Later


@dataclass(frozen=True, slots=True)
class Given:
    """Slots of what the first op takes: its rms, correlation and relative variance of lengths."""

    rms: int
    correlation: int | None
    unlike: int


@dataclass(frozen=True, slots=True)
class Structure:
    """The trunk in forward order, its first vertex, and the Gram of the output's gradient.

    `first` is a stage that has no gain (nothing passes below the source) but makes the signal that
    all others start from.
    """

    elements: tuple[Element, ...]
    first: int
    first_stage: Later
    given: Given | None


def read(measured: BackwardPass, batch: int | None) -> Structure | None:
    """Return the structure of the graph that `measured` is about to pass; None: it has no trunk.

    `batch` is the number of samples along dimension 0.
    """
    with torch.no_grad():
        return _Reader(measured, batch).structure()


class _Reader:
    def __init__(self, measured: BackwardPass, batch: int | None) -> None:
        self.batch = batch
        self.measured = measured
        self.graph: Graph = measured.graph
        self.reducer: Reducer = measured.reducer
        self.used: dict[int, int] = {}
        self.members: dict[int, list[int]] = {}
        for op in self.graph.ops:
            if op.data and op.variable is None:
                self.members.setdefault(measured.vertex[op.index], []).append(op.index)
            if op.data and op.weight is not None:
                self.used[op.weight] = self.used.get(op.weight, 0) + 1

    def structure(self) -> Structure | None:
        ops = self.graph.ops
        cuts = [
            self.measured.vertex[index]
            for index in cut_points(self.graph)
            if not ops[index].after_output and ops[index].variable is None
        ]
        trunk = list(dict.fromkeys(cuts))
        if len(trunk) < 2:
            return None
        elements = [self._element(head, foot) for head, foot in pairwise(trunk)]
        first = trunk[-1]
        return Structure(
            tuple(reversed(elements)), first, self.stage_of(first, None)[1], self._given(first)
        )

    def _given(self, vertex: int) -> Given | None:
        """Queue the length of what the first op takes, where it is a linear map that saved it."""
        node = self.measured.nodes[vertex]
        for name in _GIVEN.get(self.graph.ops[vertex].kind, ()):
            value = _saved(node, name, None)
            signal = None if value is None else ForwardSignal.of(value, self.batch)
            if signal is not None:
                squares = value.detach().reshape(len(value), -1).float().square().sum(dim=1)
                unlike = (squares / squares.mean()).var(correction=0)
                return Given(*signal.queue(self.reducer), self.reducer.scalar(unlike))
        return None

    # --- shape ---------------------------------------------------------------------------------

    def _below(self, vertex: int) -> list[Edge]:
        """Return the data edges that lead out of a vertex, toward the input."""
        vertices = self.measured.vertex
        return [
            edge
            for index in self.members.get(vertex, ())
            for edge in self.graph.data_edges(index)
            if vertices[edge.child] != vertex
        ]

    def _element(self, head: int, foot: int) -> Element:
        op = self.graph.ops[head]
        edges = self._below(head)
        whole = head in self.measured.vertex_factor
        feet = [self.measured.vertex[edge.child] for edge in edges]
        if feet == [foot] or (whole and set(feet) == {foot}):
            return Element(head, foot, *self._stage(head, edges[0]))
        branches = [self._branch(edge, foot) for edge in edges] if op.kind == "Add" else []
        laters = [branch for branch in branches if branch is not None]
        if len(laters) < 2 or len(laters) < len(branches) or not self._plain_sum(op, edges):
            reason = _REASONS.get(op.factor, lambda: _("paths that part and meet in another way"))()
            return Element(head, foot, op.kind.lower(), lambda _values: Unknown(reason))
        units = self._units(op)

        def later(values: Values) -> Stage:
            return Sum(tuple(tuple(one(values) for one in branch) for branch in laters), units)

        return Element(head, foot, "sum", later)

    def _plain_sum(self, op: Op, edges: list[Edge]) -> bool:
        """Whether an Add adds its inputs as they are: of one shape, none scaled."""
        shapes = {self._shape(edge) for edge in edges} | {op.shapes[0]}
        return len(shapes) == 1 and _saved(self.measured.nodes[op.index], "_saved_alpha", 1) == 1

    def _branch(self, edge: Edge, foot: int) -> tuple[Later, ...] | None:
        """Return the stages of a branch in forward order; None if it is no chain down to `foot`."""
        found: list[Later] = []
        vertex = self.measured.vertex[edge.child]
        while vertex != foot:
            edges = self._below(vertex)
            above = {
                self.measured.vertex[one.parent]
                for index in self.members.get(vertex, ())
                for one in self.graph.consumers[index]
            } - {vertex}
            below = {self.measured.vertex[one.child] for one in edges}
            single = len(edges) == 1 or vertex in self.measured.vertex_factor
            if len(below) != 1 or not single or len(above) != 1:
                return None
            found.append(self._stage(vertex, edges[0])[1])
            vertex = self.measured.vertex[edges[0].child]
        return tuple(reversed(found))

    # --- one vertex ----------------------------------------------------------------------------

    def _stage(self, vertex: int, edge: Edge) -> tuple[str, Later]:
        """Return the name and the stage of a vertex whose data come in through `edge`."""
        return self.stage_of(vertex, self._shape(edge))

    def stage_of(self, vertex: int, shape: tuple[int, ...] | None) -> tuple[str, Later]:
        """Return the name and the stage of a vertex; `shape` is its data's, None where unknown."""
        op, node = self.graph.ops[vertex], self.measured.nodes[vertex]
        factor = self.measured.vertex_factor.get(vertex, op.factor)
        whole = vertex in self.measured.vertex_factor
        name = op.kind.lower()
        try:
            if factor == "weight" and op.kind == "Mul":
                return name, self._by_entry(op)
            frozen = op.kind in _LINEAR and _own(op, "weight") is not None
            if (factor == "weight" or frozen) and not whole:
                return _weight_name(op), self._weights(op, node, shape)
            if factor == "slope" and self._is_picked_from(vertex):
                reason = _("the pooling behind it picks the greatest: measure, do not predict")
                return op.activation or name, lambda _values: Unknown(reason)
            if factor == "slope":
                activation = self._activation(vertex)
                title = activation.name if activation else op.activation or _title(op, name)
                slope = Slope(activation, self._units(op), title)
                return title, lambda _values: slope
            if factor == "norm":
                return self._norm(vertex)
            stage = self._scale(op, node, shape, factor)
        except (RuntimeError, AttributeError, UnvanishError) as error:
            # a saved tensor that was changed in place, or a node of another torch
            stage = Unknown(f"{type(error).__name__}")
        return name, lambda _values: stage

    def _is_picked_from(self, vertex: int) -> bool:
        """Whether max pooling follows: the gradient comes back where the slope is greatest."""
        above = self._above(vertex)
        return above is not None and "MaxPool" in self.graph.ops[above].kind

    def _scale(self, op: Op, node: Node, shape: tuple[int, ...] | None, factor: str) -> Stage:
        module = op.call.module if op.call is not None else None
        if op.kind in _UNCHANGED:
            return Scale()
        if isinstance(module, nn.modules.dropout._DropoutNd) and op.kind in (
            "Mul",
            "NativeDropout",
        ):
            return _dropout(1.0 - module.p)
        if op.kind == "NativeDropout":
            return _dropout(1.0 - float(_saved(node, "_saved_p", 0.0)))
        if op.kind in ("Mul", "Div") and len(op.edges) == 1:
            constant = _saved(node, "_saved_other", None)
            if isinstance(constant, Tensor) and constant.dim() == 0:
                power = float(constant) ** (2 if op.kind == "Mul" else -2)
                return Scale(power, power)
        if factor == "pool" and shape is not None:
            pooled = _pooling(op, node, shape)
            if pooled is not None:
                return pooled
        told = _REASONS.get(factor, lambda: _("{op} is not known to theory").format(op=op.kind))
        return Unknown(told())

    def _activation(self, vertex: int) -> Activation | None:
        op, node = self.graph.ops[vertex], self.measured.nodes[vertex]
        if vertex in self.measured.vertex_factor:
            module = op.call.module if op.call is not None else None
            known = module is not None and type(module).__module__.startswith("torch.nn.modules")
            return resolve(module) if known and find(type(module).__name__) else None
        entry = find(op.activation or op.kind)
        if entry is None:
            return None
        if op.activation == "gelu_tanh":
            return named("gelu_tanh")
        if op.kind == "Elu" and float(_saved(node, "_saved_scale", 1.0)) != 1.0:
            return named("selu")
        if op.kind == "PreluKernel":
            return named("prelu", negative_slope=op.negative_slope or 0.0)
        given = {name: _saved(node, saved, None) for name, saved in _parameters_of(entry)}
        return build(entry, **{n: float(v) for n, v in given.items() if v is not None})

    # --- weights -------------------------------------------------------------------------------

    def _weights(self, op: Op, node: Node, shape: tuple[int, ...] | None) -> Later:
        weight = self._parameter(op)
        linear, convolution = op.kind in _LINEAR, op.kind.endswith("Convolution")
        if weight is None or not (linear or convolution):
            reason = _("its weights are computed from other parameters")
            return lambda _values: Unknown(reason)
        share = 1.0
        if convolution:
            if bool(_saved(node, "_saved_transposed", False)):
                reason = _("a transposed convolution")
                return lambda _values: Unknown(reason)
            share = _share(weight, node, shape)
        rows = weight if convolution or weight.shape[0] == op.shapes[0][-1] else weight.T
        return self._drawn(op, rows.detach(), self._bias(op), share)

    def _by_entry(self, op: Op) -> Later:
        """Return a product with a parameter, entry by entry, such as LayerScale."""
        leaves = [self.graph.ops[edge.child].variable for edge in op.edges]
        scales = [leaf for leaf in leaves if leaf is not None]
        if len(scales) != 1 or len(op.edges) != 2:
            reason = _("its weights are computed from other parameters")
            return lambda _values: Unknown(reason)
        size, count = self.reducer.norm(scales[0].detach()), scales[0].numel()

        def later(values: Values) -> Stage:
            power = 10.0 ** (2.0 * values[size]) / count
            return Scale(power, power)

        return later

    def _drawn(self, op: Op, rows: Tensor, bias: Tensor | None, share: float) -> Later:
        """Queue what says how a weight of shape (out, in, …) was drawn."""
        reducer, out = self.reducer, rows.shape[0]
        fan_in = rows.numel() // out
        size = reducer.norm(rows)
        mean = reducer.scalar(rows.sum(dtype=torch.float32) / math.sqrt(rows.numel()))
        offset = None if bias is None else reducer.norm(bias.detach())
        angle = _angles(rows, reducer)
        repeated = op.weight is not None and self.used.get(op.weight, 0) > 1

        def later(values: Values) -> Stage:
            variance = 10.0 ** (2.0 * values[size]) / out
            turned = None if angle is None else values[angle] * fan_in
            reason = None
            if repeated:
                reason = _("the same weights act again: measure, do not predict")
            elif abs(values[mean]) > _OFF_CENTRE * math.sqrt(max(variance, 1e-300) / fan_in):
                reason = _("the mean of its weights is not 0")
            elif turned is not None and turned > _ALIKE:
                reason = _("the rows of its weights look alike")
            return Weights(
                variance,
                0.0 if offset is None else 10.0 ** (2.0 * values[offset]) / out,
                units=rows.shape[1],
                share=share,
                drawn=0.0 if turned is not None and turned < _ORTHOGONAL else 1.0,
                reason=reason,
            )

        return later

    def _parameter(self, op: Op) -> Tensor | None:
        """Return the weight itself, as a leaf; None where it is made from something else."""
        for edge in op.edges:
            child = self.graph.ops[edge.child]
            while child.variable is None and child.kind in _TURNED and len(child.edges) == 1:
                child = self.graph.ops[child.edges[0].child]
            if child.variable is not None and not child.data and child.variable.dim() > 1:
                return child.variable
        if any(not self.graph.ops[edge.child].data for edge in op.edges if edge.input != 0):
            return None
        return _own(op, "weight")  # frozen: no edge leads to it

    def _bias(self, op: Op) -> Tensor | None:
        for edge in op.edges:
            variable = self.graph.ops[edge.child].variable
            if variable is not None and variable.dim() == 1 and not self.graph.ops[edge.child].data:
                return variable
        return _own(op, "bias")

    # --- norms ---------------------------------------------------------------------------------

    def _norm(self, vertex: int) -> tuple[str, Later]:
        op, node = self.graph.ops[vertex], self.measured.nodes[vertex]
        module = op.call.module if op.call is not None and not op.call.has_children else None
        kind = type(module).__name__ if module is not None else op.kind
        shape = op.shapes[0] if op.shapes else ()
        plain = kind.lower()
        entries = shape[-1] if shape else 1
        if "batchnorm" in plain:
            if not bool(_saved(node, "_saved_training", False)):
                reason = _("BatchNorm by its running statistics")
                return kind, lambda _values: Unknown(reason)
            over, entries = "batch", math.prod(shape) // shape[1]
        elif "rmsnorm" in plain:
            over = "rms"
        elif "layernorm" in plain:
            over, entries = "layer", _normalised(module, node, entries)
        elif "groupnorm" in plain:
            groups = getattr(module, "num_groups", None) or _saved(node, "_saved_group", 1)
            over, entries = "layer", math.prod(shape[1:]) // int(groups)
        else:
            reason = _("{op} is not known to theory").format(op=kind)
            return kind, lambda _values: Unknown(reason)
        return kind, self._scaled(op, module, over, entries, self._following(vertex))

    def _scaled(
        self,
        op: Op,
        module: nn.Module | None,
        over: str,
        entries: int,
        following: Activation | None,
    ) -> Later:
        affine = {edge.input: self.graph.ops[edge.child].variable for edge in op.edges}
        weight = affine.get(1) if affine.get(1) is not None else _own_of(module, "weight")
        bias = affine.get(2) if affine.get(2) is not None else _own_of(module, "bias")
        slots = [
            None if part is None else (self.reducer.norm(part.detach()), part.numel())
            for part in (weight, bias)
        ]
        eps = getattr(module, "eps", 1e-5)
        samples = op.shapes[0][0]

        def later(values: Values) -> Stage:
            gain, shift = (
                default if slot is None else 10.0 ** (2.0 * values[slot[0]]) / slot[1]
                for slot, default in zip(slots, (1.0, 0.0), strict=True)
            )
            return Norm(over, gain, shift, entries, samples, float(eps or 0.0), following)

        return later

    def _following(self, vertex: int) -> Activation | None:
        """Return the activation that a norm feeds, straight or through views."""
        above = self._above(vertex)
        if above is None:
            return None
        factor = self.measured.vertex_factor.get(above, self.graph.ops[above].factor)
        return self._activation(above) if factor == "slope" else None

    def _above(self, vertex: int) -> int | None:
        """Return the one vertex that takes what this one makes, looking through views."""
        for _step in range(4):
            consumers = {
                self.measured.vertex[edge.parent]
                for index in self.members.get(vertex, ())
                for edge in self.graph.consumers[index]
            } - {vertex}
            if len(consumers) != 1:
                return None
            vertex = consumers.pop()
            if self.graph.ops[vertex].kind not in _UNCHANGED:
                return vertex
        return None

    def _units(self, op: Op) -> int:
        """Return the width of an op's output: channels of an image, else the last dimension."""
        shape = op.shapes[0] if op.shapes else ()
        if len(shape) >= 4:
            return max(1, shape[1])
        return max(1, shape[-1]) if shape else 1

    def _shape(self, edge: Edge) -> tuple[int, ...]:
        shapes = self.graph.ops[edge.child].shapes
        return shapes[edge.slot] if edge.slot < len(shapes) else ()


@cache
def _parameters_of(entry: Entry) -> tuple[tuple[str, str], ...]:
    """Return the parameters of an activation, each with what its autograd node calls it."""
    taken = inspect.signature(entry.build).parameters
    return tuple((name, saved) for name, saved in _SAVED.items() if name in taken)


def _dropout(keep: float) -> Stage:
    return Scale(1.0 / keep, 1.0 / keep, mask=True) if keep > 0.0 else Scale(0.0, 0.0)


def _weight_name(op: Op) -> str:
    return "convolution" if op.kind.endswith("Convolution") else "linear"


def _title(op: Op, name: str) -> str:
    return type(op.call.module).__name__ if op.call is not None else name


def _saved(node: Node, name: str, default: Any) -> Any:
    """Return what an autograd node saved under this name; the default where it saved nothing.

    Nor is a tensor read that lies behind hooks (checkpointing): that would run code.
    """
    raw = getattr(node, name.replace("_saved_", "_raw_saved_", 1), None)
    if getattr(raw, "unpack_hook", None) is not None:
        return default
    value = getattr(node, name, default)
    return default if value is None else value


def _own(op: Op, name: str) -> Tensor | None:
    leaf = op.call is not None and not op.call.has_children
    return _own_of(op.call.module if leaf and op.call is not None else None, name)


def _own_of(module: nn.Module | None, name: str) -> Tensor | None:
    """Return a module's parameter without calling anything: a parametrised one has none."""
    return None if module is None else module._parameters.get(name)


def _angles(rows: Tensor, reducer: Reducer) -> int | None:
    """Queue the mean squared cosine of a few rows; 1/fan_in if they are independent."""
    few = rows[:_ROWS].reshape(min(_ROWS, rows.shape[0]), -1)
    if len(few) < 2 or few.shape[1] < 2 * _ROWS or not few.is_floating_point():
        return None
    gram = few.float() @ few.float().mT
    squares = gram.square()
    sizes = gram.diagonal()
    # Σ (wᵢ·wⱼ)² over pairs, by that of products of their squared lengths: the rows are of one size
    off = squares.sum() - squares.diagonal().sum()
    return reducer.scalar(off / (sizes.sum() ** 2 - squares.diagonal().sum()))


def _share(weight: Tensor, node: Node, shape: tuple[int, ...] | None) -> float:
    """Return the share of a convolution's taps that lie inside its input."""
    kernel = tuple(weight.shape[2:])
    if shape is None or len(shape) != len(kernel) + 2:
        return 1.0
    return taps_kept(
        kernel,
        shape[2:],
        padding=_saved(node, "_saved_padding", (0,) * len(kernel)),
        stride=_saved(node, "_saved_stride", (1,) * len(kernel)),
        dilation=_saved(node, "_saved_dilation", (1,) * len(kernel)),
    )


def _normalised(module: nn.Module | None, node: Node, entries: int) -> int:
    shape = getattr(module, "normalized_shape", None) or _saved(
        node, "_saved_normalized_shape", (entries,)
    )
    return math.prod(int(size) for size in shape)


def _pooling(op: Op, node: Node, shape: tuple[int, ...]) -> Stage | None:
    """Return a pooling whose windows do not overlap; what it does to lengths is left to measure."""
    outputs = math.prod(op.shapes[0]) if op.shapes else 0
    if not outputs or math.prod(shape) % outputs:
        return None
    window = math.prod(shape) // outputs
    if op.kind == "Mean":
        return Scale(1.0 / window, None)
    kernel = _saved(node, "_saved_kernel_size", None)
    if kernel is None:
        even = all(a % b == 0 for a, b in zip(shape, op.shapes[0], strict=False))
        return Scale(1.0 / window, None) if op.kind.startswith("AdaptiveAvg") and even else None
    stride = _saved(node, "_saved_stride", kernel) or kernel
    if tuple(stride) != tuple(kernel) or math.prod(kernel) != window:
        return None
    return Scale(1.0 if op.kind.startswith("Max") else 1.0 / window, None)
