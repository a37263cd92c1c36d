"""The trunk: a main path below the network's output, its edges sorted by what weakens the signal.

A verdict rests on the *ratio* of the level at the far end to the level at the network's output.
From it are left out, although the path lists them:

- what belongs to the loss (verdicts start at the network's output);
- pools and constants, which are shown and never blamed;
- the squashing at the output (sigmoid, softmax, tanh behind the last layer): it belongs with the
  loss, whose own slope often undoes it (cross-entropy); the rules of the loss head judge it;
- an element-wise learnt scale (LayerScale and its kin): 1e-5 there is a design, not a fault;
- weights, norms and gates that an earlier step found at exactly zero (zero-initialised branches
  and heads): they grow from there;
- a normalisation right behind the source: it divides by a scale that nothing else refers to.

A weight directly followed by a normalisation is judged jointly with it: multiplying that weight by
a constant changes neither the output nor the product of the two gains, only how it is shared out.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from unvanish.records import LayerSignal, MainPath, PathEdge, Trace

Part = Literal[
    "slope",  # a smooth activation whose slope is small by nature (or large)
    "saturation",  # one whose units are driven into their flat ends
    "off",  # a rectifier: more units off than the half it is made for
    "weight",
    "recurrence",
    "norm",
    "attention",
    "gate",
    "merge",
    "opaque",
    "shown",  # listed, never blamed
]

Place = tuple[str | None, str]  # module and op

_RECTIFIERS = ("relu", "leaky", "prelu", "rrelu", "threshold")
_ELEMENTWISE = ("mul", "div")
_STEP_FUNCTIONS = ("Round", "Sign", "Sgn", "Floor", "Ceil", "Trunc", "Heaviside")
_HEAD = ("loss", "slope", "attention", "pool", "scale")
_NEGLIGIBLE = 1e-6  # decades: a merge term that only rounding made
UNDERFLOW = -30.0  # level below which an exact zero in float32 may be underflow


@dataclass(frozen=True, slots=True)
class TrunkEdge:
    """An edge of the trunk, the row it belongs to, and what it is counted as."""

    edge: PathEdge
    layer: LayerSignal | None
    part: Part


class Trunk:
    """One main path from the network's output down to its source."""

    def __init__(
        self,
        path: MainPath,
        trace: Trace,
        saturated: float,
        born_zero: frozenset[Place] = frozenset(),
    ) -> None:
        """Sort the edges of `path`.

        `saturated` is the share from which a layer counts so; `born_zero` are the places that an
        earlier trace found at exactly zero.
        """
        self.path = path
        below = [edge for edge in path.edges if edge.factor != "loss"]
        rows = _rows(path, trace.layers)
        items = [
            TrunkEdge(edge, rows.get(id(edge)), part)
            for edge, part in zip(
                below, _parts(below, rows, trace, saturated, born_zero), strict=True
            )
        ]
        end = next((i for i, edge in enumerate(below) if not _live(edge.gain_log10)), None)
        dead_end = None if end is None else items[end]
        self.edges = tuple(items[:end])
        # A gain that is not finite: nothing can be said. A gain of 0: the signal is cut there.
        self.broken = dead_end is not None and dead_end.edge.gain_log10 != -math.inf
        self.cut = None if self.broken else dead_end

    @cached_property
    def ratio(self) -> float:
        """Decades from the network's output to the far end: what is judged; -inf when cut."""
        return self.finite_ratio if self.cut is None else -math.inf

    @cached_property
    def finite_ratio(self) -> float:
        """The ratio down to the source, or to the edge at which the signal becomes zero."""
        return sum(self.gains.values())

    @cached_property
    def ratio_in_space(self) -> float:
        """The finite ratio without what recurrent weights do over time."""
        return self.finite_ratio - self.gains.get("recurrence", 0.0)

    @cached_property
    def stopped_by(self) -> Part | None:
        """The part that stops the signal altogether: a smooth activation whose slopes are all 0.

        Not where the signal had faded before: then it became too small for its number format.
        """
        if self.cut is None or self.cut.edge.level_log10 < UNDERFLOW:
            return None
        return self.cut.part if self.cut.part in ("slope", "saturation") else None

    @cached_property
    def underflows(self) -> bool:
        """Weights that are not zero pass nothing on: too small a product for the number format."""
        if self.cut is None or self.cut.layer is None or self.cut.part not in ("weight", "norm"):
            return False
        weight = self.cut.layer.weight_log10
        return weight is not None and math.isfinite(weight)

    @cached_property
    def layers(self) -> int:
        """Number of weight ops passed outside recurrences, or of normalisations if those are more.

        The trunk of a net with skips may pass no weight at all. At least 1.
        """
        factors = [item.edge.factor for item in self._in_space]
        return max(1, factors.count("weight"), factors.count("norm"))

    @cached_property
    def growth_at_source(self) -> float:
        """Decades that the first normalisation adds, where only skips part it from the source.

        It divides by a scale that no weight has set: no growth by it is a fault.
        """
        for item in reversed(self.edges):
            if item.part == "norm" and item.edge.factor == "norm":
                return max(0.0, item.edge.gain_log10)
            if item.part not in ("shown", "merge"):
                break
        return 0.0

    def own(self, main: Trunk) -> tuple[int, float]:
        """Return what this trunk does not share with `main`: its weight ops, and their decades.

        The decades are those of all that lies there, without what recurrent weights do.
        """
        shared = 0
        for mine, other in zip(self.edges, main.edges, strict=False):
            if (mine.edge.module, mine.edge.op, mine.edge.level_log10) != (
                other.edge.module,
                other.edge.op,
                other.edge.level_log10,
            ):
                break
            shared += 1
        rest = [item for item in self.edges[shared:] if item.part not in ("shown", "recurrence")]
        decades = sum(item.edge.gain_log10 + _merge(item.edge) for item in rest)
        return sum(item.edge.factor == "weight" for item in rest), decades

    @cached_property
    def per_layer_log10(self) -> float:
        """Mean gain a layer, in decades."""
        return self.ratio_in_space / self.layers

    @cached_property
    def _in_space(self) -> list[TrunkEdge]:
        return [item for item in self.edges if item.part not in ("shown", "recurrence")]

    @cached_property
    def blame(self) -> Mapping[Part, float]:
        """Decades by part: gains minus their references, and the merge terms."""
        return self._sums(lambda edge: edge.blame_log10)

    @cached_property
    def gains(self) -> Mapping[Part, float]:
        """Decades by part: gains as they are, and the merge terms. They add up to the ratio."""
        return self._sums(lambda edge: edge.gain_log10)

    def _sums(self, decades: Callable[[PathEdge], float]) -> Mapping[Part, float]:
        sums: dict[Part, float] = defaultdict(float)
        for item in self.edges:
            if item.part != "shown":
                sums[item.part] += decades(item.edge)
            sums["recurrence" if item.part == "recurrence" else "merge"] += _merge(item.edge)
        return sums

    def of(self, part: Part) -> list[TrunkEdge]:
        """Return the edges counted as `part`, from the output down."""
        if part == "merge":
            return [
                item
                for item in self.edges
                if abs(_merge(item.edge)) > _NEGLIGIBLE and item.part != "recurrence"
            ]
        return [item for item in self.edges if item.part == part]


