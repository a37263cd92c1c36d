"""From resolved numbers to the records that everything else reads."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from unvanish.measure.calls import ModuleCall
from unvanish.measure.graph import Op
from unvanish.measure.names import NameBook
from unvanish.measure.passes import BackwardPass
from unvanish.measure.path import Numbers, Step, blames, cut_points
from unvanish.measure.reduce import join_log10
from unvanish.measure.sharding import plain_class
from unvanish.measure.slopes import statistics
from unvanish.records import (
    Factor,
    LayerSignal,
    LossTerm,
    MainPath,
    OpGain,
    PathEdge,
    Recurrence,
    Segment,
    TimeStep,
)

# Functional ops that are rows of their own; views, sums and constants are not.
_ROW_FACTORS: frozenset[Factor] = frozenset(
    {"slope", "weight", "gate", "norm", "attention", "pool", "recurrence", "opaque"}
)
_PATHS_KEPT = 16


@dataclass(slots=True)
class Names:
    """How ops are named in the records: owner path, call number, parameter names."""

    book: NameBook
    calls: Sequence[ModuleCall]
    parameters: Mapping[int, str]
    prefix_roots: bool = False
    _numbers: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        counts: dict[int, int] = {}
        for call in self.calls:
            number = counts.get(id(call.module), 0)
            counts[id(call.module)] = number + 1
            self._numbers[id(call)] = number

    def module(self, call: ModuleCall | None) -> str | None:
        """Return the dotted path of a call's module; None for no call."""
        if call is None:
            return None
        path = self.book.path_of(call.module)
        if not self.prefix_roots:
            return path
        root = self.book.root_name(self.book.root_of(call.module))
        return f"{root}.{path}" if path else root

    def number(self, call: ModuleCall | None) -> int:
        """Return which call of its module this is, from 0."""
        return self._numbers.get(id(call), 0) if call is not None else 0


@dataclass(frozen=True, slots=True)
class ForwardNumbers:
    """A call's forward signal, resolved."""

    rms: float
    correlation: float | None


@dataclass(frozen=True, slots=True)
class Opened:
    """A pass inside one row of the outer pass: a fused layer opened, a checkpoint's backward."""

    numbers: Numbers


@dataclass(frozen=True, slots=True)
class Link:
    """One edge of a path that may lead through several passes."""

    numbers: Numbers
    vertex: int
    gain: float
    merge: float

    @property
    def op(self) -> Op:
        """The op whose output the edge starts at."""
        return self.numbers.measured.graph.ops[self.vertex]

    @property
    def factor(self) -> Factor:
        """The factor of the edge."""
        return self.numbers.factor(self.vertex)

    @property
    def level(self) -> float:
        """The level there, log10."""
        return _known(self.numbers.vertex_level(self.vertex))


def links(numbers: Numbers, vertex: int, opened: Mapping[int, Opened]) -> list[Link]:
    """Return the main path down to `vertex`, loss first, through what was opened on the way."""
    found: list[Link] = []
    inside: list[Step] = []
    for step in numbers.path(vertex):
        row = numbers.measured.row[step.vertex]
        if row in opened:
            inside.append(step)
            if numbers.measured.row[step.child] != row:
                found += _through(numbers, inside, opened[row])
                inside = []
        else:
            found.append(Link(numbers, step.vertex, step.gain, step.merge))
    return found + [Link(numbers, step.vertex, step.gain, step.merge) for step in inside]


