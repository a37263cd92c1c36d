"""The prediction of theory beside each measured gain of the trunk."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from unvanish.i18n import _
from unvanish.meanfield.predict import NORMAL_90, Predicted, Step, predict
from unvanish.meanfield.stages import Signal
from unvanish.measure.layers import ForwardNumbers
from unvanish.measure.names import Names
from unvanish.measure.path import Numbers
from unvanish.measure.structure import Given, Structure
from unvanish.records import LayerPrediction

# A relative error of the first length that has grown tenfold says nothing any more.
_RUNAWAY = 1.0
# Variance of ln ‖J‖² by lengths from which its first order is too small by a tenth (measured on
# SiLU with He's weights, where it is 0.5 at twelve layers of 96 units).
_WANDERING = 0.3


def predictions(
    structure: Structure,
    numbers: Numbers,
    names: Names,
    forward: Mapping[int, ForwardNumbers],
) -> tuple[LayerPrediction, ...]:
    """Return a prediction for each element of the trunk, in forward order.

    `forward` has the measured outputs of module calls, by id.
    """
    values = numbers.values
    steps = [
        Step(element.later(values), _measured(numbers, element.head, forward))
        for element in structure.elements
    ]
    alike = numbers.measured.alike
    own, pairs = (1.0, 1.0) if alike is None else (values[alike[0]], values[alike[1]])
    if not (0.0 < own <= 1.01 and 0.0 < pairs <= 1.01):
        own, pairs = 1.0, 1.0
    found = predict(
        steps,
        own=own,
        alike=pairs,
        start=_start(structure, numbers, forward),
        unlike=_unlike(structure, values),
    )
    return _records(structure, numbers, names, found)


def after_training(predicted: Sequence[LayerPrediction], steps: int) -> tuple[LayerPrediction, ...]:
    """Return predictions as they are to be read after `steps` steps of an optimiser."""
    if not steps:
        return tuple(predicted)
    reason = _("its weights were trained for {steps} steps; theory is of random ones").format(
        steps=steps
    )
    return tuple(replace(one, flag=one.flag or reason) for one in predicted)


def _measured(
    numbers: Numbers, vertex: int, forward: Mapping[int, ForwardNumbers]
) -> Signal | None:
    """Return the signal behind a vertex if its leaf call's output was measured."""
    op = numbers.measured.graph.ops[vertex]
    found = forward.get(id(op.call)) if op.call is not None and not op.call.has_children else None
    if found is None or not 0.0 < found.rms < math.inf:
        return None
    factor = numbers.factor(vertex)
    second = found.rms**2
    alike = 1.0 if found.correlation is None else found.correlation
    return Signal(second, second * alike, gaussian=factor in ("weight", "recurrence", "norm"))


def _start(
    structure: Structure, numbers: Numbers, forward: Mapping[int, ForwardNumbers]
) -> Signal | None:
    measured = _measured(numbers, structure.first, forward)
    if measured is not None or structure.given is None:
        return measured
    given = _given(structure.given, numbers.values)
    return None if given is None else structure.first_stage(numbers.values).through(given)[1]


def _given(given: Given, values: Sequence[float]) -> Signal | None:
    rms = values[given.rms]
    if not 0.0 < rms < math.inf:
        return None
    alike = 1.0 if given.correlation is None else values[given.correlation]
    return Signal(rms**2, rms**2 * alike)


def _unlike(structure: Structure, values: Sequence[float]) -> float:
    """Return the relative variance of the samples' lengths behind the first op."""
    given = None if structure.given is None else _given(structure.given, values)
    if structure.given is None or given is None:
        return 0.0
    unlike = values[structure.given.unlike]
    passes = structure.first_stage(values).through(given)[0].passes
    return unlike * passes**2 if 0.0 <= unlike < math.inf else 0.0


def _records(
    structure: Structure, numbers: Numbers, names: Names, found: Sequence[Predicted]
) -> tuple[LayerPrediction, ...]:
    output = _level(numbers, structure.elements[-1].head)
    records = []
    for element, one in zip(structure.elements, found, strict=True):
        op = numbers.measured.graph.ops[element.head]
        above, below = _level(numbers, element.head), _level(numbers, element.foot)
        known = not math.isnan(one.gain)
        total = not math.isnan(one.total)
        off = NORMAL_90 * one.total_spread
        records.append(
            LayerPrediction(
                op=op.name,
                module=names.module(op.call),
                call=names.number(op.call),
                kind=element.name,
                factor=numbers.factor(element.head),
                measured_log10=_ratio(below, above),
                predicted_log10=one.gain if known else None,
                spread_log10=one.spread if known else None,
                total_measured_log10=_ratio(below, output),
                total_predicted_log10=one.total if total else None,
                total_low_log10=one.total - off if total else None,
                total_high_log10=one.total + off if total else None,
                amplification_log10=one.amplification if known else None,
                flag=one.reason or _runaway(one),
            )
        )
    return tuple(records)


def _runaway(one: Predicted) -> str | None:
    if one.amplification > _RUNAWAY:
        return _("a small error of its input's length has grown ×{factor:.2g} here").format(
            factor=10.0 ** min(one.amplification, 300.0)
        )
    if one.by_lengths > _WANDERING:
        return _("at this width lengths wander: the error bar is too narrow")
    return None


def _level(numbers: Numbers, vertex: int) -> float:
    level = numbers.vertex_level(vertex)
    return math.nan if level is None else level


def _ratio(below: float, above: float) -> float:
    return below - above if math.isfinite(above) else math.nan
