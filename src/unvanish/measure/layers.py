"""The rows of the layer table: one for each module call that owns ops, or functional op."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from unvanish.measure.calls import ModuleCall
from unvanish.measure.graph import Op
from unvanish.measure.names import Names
from unvanish.measure.path import Numbers, blames
from unvanish.measure.reduce import join_log10
from unvanish.measure.routes import Opened, farthest
from unvanish.measure.sharding import plain_class
from unvanish.measure.slopes import statistics
from unvanish.records import Factor, LayerSignal

# Functional ops that are rows of their own; views, sums and constants are not.
_ROW_FACTORS: frozenset[Factor] = frozenset(
    {"slope", "weight", "gate", "norm", "attention", "pool", "recurrence", "opaque"}
)


@dataclass(frozen=True, slots=True)
class ForwardNumbers:
    """A call's forward signal, resolved."""

    rms: float
    correlation: float | None


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