def _through(numbers: Numbers, inside: Sequence[Step], opened: Opened) -> list[Link]:
    """Return the path through an opened row; the steps over its closed form if there is none.

    What leaves the row is the gradient of one of the opened pass's leaves: the one of the same
    level, to rounding.
    """
    closed = [Link(numbers, step.vertex, step.gain, step.merge) for step in inside]
    inner = opened.numbers
    arrived = closed[0].level + sum(link.gain + link.merge for link in closed) - closed[-1].merge
    leaves = [
        (abs(_known(inner.vertex_level(vertex)) - arrived), vertex)
        for vertex in inner.sources()
        if inner.measured.graph.ops[vertex].variable is not None
    ]
    steps = inner.path(min(leaves)[1]) if leaves else []
    if not steps or not min(leaves)[0] < 1e-3:
        return closed
    path = [Link(inner, step.vertex, step.gain, step.merge) for step in steps]
    # Levels telescope exactly, so what rounding and a joint norm leave over goes to the merge.
    over = sum(link.gain + link.merge for link in closed) - sum(
        link.gain + link.merge for link in path
    )
    path[-1] = replace(path[-1], merge=path[-1].merge + over)
    return path


def main_path(path: Sequence[Link], end: Link, names: Names, cuts: frozenset[int]) -> MainPath:
    """Return the path to the source `end` as a record."""
    factors = [link.factor for link in path]
    blame = blames(factors, [link.gain for link in path], [link.op for link in path])
    edges = tuple(
        PathEdge(
            op=link.op.name,
            module=names.module(link.op.call),
            call=names.number(link.op.call),
            factor=factor,
            gain_log10=link.gain,
            merge_log10=link.merge,
            level_log10=link.level,
            blame_log10=blamed,
            weight=names.parameters.get(link.op.weight) if link.op.weight is not None else None,
            cut_point=link.vertex in cuts and link.numbers is path[0].numbers,
        )
        for link, factor, blamed in zip(path, factors, blame, strict=True)
    )
    return MainPath(
        source_op=end.op.name,
        source_module=names.module(end.op.call),
        source_call=names.number(end.op.call),
        source_level_log10=end.level,
        root_level_log10=edges[0].level_log10 if edges else end.level,
        edges=edges,
    )


def farthest(numbers: Numbers, opened: Mapping[int, Opened]) -> list[tuple[list[Link], Link]]:
    """Return the main paths of the sources farthest from the loss, the farthest first."""
    found = [
        (links(numbers, vertex, opened), Link(numbers, vertex, 0.0, 0.0))
        for vertex in numbers.sources()[:_PATHS_KEPT]
    ]
    for row, item in opened.items():
        inner = item.numbers
        inside = [
            vertex
            for vertex in inner.sources()[:_PATHS_KEPT]
            if inner.measured.graph.ops[vertex].variable is None
        ]
        exits = [
            numbers.measured.vertex[op.index]
            for op in numbers.measured.graph.ops
            if numbers.measured.row[op.index] == row and numbers.leaves_row(op.index)
        ]
        if not inside or not exits:
            continue
        head = links(numbers, exits[0], opened)
        for vertex in inside:
            steps = inner.path(vertex)
            tail = [Link(inner, step.vertex, step.gain, step.merge) for step in steps]
            found.append((_joined(head, tail), Link(inner, vertex, 0.0, 0.0)))
    return sorted(found, key=lambda item: -len(item[0]))[:_PATHS_KEPT]


def _joined(head: list[Link], tail: list[Link]) -> list[Link]:
    """Join a path to a row's output with one inside it; the joint norm's share is a merge term."""
    if not head or not tail:
        return [*head, *tail]
    end = head[0].level + sum(link.gain + link.merge for link in head)
    over = tail[0].level - end
    if not math.isfinite(over):
        over = 0.0
    return [*head[:-1], replace(head[-1], merge=head[-1].merge + over), *tail]


def main_paths(
    numbers: Numbers, names: Names, opened: Mapping[int, Opened]
) -> tuple[MainPath | None, tuple[MainPath, ...]]:
    """Return the main path of the farthest source, and those of some further ones."""
    cuts = frozenset(cut_points(numbers.measured.graph))
    paths = [main_path(path, end, names, cuts) for path, end in farthest(numbers, opened)]
    return (paths[0], tuple(paths[1:])) if paths else (None, ())