def part_blame(item: TrunkEdge, part: Part) -> float:
    """Return the decades that one edge adds to `part`."""
    return _merge(item.edge) if part == "merge" else item.edge.blame_log10


def is_rectifier(layer: LayerSignal | None, op: str | None) -> bool:
    """Whether an activation is zero or linear by halves: off for half of its inputs by design."""
    names = [layer.activation, layer.type] if layer else [op]  # a ReLU6 computes a hardtanh
    return any(name.lower().startswith(_RECTIFIERS) for name in names if name)


def head_length(edges: Sequence[PathEdge]) -> int:
    """Return how many of `edges`, from the loss down, are only loss, squashing and scaling."""
    body = (i for i, edge in enumerate(edges) if edge.factor not in _HEAD)
    return next(body, len(edges))


def is_step_function(edge: PathEdge) -> bool:
    """Whether an op is constant by pieces, so that its derivative is 0 everywhere."""
    return edge.op.startswith(_STEP_FUNCTIONS)


def _live(gain: float) -> bool:
    return math.isfinite(gain)


def _merge(edge: PathEdge) -> float:
    return edge.merge_log10 if math.isfinite(edge.merge_log10) else 0.0


def _rows(path: MainPath, layers: Sequence[LayerSignal]) -> dict[int, LayerSignal]:
    """The layer row of each edge, by the edge's id.

    Several functional ops of one module call may share a key; the k-th of them on the path, in
    forward order, is the k-th of those rows.
    """
    modules: dict[tuple[str, int], LayerSignal] = {}
    functional: dict[tuple[str, int, str], list[LayerSignal]] = defaultdict(list)
    for layer in layers:
        if layer.op is None:
            modules[layer.module, layer.call] = layer
        else:
            functional[layer.module, layer.call, layer.op].append(layer)
    keys = Counter((edge.module, edge.call, edge.op) for edge in path.edges)
    for key, rows in functional.items():
        on_path = [row for row in rows if row.on_main_path]
        if len(rows) > keys[key] == len(on_path):
            functional[key] = on_path
    found: dict[int, LayerSignal] = {}
    used: Counter[tuple[str, int, str]] = Counter()
    for edge in reversed(path.edges):
        if edge.module is None:
            continue
        key = (edge.module, edge.call, edge.op)
        if key in functional:
            found[id(edge)] = functional[key][min(used[key], len(functional[key]) - 1)]
            used[key] += 1
        elif (edge.module, edge.call) in modules:
            found[id(edge)] = modules[edge.module, edge.call]
    return found


