"""What stands in front of each weight and behind it, read off a traced graph.

The graph is the one that the tool measures on: autograd's, with an owner and a factor for each op.
From a weight, one walks over what neither bends nor scales a signal (views, dropout, pooling,
concatenation) to the next thing that does; sums are split into a skip and branches at the op where
their inputs part, which is the immediate dominator of the sum.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import networkx
from torch import nn

from unvanish.errors import UnvanishError
from unvanish.meanfield import Activation, named
from unvanish.meanfield.bridge import resolve
from unvanish.meanfield.catalogue import find
from unvanish.measure.factors import EMBEDDINGS
from unvanish.measure.graph import Op
from unvanish.measure.passes import BackwardPass
from unvanish.measure.path import recurrent_weights
from unvanish.records import Factor

EndKind = Literal[
    "activation", "norm", "attention", "gate", "weight", "sum", "embedding", "input", "output",
    "recurrence", "unknown",
]  # fmt: skip
_UNIFORM_NORMS = frozenset(
    {"NativeBatchNorm", "CudnnBatchNorm", "MiopenBatchNorm", "NativeLayerNorm", "FusedRmsNorm"}
)
_ENTRYWISE = frozenset({"Mul", "Div", "Addcmul"})  # a parameter as a factor: no linear map
_STOPS: Mapping[Factor, EndKind] = {
    "norm": "norm",
    "attention": "attention",
    "gate": "gate",
    "recurrence": "recurrence",
    "opaque": "unknown",
    "loss": "output",
}


@dataclass(frozen=True, slots=True)
class End:
    """Where a walk from a weight came to an end."""

    kind: EndKind
    op: int  # -1 where the network begins or ends
    activation: Activation | None = None
    pooled: bool = False  # a reduction lay on the way


@dataclass(frozen=True, slots=True)
class Branch:
    """The last weight (or norm) of a branch that is added to a skip: the `index`-th of `count`."""

    index: int
    count: int
    post_norm: bool  # a norm, and nothing else, takes every sum


@dataclass(slots=True)
class Site:
    """One parameter that acts as a linear map, and what surrounds it."""

    parameter: str
    ops: list[int]
    order: int
    before: tuple[End, ...] = ()
    after: tuple[End, ...] = ()
    branch: Branch | None = None
    recurrent: bool = False  # acts again on what it has made
    previous: str | None = None  # the weight before, where nothing but these two lies between:
    next: str | None = None
    activation: Activation | None = None  # the one in front of `next`
    normed: bool = False  # a normalisation in front of that activation


@dataclass(slots=True)
class Structure:
    """Weights by name, in forward order; `norm_branches` are norms that end a residual branch."""

    sites: dict[str, Site] = field(default_factory=dict)
    norm_branches: dict[str, Branch] = field(default_factory=dict)


def read(measured: BackwardPass, names: Mapping[int, str]) -> Structure:
    """Read the structure; `names` is by id of parameter."""
    return _Reader(measured, names).structure()


class _Reader:
    def __init__(self, measured: BackwardPass, names: Mapping[int, str]) -> None:
        self.measured, self.names = measured, names
        self.graph = measured.graph
        self.activations: dict[int, Activation | None] = {}  # by vertex
        self.modules: dict[int, Activation | None] = {}  # by id: one may be called a hundred times

    def structure(self) -> Structure:
        found = Structure()
        recurrent = recurrent_weights(self.graph)
        for op in sorted(self.graph.ops, key=lambda op: op.order):
            name = self.names.get(op.weight) if op.weight is not None else None
            if name is None or not self._is_map(op):
                continue
            site = found.sites.setdefault(name, Site(name, [], op.order))
            site.ops.append(op.index)
            site.recurrent = op.weight in recurrent
        for site in found.sites.values():
            site.before = tuple(dict.fromkeys(e for op in site.ops for e in self._before(op)))
            site.after = tuple(dict.fromkeys(e for op in site.ops for e in self._after(op)))
        self._link(found)
        self._branches(found)
        return found

    # --- walks ---------------------------------------------------------------------------------

    def _factor(self, index: int) -> Factor:
        vertex = self.measured.vertex[index]
        return self.measured.vertex_factor.get(vertex, self.graph.ops[index].factor)

    def _is_map(self, op: Op) -> bool:
        return op.data and op.factor == "weight" and op.kind not in _ENTRYWISE | EMBEDDINGS

    def _after(self, start: int) -> list[End]:
        """Return where what op `start` hands on is taken up."""
        return list(self._walk(start, self._consumers, "output"))

    def _before(self, start: int) -> list[End]:
        """Return where what op `start` takes was made."""
        if self.graph.ops[start].source:
            return [End("input", -1)]
        return list(self._walk(start, self._producers, "input"))

    def _consumers(self, index: int) -> list[int]:
        edges = self.graph.consumers[index]
        return [edge.parent for edge in edges if not self.graph.ops[edge.parent].after_output]

    def _producers(self, index: int) -> list[int]:
        return [edge.child for edge in self.graph.data_edges(index)]

    def _walk(
        self, start: int, neighbours: Callable[[int], list[int]], outside: EndKind
    ) -> Iterator[End]:
        stack: list[tuple[int, bool]] = [(start, False)]
        seen = {start}
        while stack:
            index, pooled = stack.pop()
            following = neighbours(index)
            if not following:
                yield End(outside, -1, pooled=pooled)
            for other in following:
                if other in seen:
                    continue
                seen.add(other)
                end = self._end(other, pooled, outside)
                if end is None:
                    stack.append((other, pooled or self._factor(other) == "pool"))
                else:
                    yield end

    def _end(self, index: int, pooled: bool, outside: EndKind) -> End | None:
        """Return what op `index` is at the end of a walk; None where the walk goes on."""
        op, factor = self.graph.ops[index], self._factor(index)
        if op.kind in EMBEDDINGS:
            return End("embedding", index)
        if op.variable is not None:
            return End("input", -1, pooled=pooled)
        if factor == "slope":
            return End("activation", index, self._activation(index), pooled)
        if self._is_map(op):
            return End("weight", index, pooled=pooled)
        if factor in _STOPS:
            return End(_STOPS[factor], index, pooled=pooled)
        if factor == "merge" and op.kind in ("Add", "Sub") and len(self._producers(index)) > 1:
            return End("sum", index, pooled=pooled)
        if outside == "input" and op.source:
            return End("input", -1, pooled=pooled)
        return None

    # --- activations ---------------------------------------------------------------------------

    def _activation(self, index: int) -> Activation | None:
        vertex = self.measured.vertex[index]
        if vertex not in self.activations:
            self.activations[vertex] = self._resolve(vertex)
        return self.activations[vertex]

    def _resolve(self, vertex: int) -> Activation | None:
        op = self.graph.ops[vertex]
        whole = vertex in self.measured.vertex_factor
        module = op.call.module if op.call is not None and not op.call.has_children else None
        if module is not None and (whole or "activation" in type(module).__module__):
            if id(module) not in self.modules:
                self.modules[id(module)] = _quietly(lambda: resolve(module))
            return self.modules[id(module)]
        return _quietly(lambda: _of_node(op, self.measured.nodes[vertex]))

    # --- runs, sums ----------------------------------------------------------------------------

    def _link(self, found: Structure) -> None:
        """Note which weights follow each other with but an activation, or a norm and one, between.

        Of norms only those that treat all units alike, so that a mirrored pair stays one.
        """
        by_op = {site.ops[0]: site for site in found.sites.values() if len(site.ops) == 1}
        for site in by_op.values():
            end = site.after[0] if len(site.after) == 1 else None
            normed = end is not None and self.graph.ops[end.op].kind in _UNIFORM_NORMS
            if end is not None and end.kind == "norm" and normed:
                end = self._only_end(end.op)
            if end is None or end.kind != "activation":
                continue
            last = self._only_end(end.op)
            follower = by_op.get(last.op) if last is not None else None
            if follower is not None and [e.kind for e in follower.before] == ["activation"]:
                site.next, follower.previous = follower.parameter, site.parameter
                site.activation, site.normed = end.activation, normed

    def _only_end(self, index: int) -> End | None:
        """Return the one place where what the vertex of op `index` makes is taken up."""
        ends = [end for op in self._outputs(index) for end in self._after(op)]
        return ends[0] if len(ends) == 1 else None

    def _outputs(self, index: int) -> list[int]:
        """Return the ops that hand on what the vertex of op `index` makes."""
        vertex = self.measured.vertex[index]
        if vertex not in self.measured.vertex_factor:
            return [index]
        inside = [op.index for op in self.graph.ops if self.measured.vertex[op.index] == vertex]
        return [
            one
            for one in inside
            if any(self.measured.vertex[e.parent] != vertex for e in self.graph.consumers[one])
        ]

    def _branches(self, found: Structure) -> None:
        """Note the weights and norms that end a residual branch."""
        sums = sorted(
            (op for op in self.graph.ops if op.data and op.kind in ("Add", "Sub")),
            key=lambda op: op.order,
        )
        grouped = self.measured.vertex_factor  # a sum inside a hand-written GELU is none
        sums = [
            op
            for op in sums
            if len(self._producers(op.index)) > 1 and self.measured.vertex[op.index] not in grouped
        ]
        if not sums:
            return
        forks = self._forks()
        residual: list[tuple[Op, list[int]]] = []
        for op in sums:
            fork = forks.get(op.index, -1)
            sides = self._producers(op.index)
            maps = [self._maps_between(side, fork) for side in sides]
            if fork >= 0 and min(maps) < max(maps):
                residual.append(
                    (op, [s for s, n in zip(sides, maps, strict=True) if n > min(maps)])
                )
        by_op = {op: site for site in found.sites.values() for op in site.ops}
        post = all(
            {end.kind for end in self._after(op.index)} == {"norm"} for op, _sides in residual
        )
        for place, (_op, sides) in enumerate(residual):
            branch = Branch(place, len(residual), post)
            for end in self._branch_ends(sides):
                norm = self._norm_weight(end)
                if end in by_op:
                    by_op[end].branch = by_op[end].branch or branch
                elif norm is not None:
                    found.norm_branches.setdefault(norm, branch)

    def _forks(self) -> dict[int, int]:
        """Return the immediate dominator of each data op, seen from the sources."""
        flow = networkx.DiGraph()
        for op in self.graph.ops:
            if op.data:
                flow.add_node(op.index)
                if op.source:
                    flow.add_edge(-1, op.index)
                flow.add_edges_from((child, op.index) for child in self._producers(op.index))
        found: dict[int, int] = networkx.immediate_dominators(flow, -1)
        return found

    def _maps_between(self, start: int, fork: int) -> int:
        """Return how many linear maps lie between op `start` and the fork."""
        count, stack, seen = 0, [start], {start, fork}
        if start == fork:
            return 0
        while stack:
            index = stack.pop()
            count += self._is_map(self.graph.ops[index])
            for child in self._producers(index):
                if child not in seen:
                    seen.add(child)
                    stack.append(child)
        return count

    def _branch_ends(self, sides: Iterable[int]) -> Iterator[int]:
        """Yield the last norm with a weight, or the last linear map, of each branch."""
        for side in sides:
            stack, seen = [side], {side}
            while stack:
                index = stack.pop()
                if self._is_map(self.graph.ops[index]) or self._norm_weight(index) is not None:
                    yield index
                    continue
                if self._factor(index) in ("slope", "attention", "gate"):
                    continue  # an activation ends this branch: nothing to scale
                for child in self._producers(index):
                    if child not in seen:
                        seen.add(child)
                        stack.append(child)

    def _norm_weight(self, index: int) -> str | None:
        if self._factor(index) != "norm":
            return None
        edges = self.graph.ops[index].edges
        leaves = [self.graph.ops[edge.child].variable for edge in edges]
        named_leaves = [self.names[id(leaf)] for leaf in leaves if id(leaf) in self.names]
        return next((name for name in named_leaves if name.endswith("weight")), None)


def _of_node(op: Op, node: Any) -> Activation | None:
    """Return the activation of one autograd node, with the parameters that it saved."""
    name = op.activation
    if name is None or find(name) is None:
        return None
    if op.negative_slope is not None:
        return (
            named("leaky_relu", negative_slope=op.negative_slope)
            if op.negative_slope
            else (named("relu"))
        )
    if name == "elu":
        scale = float(node._saved_scale)
        return named("elu", alpha=float(node._saved_alpha)) if scale == 1.0 else named("selu")
    if name == "softplus":
        return named("softplus", beta=float(node._saved_beta))
    if name == "hardtanh":
        low, high = float(node._saved_min_val), float(node._saved_max_val)
        return named("hardtanh", min_val=low, max_val=high)
    return named(name)


def in_module_order(model: nn.Module, names: Mapping[int, str]) -> Structure:
    """Guess the structure from the order in which modules are registered.

    For models whose input nobody knows: activations that are functions, sums and everything else
    that `forward` does are not seen.
    """
    found = Structure()
    last: Site | None = None
    between: list[End] = []
    for module in model.modules():
        if next(module.children(), None) is not None:
            continue
        weight = getattr(module, "weight", None)
        name = names.get(id(weight))
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd) and name is not None:
            site = Site(name, [len(found.sites)], len(found.sites))
            site.before = tuple(between) if last is not None else (End("input", -1),)
            if last is not None:
                last.after = tuple(between) or (End("weight", site.ops[0]),)
                if [end.kind for end in between] == ["activation"]:
                    last.next, site.previous = name, last.parameter
                    last.activation = between[0].activation
                site.before = site.before or (End("weight", last.ops[0]),)
            found.sites[name] = site
            last, between = site, []
        elif "norm" in type(module).__name__.lower():
            between.append(End("norm", -1))
        elif "activation" in type(module).__module__ and not isinstance(
            module, nn.MultiheadAttention
        ):
            between.append(End("activation", -1, _quietly(functools.partial(resolve, module))))
    if last is not None:
        last.after = (*between, End("output", -1))
    return found


def _quietly(read: Callable[[], Activation | None]) -> Activation | None:
    """Return what `read` returns, None where it is no activation that theory can use."""
    try:
        return read()
    except UnvanishError:
        return None