def segments(numbers: Numbers, names: Names) -> tuple[Segment, ...]:
    """Return what lies between neighbouring cut points, from the loss to the source."""
    graph = numbers.measured.graph
    place = {index: position for position, index in enumerate(graph.topological)}
    cuts = [index for index in cut_points(graph) if numbers.op_level(index) is not None]
    found = []
    for first, second in itertools.pairwise(cuts):
        start, end = _known(numbers.op_level(first)), _known(numbers.op_level(second))
        found.append(
            Segment(
                start_op=graph.ops[first].name,
                start_module=names.module(graph.ops[first].call),
                end_op=graph.ops[second].name,
                end_module=names.module(graph.ops[second].call),
                gain_log10=end - start if math.isfinite(start) else math.nan,
                ops=place[second] - place[first],
            )
        )
    return tuple(found)


def output_level(numbers: Numbers) -> float | None:
    """Return the joint level of the network's outputs: the first ops that are not the loss's."""
    graph = numbers.measured.graph
    levels = []
    for op in graph.ops:
        consumers = graph.consumers[op.index]
        if not op.data or op.after_output or op.variable is not None:
            continue
        if not consumers or all(graph.ops[edge.parent].after_output for edge in consumers):
            level = numbers.op_level(op.index)
            if level is not None:
                levels.append(level)
    return join_log10(levels) if levels else None


def loss_terms(numbers: Numbers, names: Names) -> tuple[LossTerm, ...]:
    """Return the summands of the loss: a sum of scalars at the root is split."""
    graph = numbers.measured.graph
    terms: list[Op] = []
    stack = list(graph.roots)
    while stack:
        op = graph.ops[stack.pop()]
        scalar = bool(op.shapes) and op.shapes[0] in ((), (1,))
        if scalar and op.kind in ("Add", "Sub") and len(op.edges) > 1:
            stack.extend(edge.child for edge in reversed(op.edges))
        elif op.variable is None:
            terms.append(op)
    return tuple(
        LossTerm(op.name, names.module(op.call), _known(numbers.op_level(op.index))) for op in terms
    )


def recurrences(
    numbers: Numbers, names: Names, opened: Mapping[int, Opened]
) -> tuple[Recurrence, ...]:
    """Return, for weights that act again on their own output, the level at each time step."""
    passes = [numbers, *(item.numbers for item in opened.values())]
    weights = {weight: item for item in passes for weight in item.recurrent}
    found = []
    for weight, where in sorted(
        weights.items(), key=lambda item: names.parameters.get(item[0], "")
    ):
        users = [op for op in where.measured.graph.ops if op.weight == weight]
        users.sort(key=lambda op: op.order)
        levels = tuple(
            TimeStep(step, level)
            for step, op in enumerate(users)
            if (level := where.op_level(op.index)) is not None
        )
        name = names.parameters.get(weight, "weight")
        found.append(Recurrence(names.module(users[0].call) or "", name, levels))
    return tuple(found)


def op_gains(numbers: Numbers, names: Names) -> tuple[OpGain, ...]:
    """Return every edge of the graph along which a path to a source goes, in forward order."""
    graph, measured = numbers.measured.graph, numbers.measured
    ordered = sorted((op for op in graph.ops if op.data), key=lambda op: op.order)
    found = []
    for position, op in enumerate(ordered):
        level = numbers.op_level(op.index)
        for edge in op.edges:
            slot = measured.edge_norm.get((op.index, edge.input))
            if slot is None or level is None:
                continue
            found.append(
                OpGain(
                    op=op.name,
                    module=names.module(op.call),
                    call=names.number(op.call),
                    order=position,
                    input=edge.input,
                    factor=numbers.factor(op.index),
                    gain_log10=numbers.values[slot] - level if math.isfinite(level) else math.nan,
                    level_log10=level,
                )
            )
    return tuple(found)


# --- layers ------------------------------------------------------------------------------------