def _parts(
    edges: Sequence[PathEdge],
    rows: Mapping[int, LayerSignal],
    trace: Trace,
    saturated: float,
    born_zero: frozenset[Place],
) -> list[Part]:
    parts = [_part(edge, rows.get(id(edge)), saturated) for edge in edges]
    for i in range(head_length(edges)):
        if parts[i] in ("slope", "saturation", "attention"):
            parts[i] = "shown"
    for i, edge in enumerate(edges):
        if (edge.module, edge.op) in born_zero and _live(edge.gain_log10):
            parts[i] = "shown"
    _join_norms(edges, parts)
    _drop_last_norm(edges, parts)
    _mark_recurrence(edges, parts, {item.module for item in trace.recurrences})
    return parts


def _part(edge: PathEdge, layer: LayerSignal | None, saturated: float) -> Part:
    if edge.factor == "loss" or edge.factor == "pool" or edge.factor == "scale":
        return "shown"
    if edge.factor == "weight" and edge.op.lower().startswith(_ELEMENTWISE):
        return "shown"
    if is_step_function(edge):
        return "shown"
    if edge.factor != "slope":
        return edge.factor
    if is_rectifier(layer, edge.op):
        return "off"
    if layer is not None and flat_share(layer) >= saturated:
        return "saturation"
    return "slope"


def flat_share(layer: LayerSignal) -> float:
    """Share of unit-sample pairs in the flat ends of a smooth activation (0 when unknown).

    A slope of exactly 0 is a flat end too: float32 rounds a sigmoid's slope to 0 beyond z = 17.
    """
    return (layer.saturated_share or 0.0) + (layer.off_share or 0.0)


def _join_norms(edges: Sequence[PathEdge], parts: list[Part]) -> None:
    """Count a weight that a normalisation follows directly as that normalisation's."""
    for i, part in enumerate(parts):
        if part != "norm":
            continue
        for j in range(i, len(parts)):
            if j > i and parts[j] == "weight":
                parts[j] = "norm"
            if (j > i and parts[j] != "shown") or abs(_merge(edges[j])) > _NEGLIGIBLE:
                break


def _drop_last_norm(edges: Sequence[PathEdge], parts: list[Part]) -> None:
    for i in range(len(parts) - 1, -1, -1):
        if edges[i].factor == "norm":
            parts[i] = "shown"
        if parts[i] != "shown":
            return


def _mark_recurrence(edges: Sequence[PathEdge], parts: list[Part], modules: set[str]) -> None:
    """Everything between the first and the last use of a recurrent weight is the recurrence."""
    inside = [i for i, edge in enumerate(edges) if edge.factor == "recurrence"]
    span = range(inside[0], inside[-1] + 1) if len(inside) > 1 else range(0)
    for i, edge in enumerate(edges):
        if parts[i] != "shown" and (i in span or edge.module in modules):
            parts[i] = "recurrence"
