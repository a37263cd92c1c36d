"""Records of a whole pass from resolved numbers: segments, loss terms, recurrences, gains."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

from unvanish.measure.graph import Op
from unvanish.measure.names import Names
from unvanish.measure.path import Numbers, cut_points, known
from unvanish.measure.reduce import join_log10
from unvanish.measure.routes import Opened
from unvanish.records import LossTerm, OpGain, Recurrence, Segment, TimeStep


def segments(numbers: Numbers, names: Names) -> tuple[Segment, ...]:
    """Return what lies between neighbouring cut points, from the loss to the source."""
    graph = numbers.measured.graph
    place = {index: position for position, index in enumerate(graph.topological)}
    cuts = [index for index in cut_points(graph) if numbers.op_level(index) is not None]
    found = []
    for first, second in itertools.pairwise(cuts):
        start, end = known(numbers.op_level(first)), known(numbers.op_level(second))
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
        LossTerm(op.name, names.module(op.call), known(numbers.op_level(op.index))) for op in terms
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