def layers(
    numbers: Numbers,
    names: Names,
    forward: Mapping[int, ForwardNumbers],
    opened: Mapping[int, Opened],
    participation: Mapping[int, float],
) -> list[tuple[ModuleCall | None, LayerSignal]]:
    """Return the rows of the layer table in forward order, each with its leaf call.

    `forward` is keyed by id of a call, `opened` and `participation` by row.
    """
    on_path = _path_blames(numbers, opened)
    rows = list(_rows(numbers, (0, 0), names, forward, opened, participation, on_path))
    for row, item in opened.items():
        call = numbers.measured.graph.ops[row].call
        if call is not None and not call.has_children:
            continue  # the fused layer's own row stands for it
        place = (min(_sequences(numbers, row)), 1)
        rows += _rows(item.numbers, place, names, forward, {}, {}, on_path)
    seen = {id(call) for _place, call, _layer_signal in rows}
    rows.extend(
        ((call.start, 0, 0), call, _silent_layer(names, call, forward))
        for call in names.calls
        if not call.has_children and id(call) not in seen and not call.output_is_scalar
    )
    return [(call, layer) for _place, call, layer in sorted(rows, key=lambda item: item[0])]


def _sequences(numbers: Numbers, row: int) -> list[int]:
    measured = numbers.measured
    return [op.sequence for op in measured.graph.ops if measured.row[op.index] == row]


def _rows(
    numbers: Numbers,
    inside: tuple[int, int],
    names: Names,
    forward: Mapping[int, ForwardNumbers],
    opened: Mapping[int, Opened],
    participation: Mapping[int, float],
    on_path: Mapping[tuple[int, int], tuple[Factor, float]],
) -> Iterator[tuple[tuple[int, int, int], ModuleCall | None, LayerSignal]]:
    """Yield (place in forward order, leaf call, row) for each row of one pass.

    `inside` is (0, 0) for the outer pass, and for one within an op (its sequence number, 1).
    """
    measured = numbers.measured
    members: dict[int, list[Op]] = {}
    for op in measured.graph.ops:
        if op.data and op.variable is None:
            members.setdefault(measured.row[op.index], []).append(op)
    for row, ops in members.items():
        call = ops[0].call
        leaf = call if call is not None and not call.has_children else None
        if leaf is None and numbers.factor(measured.vertex[row]) not in _ROW_FACTORS:
            continue
        if all(op.after_output for op in ops) or (leaf is None and row in opened):
            continue
        first = min(op.sequence for op in ops)
        place = (first, 0, 0) if inside == (0, 0) else (*inside, first)
        layer = _layer(numbers, names, row, ops, forward.get(id(leaf)), on_path)
        yield (
            place,
            leaf,
            replace(
                layer,
                participation=participation.get(row),
                opaque=layer.opaque and row not in opened,
                on_main_path=layer.on_main_path
                or (row in opened and _leads_through(opened[row], on_path)),
            ),
        )


def _leads_through(opened: Opened, on_path: Mapping[tuple[int, int], tuple[Factor, float]]) -> bool:
    return any(measured == id(opened.numbers.measured) for measured, _vertex in on_path)


def _layer(
    numbers: Numbers,
    names: Names,
    row: int,
    ops: list[Op],
    signal: ForwardNumbers | None,
    on_path: Mapping[tuple[int, int], tuple[Factor, float]],
) -> LayerSignal:
    call = ops[0].call
    leaf = call is not None and not call.has_children
    measured = numbers.measured
    outs = [numbers.values[slot] for slot in measured.row_out.get(row, [])]
    ins = [numbers.values[slot] for slot in measured.row_in.get(row, [])]
    level = join_log10(outs) if outs else None
    gain = None
    if level is not None and ins:
        gain = join_log10(ins) - level if math.isfinite(level) else math.nan
    factors, blame = _row_factors(numbers, row, ops, on_path)
    slope_op = next((op for op in ops if measured.vertex[op.index] in measured.slopes), None)
    slopes = (
        statistics(measured.slopes[measured.vertex[slope_op.index]], numbers.values)
        if slope_op is not None
        else None
    )
    return LayerSignal(
        module=names.module(call) or "",
        type=plain_class(call.module) if leaf and call is not None else ops[0].kind.lower(),
        call=names.number(call),
        op=None if leaf else ops[0].name,
        level_log10=level,
        gain_log10=gain,
        factors_log10=factors,
        blame_log10=blame,
        on_main_path=any((id(measured), measured.vertex[op.index]) in on_path for op in ops),
        opaque=any(op.factor == "opaque" or "Rnn" in op.kind for op in ops),
        activation=slope_op.activation if slope_op is not None else None,
        units=slopes.units if slopes else None,
        off_share=slopes.off if slopes else None,
        saturated_share=slopes.saturated if slopes else None,
        dead_share=slopes.dead if slopes else None,
        slope_rms=slopes.rms if slopes else None,
        forward_rms=signal.rms if signal else None,
        sample_correlation=signal.correlation if signal else None,
        source=call.source if call is not None else None,
    )


