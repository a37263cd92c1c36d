"""The autograd graph as indices: ops, edges, owners, factors, sources. No numbers yet.

PyTorch's graph already is the chain rule, one node a factor. It is walked with an explicit stack
and turned into plain lists, so that hooks can refer to integers: a closure over a node would keep
the whole graph alive.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from unvanish.measure.calls import ModuleCall
from unvanish.measure.factors import (
    BILINEAR,
    ELEMENTWISE,
    EMBEDDINGS,
    NORM_REDUCTIONS,
    activation_of,
    factor_of,
    plain_name,
)
from unvanish.measure.sharding import plain_class
from unvanish.records import Factor

Node = Any  # torch.autograd.graph.Node
_LEAF = "AccumulateGrad"


@dataclass(slots=True)
class Edge:
    """From an op to what produced one of its inputs: (`child`, output `slot` of the child)."""

    parent: int
    input: int
    child: int
    slot: int


@dataclass(slots=True)
class Op:
    """One node of the graph. `data` tells whether a path to a source passes it."""

    index: int
    name: str  # autograd name
    kind: str  # plain name
    sequence: int
    shapes: tuple[tuple[int, ...], ...]
    edges: list[Edge] = field(default_factory=list)
    has_constant_input: bool = False
    variable: Tensor | None = None  # the leaf, for AccumulateGrad
    data: bool = False
    source: bool = False
    call: ModuleCall | None = None
    factor: Factor = "opaque"
    activation: str | None = None
    negative_slope: float | None = None
    weight: int | None = None  # id of the parameter of a linear map
    known: bool = True  # the factor is from the table
    after_output: bool = False  # between the network's output and the loss

    @property
    def order(self) -> int:
        """Sort key of forward order; leaves come first."""
        return -1 if self.variable is not None else self.sequence


@dataclass(slots=True)
class Graph:
    """Ops reachable from the roots, the loss's op first, and who consumes what."""

    ops: list[Op]
    roots: tuple[int, ...]
    consumers: list[list[Edge]]  # by op: edges that lead into it
    topological: list[int]  # every op after all its consumers

    def data_edges(self, index: int) -> list[Edge]:
        """Return the edges of op `index` along which a path to a source goes."""
        return [edge for edge in self.ops[index].edges if self.ops[edge.child].data]

    def sources(self) -> list[int]:
        """Return the ops where paths end."""
        return [op.index for op in self.ops if op.source]


def walk(roots: Sequence[Tensor]) -> tuple[list[Node], Graph]:
    """Walk the graph below `roots`; return its nodes (in index order) and the graph."""
    nodes: list[Node] = []
    index_of: dict[Node, int] = {}
    ops: list[Op] = []
    start = [tensor.grad_fn for tensor in roots if tensor.grad_fn is not None]
    stack = list(reversed(start))
    while stack:
        node = stack.pop()
        if node in index_of:
            continue
        index_of[node] = len(nodes)
        nodes.append(node)
        ops.append(_op(len(ops), node))
        stack.extend(child for child, _ in reversed(node.next_functions) if child is not None)
    consumers: list[list[Edge]] = [[] for _ in ops]
    for op, node in zip(ops, nodes, strict=True):
        for position, (child, slot) in enumerate(node.next_functions):
            if child is None:
                op.has_constant_input = True
                continue
            edge = Edge(op.index, position, index_of[child], slot)
            op.edges.append(edge)
            consumers[edge.child].append(edge)
    root_indices = tuple(dict.fromkeys(index_of[node] for node in start))
    return nodes, Graph(ops, root_indices, consumers, _topological(ops, consumers))


def _op(index: int, node: Node) -> Op:
    name = node.name()
    kind = plain_name(name)
    if kind == _LEAF:
        variable = node.variable
        return Op(index, name, kind, -1, (tuple(variable.shape),), variable=variable)
    shapes = tuple(tuple(int(size) for size in meta.shape) for meta in node._input_metadata)
    return Op(index, name, kind, node._sequence_nr(), shapes)


def _topological(ops: list[Op], consumers: list[list[Edge]]) -> list[int]:
    waiting = [len(edges) for edges in consumers]
    ready = [op.index for op in ops if waiting[op.index] == 0]
    order: list[int] = []
    while ready:
        index = ready.pop()
        order.append(index)
        for edge in ops[index].edges:
            waiting[edge.child] -= 1
            if waiting[edge.child] == 0:
                ready.append(edge.child)
    return order


# --- owners ------------------------------------------------------------------------------------


def assign_owners(graph: Graph, calls: Sequence[ModuleCall]) -> None:
    """Give each op the innermost call whose span holds its sequence number.

    Numbers are per thread. Where spans of several threads hold the same number the op is left
    unowned.
    """
    by_thread: dict[int, list[ModuleCall]] = {}
    for call in calls:
        if call.end > call.start:
            by_thread.setdefault(call.thread, []).append(call)
    order = sorted((op for op in graph.ops if op.variable is None), key=lambda op: op.sequence)
    ambiguous: set[int] = set()
    for spans in by_thread.values():
        for op, call in _innermost(order, spans):
            if op.call is not None:
                ambiguous.add(op.index)
            op.call = call
    for index in ambiguous:
        graph.ops[index].call = None


