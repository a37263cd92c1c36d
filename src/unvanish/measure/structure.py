"""What theory needs to know of a traced network: its trunk as stages, and the sizes of weights.

Read off the autograd graph before the backward, while its nodes still know their parameters. The
trunk is what lies between the network's output and its input: ops in a row, and sums of branches
that start at one tensor. Weights are only read; every number stays on its device until the trace
is resolved.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor, nn

from unvanish.errors import UnvanishError
from unvanish.i18n import _
from unvanish.meanfield.activation import Activation
from unvanish.meanfield.bridge import resolve
from unvanish.meanfield.catalogue import Entry, build, find, named
from unvanish.meanfield.stages import Norm, Scale, Slope, Stage, Sum, Unknown
from unvanish.measure import weights
from unvanish.measure.forward import ForwardSignal
from unvanish.measure.graph import Edge, Graph, Node, Op
from unvanish.measure.passes import BackwardPass
from unvanish.measure.path import cut_points
from unvanish.measure.reduce import Reducer
from unvanish.measure.weights import Later, Values, saved

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
    """The trunk in forward order, and what its first vertex starts from.

    `first` has no gain (nothing passes below the source), but makes the signal that all others
    start from.
    """

    elements: tuple[Element, ...]
    first: int
    first_stage: Later
    given: Given | None
    norms: dict[int, int]  # by id of a weight: the slot of its norm


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
        self.norms: dict[int, int] = {}
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
            elements=tuple(reversed(elements)),
            first=first,
            first_stage=self.stage_of(first, None)[1],
            given=self._given(first),
            norms=self.norms,
        )

    def _given(self, vertex: int) -> Given | None:
        """Queue the length of what the first op takes, where it is a linear map that saved it."""
        node = self.measured.nodes[vertex]
        for name in _GIVEN.get(self.graph.ops[vertex].kind, ()):
            value = saved(node, name, None)
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
            stage = Unknown(self._reason(head, foot))
            return Element(head, foot, op.kind.lower(), lambda _values: stage)
        units = self._units(op)

        def later(values: Values) -> Stage:
            return Sum(tuple(tuple(one(values) for one in branch) for branch in laters), units)

        return Element(head, foot, "sum", later)

    def _reason(self, head: int, foot: int) -> str:
        """Say why a part between two ops is not known to theory: what is in it."""
        inside, stack = {head}, [head]
        while stack:
            below = {self.measured.vertex[edge.child] for edge in self._below(stack.pop())}
            fresh = below - inside - {foot}
            inside |= fresh
            stack.extend(fresh)
        factors = {self.graph.ops[vertex].factor for vertex in inside}
        told = next((_REASONS[name] for name in _REASONS if name in factors), None)
        return told() if told else _("paths that part and meet in another way")

    def _plain_sum(self, op: Op, edges: list[Edge]) -> bool:
        """Whether an Add adds its inputs as they are: of one shape, none scaled."""
        shapes = {self._shape(edge) for edge in edges} | {op.shapes[0]}
        return len(shapes) == 1 and saved(self.measured.nodes[op.index], "_saved_alpha", 1) == 1

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
            frozen = op.kind in weights.LINEAR and weights.own(op, "weight") is not None
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
            return _dropout(1.0 - float(saved(node, "_saved_p", 0.0)))
        if op.kind in ("Mul", "Div") and len(op.edges) == 1:
            constant = saved(node, "_saved_other", None)
            if isinstance(constant, Tensor) and constant.dim() == 0 and constant.is_cpu:
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
        if op.kind == "Elu" and float(saved(node, "_saved_scale", 1.0)) != 1.0:
            return named("selu")
        if op.kind == "PreluKernel":
            return named("prelu", negative_slope=op.negative_slope or 0.0)
        given = {name: saved(node, key, None) for name, key in _parameters_of(entry)}
        return build(entry, **{n: float(v) for n, v in given.items() if v is not None})

    # --- weights -------------------------------------------------------------------------------

    def _weights(self, op: Op, node: Node, shape: tuple[int, ...] | None) -> Later:
        weight = weights.leaf_of(self.graph, op)
        linear, convolution = op.kind in weights.LINEAR, op.kind.endswith("Convolution")
        reason = None
        if weight is None or not (linear or convolution):
            reason = _("its weights are computed from other parameters")
        elif hasattr(weight, "to_local"):  # reading the whole would be a collective
            reason = _("its weights are spread over ranks")
        elif convolution and bool(saved(node, "_saved_transposed", False)):
            reason = _("a transposed convolution")
        if weight is None or reason is not None:
            stage = Unknown(reason or "")
            return lambda _values: stage
        upright = convolution or weight.shape[0] == op.shapes[0][-1]
        rows = weight.detach() if upright else weight.detach().mT
        size = self.norms.get(id(weight))
        if size is None:
            size = self.norms[id(weight)] = self.reducer.norm(rows)
        return weights.drawn(
            rows,
            weights.bias_of(self.graph, op),
            self.reducer,
            size=size,
            share=weights.share(weight, node, shape) if convolution else 1.0,
            repeated=op.weight is not None and self.used.get(op.weight, 0) > 1,
        )

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

    # --- norms ---------------------------------------------------------------------------------

    def _norm(self, vertex: int) -> tuple[str, Later]:
        op, node = self.graph.ops[vertex], self.measured.nodes[vertex]
        module = op.call.module if op.call is not None and not op.call.has_children else None
        kind = type(module).__name__ if module is not None else op.kind
        shape = op.shapes[0] if op.shapes else ()
        plain = kind.lower()
        entries = shape[-1] if shape else 1
        if "batchnorm" in plain:
            if not bool(saved(node, "_saved_training", False)):
                reason = _("BatchNorm by its running statistics")
                return kind, lambda _values: Unknown(reason)
            over, entries = "batch", math.prod(shape) // shape[1]
        elif "rmsnorm" in plain:
            over = "rms"
        elif "layernorm" in plain:
            over, entries = "layer", _normalised(module, node, entries)
        elif "groupnorm" in plain:
            groups = getattr(module, "num_groups", None) or saved(node, "_saved_group", 1)
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
        weight = affine.get(1) if affine.get(1) is not None else weights.own_of(module, "weight")
        bias = affine.get(2) if affine.get(2) is not None else weights.own_of(module, "bias")
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


def _normalised(module: nn.Module | None, node: Node, entries: int) -> int:
    shape = getattr(module, "normalized_shape", None) or saved(
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
    kernel = saved(node, "_saved_kernel_size", None)
    if kernel is None:
        even = all(a % b == 0 for a, b in zip(shape, op.shapes[0], strict=False))
        return Scale(1.0 / window, None) if op.kind.startswith("AdaptiveAvg") and even else None
    stride = saved(node, "_saved_stride", kernel) or kernel
    if tuple(stride) != tuple(kernel) or math.prod(kernel) != window:
        return None
    return Scale(1.0 if op.kind.startswith("Max") else 1.0 / window, None)