def _silent_layer(
    names: Names, call: ModuleCall, forward: Mapping[int, ForwardNumbers]
) -> LayerSignal:
    """Return the row of a call that the backward signal did not pass (frozen, or not used)."""
    signal = forward.get(id(call))
    return LayerSignal(
        module=names.module(call) or "",
        type=plain_class(call.module),
        call=names.number(call),
        op=None,
        level_log10=None,
        gain_log10=None,
        forward_rms=signal.rms if signal else None,
        sample_correlation=signal.correlation if signal else None,
        source=call.source,
    )


def _path_blames(
    numbers: Numbers, opened: Mapping[int, Opened]
) -> dict[tuple[int, int], tuple[Factor, float]]:
    """Return factor and blame by (pass, vertex) on the farthest source's main path.

    Blame needs the path: an activation's reference is passed to the weight that feeds it, which
    lies in another row.
    """
    paths = farthest(numbers, opened)
    if not paths:
        return {}
    path, end = paths[0]
    factors = [link.factor for link in path]
    blame = blames(factors, [link.gain for link in path], [link.op for link in path])
    found = {
        (id(link.numbers.measured), link.vertex): (factor, blamed)
        for link, factor, blamed in zip(path, factors, blame, strict=True)
    }
    found[(id(end.numbers.measured), end.vertex)] = (end.numbers.factor(end.vertex), 0.0)
    return found


def _row_factors(
    numbers: Numbers,
    row: int,
    ops: list[Op],
    on_path: Mapping[tuple[int, int], tuple[Factor, float]],
) -> tuple[dict[str, float], dict[str, float]]:
    """Return log-gains and blame by factor along the row's own main path.

    A row of one op has one factor; in a row of several, the path from its input of greatest norm
    up to its output is summed, with merge terms under `merge`.
    """
    measured = numbers.measured
    entries = [
        (numbers.values[measured.edge_norm[(op.index, edge.input)]], measured.vertex[op.index])
        for op in ops
        for edge in op.edges
        if (op.index, edge.input) in measured.edge_norm and measured.row[edge.child] != row
    ]
    usable = [item for item in entries if not math.isnan(item[0])] or entries
    if not usable:
        return {}, {}
    norm, vertex = max(usable)
    above = numbers.vertex_level(vertex)
    steps = [(vertex, norm - above if above is not None and math.isfinite(above) else math.nan)]
    merged = 0.0
    while (step := numbers.step_up(steps[-1][0])) is not None:
        if measured.row[step.vertex] != row:
            break
        steps.append((step.vertex, step.gain))
        merged += step.merge
    gains: dict[str, float] = {}
    blame: dict[str, float] = {}
    for vertex, gain in steps:
        factor, blamed = on_path.get((id(measured), vertex), (numbers.factor(vertex), None))
        if gain != 0.0 or factor not in ("scale", "merge"):
            gains[factor] = gains.get(factor, 0.0) + gain
        if blamed is not None and factor not in ("scale", "merge"):
            blame[factor] = blame.get(factor, 0.0) + blamed
    if merged:
        gains["merge"] = gains.get("merge", 0.0) + merged
    return gains, blame


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


def _known(level: float | None) -> float:
    return math.nan if level is None else level