def _innermost(ops: Sequence[Op], spans: Sequence[ModuleCall]) -> Iterable[tuple[Op, ModuleCall]]:
    """Sweep both lists in order of sequence number, with the open calls on a stack."""
    position = 0
    open_calls: list[ModuleCall] = []
    for op in ops:
        while position < len(spans) and spans[position].start <= op.sequence:
            open_calls.append(spans[position])
            position += 1
        while open_calls and open_calls[-1].end <= op.sequence:
            open_calls.pop()
        if open_calls:
            yield op, open_calls[-1]


# --- sources and parameters -----------------------------------------------------------------------


def mark_data(graph: Graph, known_parameters: frozenset[int], batch_size: int | None) -> None:
    """Tell data from parameters: mark sources, and every op that a path to a source passes.

    A source is a data leaf, an embedding, or the first op whose data input needs no gradient. What
    depends on parameters only (a transposed weight, an expanded token, weight normalisation, a
    positional embedding without a batch dimension) is no source.
    """
    ops = graph.ops
    for index in reversed(graph.topological):
        op = ops[index]
        if op.variable is not None:
            op.source = not (_is_parameter(op.variable, known_parameters))
        elif not any(ops[edge.child].data for edge in op.edges):
            op.source = _takes_data(op, ops, batch_size)
        op.data = op.source or any(ops[edge.child].data for edge in op.edges)
    _drop_sources_without_batch(graph, batch_size)


def _is_parameter(variable: Tensor, known: frozenset[int]) -> bool:
    return isinstance(variable, nn.Parameter) or id(variable) in known


def _takes_data(op: Op, ops: list[Op], batch_size: int | None) -> bool:
    """Whether an op whose inputs with gradients are all parameters also takes data without one."""
    if op.kind in EMBEDDINGS or not op.edges:
        return True
    if not op.has_constant_input:
        return False
    if factor_of(op.kind) in ("weight", "recurrence"):
        return True
    if factor_of(op.kind) in ("norm", "attention"):
        return all(edge.input > 0 for edge in op.edges)
    shape = op.shapes[0] if op.shapes else ()
    parameters = [_shape_of(edge, ops) for edge in op.edges]
    if factor_of(op.kind) is None and shape[:1] == (batch_size,):
        return shape not in parameters
    # An element-wise op: its other operand is data if it is larger than the parameter (the
    # parameter was broadcast), and a mask or a constant if it is not.
    return all(_numel(parameter) < _numel(shape) for parameter in parameters)


def _shape_of(edge: Edge, ops: list[Op]) -> tuple[int, ...]:
    shapes = ops[edge.child].shapes
    return shapes[edge.slot] if edge.slot < len(shapes) else ()


def _numel(shape: tuple[int, ...]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product


def _drop_sources_without_batch(graph: Graph, batch_size: int | None) -> None:
    """Where some sources have the batch dimension, those without it are parameters in disguise."""
    if batch_size is None:
        return
    sources = [op for op in graph.ops if op.source]
    batched = {op.index for op in sources if any(batch_size in shape[:2] for shape in op.shapes)}
    dropped = [
        op
        for op in sources
        if op.index not in batched and op.kind in EMBEDDINGS | {"Expand", "Add", "Mul"}
    ]
    if not batched or not dropped:
        return
    for op in dropped:
        op.source = False
    for index in reversed(graph.topological):
        op = graph.ops[index]
        op.data = op.source or any(graph.ops[edge.child].data for edge in op.edges)


# --- factors --------------------------------------------------------------------------------------


def assign_factors(graph: Graph, nodes: Sequence[Node]) -> None:
    """Give each data op its factor: by table, then by structure, then by where it lies."""
    for op in graph.ops:
        if not op.data or op.variable is not None:
            continue
        factor = factor_of(op.kind)
        op.known = factor is not None
        parameters = [edge for edge in op.edges if not graph.ops[edge.child].data]
        data = [edge for edge in op.edges if graph.ops[edge.child].data]
        if op.kind in BILINEAR:
            factor = _bilinear_factor(op, parameters, data)
        elif factor is None:
            factor = "weight" if parameters else "opaque"
        op.factor = factor
        if factor == "weight" and parameters and op.kind not in EMBEDDINGS:
            op.weight = _parameter_behind(graph, parameters)
        if factor == "slope":
            op.activation, op.negative_slope = activation_of(op.kind, nodes[op.index])
    _mark_after_output(graph)


def _bilinear_factor(op: Op, parameters: list[Edge], data: list[Edge]) -> Factor:
    """Return the factor of a product: with a parameter, of two data tensors, with a constant."""
    if parameters:
        return "weight"
    if len(data) < 2:
        # A matrix product with a constant is a fixed linear map; with a mask or number a scale.
        return "scale"
    return "attention" if op.kind in ("Bmm", "Mm", "Baddbmm") else "gate"


def _parameter_behind(graph: Graph, edges: list[Edge]) -> int | None:
    """Return the id of the largest parameter that these edges lead to."""
    best: Tensor | None = None
    stack = [edge.child for edge in edges]
    seen: set[int] = set()
    while stack:
        index = stack.pop()
        if index in seen:
            continue
        seen.add(index)
        variable = graph.ops[index].variable
        if variable is not None and (best is None or variable.numel() > best.numel()):
            best = variable
        stack.extend(edge.child for edge in graph.ops[index].edges)
    return None if best is None else id(best)


def _is_loss_call(call: ModuleCall | None) -> bool:
    """Whether a call is a loss module: of torch.nn's, or parameter-free with a scalar output."""
    while call is not None:
        if type(call.module).__module__ == "torch.nn.modules.loss":
            return True
        if call.parent is None:
            break
        call = call.parent
    return (
        call is not None and call.output_is_scalar and next(call.module.parameters(), None) is None
    )


def _mark_after_output(graph: Graph) -> None:
    """Mark what lies between the network's output and the loss, and call it `loss`.

    That is what is reached from the roots without passing an op owned by a module that is no loss.
    Where no module owns anything (a network written with functions) only the table's losses count.
    """
    owned = any(op.call is not None and not _is_loss_call(op.call) for op in graph.ops)
    for index in graph.topological:
        op = graph.ops[index]
        if not op.data or op.variable is not None:
            continue
        reached = all(graph.ops[edge.parent].after_output for edge in graph.consumers[index])
        outside = owned and (op.call is None or _is_loss_call(op.call))
        reduces = op.factor in ("pool", "scale", "merge", "gate") and _numel_is_one(op)
        op.after_output = reached and (outside or op.factor == "loss" or reduces)
        if op.after_output and not op.source:
            op.factor = "loss"


def _numel_is_one(op: Op) -> bool:
    return bool(op.shapes) and all(_numel(shape) == 1 for shape in op.shapes)


# --- module calls that are one factor as a whole ------------------------------------------------


def whole_call_groups(graph: Graph) -> list[tuple[list[int], Factor]]:
    """Return the ops of each leaf call that is as a whole a norm or element-wise, with its factor.

    An RMSNorm is Pow, Mean, Rsqrt and Mul; a hand-written GELU is Pow, Mul and Tanh: the call is
    the factor, its inner ops are detail. A call is left open where one of its outputs is also used
    inside, or where it has several inputs.
    """
    by_call: dict[int, list[int]] = {}
    for op in graph.ops:
        if op.data and op.call is not None and not op.call.has_children and op.variable is None:
            by_call.setdefault(id(op.call), []).append(op.index)
    groups: list[tuple[list[int], Factor]] = []
    for members in by_call.values():
        if len(members) < 2:
            continue
        factor = _whole_factor(graph, members)
        if factor is not None and _closed(graph, members):
            groups.append((members, factor))
    return groups


def _whole_factor(graph: Graph, members: list[int]) -> Factor | None:
    ops = [graph.ops[index] for index in members]
    kinds = {op.kind for op in ops}
    call = ops[0].call
    assert call is not None
    if "norm" in plain_class(call.module).lower() or _divides_by_a_size(kinds):
        return "norm"
    has_parameters = next(call.module.parameters(recurse=False), None) is not None
    shapes = {op.shapes[0] for op in ops if op.shapes}
    if has_parameters or len(shapes) != 1 or not kinds <= ELEMENTWISE:
        return None
    return "slope" if any(factor_of(kind) == "slope" for kind in kinds) else None


def _divides_by_a_size(kinds: set[str]) -> bool:
    """Whether ops are those of a normalisation: a reduction, a root or a norm, and a product."""
    known = kinds <= ELEMENTWISE | NORM_REDUCTIONS | {"Expand", "View", "Unsqueeze", "Squeeze"}
    rooted = bool(kinds & {"Rsqrt", "Sqrt", "Pow", "Std", "StdMean", "LinalgVectorNorm", "Norm"})
    divides = bool(kinds & {"Rsqrt", "Div", "Reciprocal"})
    return known and rooted and divides and bool(kinds & NORM_REDUCTIONS)


def _closed(graph: Graph, members: list[int]) -> bool:
    inside = set(members)
    inputs = {
        (edge.child, edge.slot)
        for index in members
        for edge in graph.data_edges(index)
        if edge.child not in inside
    }
    outputs = [
        index
        for index in members
        if any(edge.parent not in inside for edge in graph.consumers[index])
    ]
    used_inside = any(edge.parent in inside for index in outputs for edge in graph.consumers[index])
    return len(inputs) <= 1 and len(outputs) == 1 and not used_inside
