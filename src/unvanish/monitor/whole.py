"""From the numbers of one rank to those of the whole model.

Norms and counts of a parameter that is spread over ranks are those of a shard, until the parts of
all ranks are put together. Where that is not possible they are left out: a wrong norm is worse
than none. Gradients in a trace are of this rank's batch alone, before the ranks are averaged; what
the optimiser was given stands in their place.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from unvanish.measure.reduce import join_log10, log10
from unvanish.measure.sharding import Shard
from unvanish.monitor.gauge import Levels
from unvanish.monitor.parcel import Part
from unvanish.records import LayerSignal, ParameterSignal, Trace


def parts_of(levels: Levels, shards: Mapping[str, Shard]) -> dict[str, Part]:
    """Return what this rank adds to the parameters that are spread over ranks."""
    found = {}
    for name, one in by_name(levels).items():
        shard = shards.get(name)
        if shard is not None and shard.counts:
            found[name] = one
    return found


def copies_of(levels: Levels, spread: Collection[str]) -> float:
    """Return log10 of the joint norm of the weights that this rank has whole; nan for none."""
    pairs = zip(levels.names, levels.weight, strict=True)
    own = [weight for name, weight in pairs if name not in spread]
    return join_log10(own) if own else math.nan


def whole_levels(
    levels: Levels, spread: Collection[str], sums: Mapping[str, Part] | None
) -> Levels:
    """Return the levels with `sums` in place of shards; without those of `spread` it lacks."""
    if not spread:
        return levels
    parts = by_name(levels)
    known = {
        name: parts[name] if name not in spread else (sums or {})[name]
        for name in levels.names
        if name not in spread or name in (sums or {})
    }
    given = [name for name, part in known.items() if part.with_gradient > 0]
    found = Levels(tuple(known), tuple(given))
    found.weight = tuple(part.weight for part in known.values())
    found.gradient = tuple(known[name].gradient for name in given)
    if levels.zeros or levels.nonfinite or levels.subnormals:
        found.zeros = tuple(log10(known[name].zeros) for name in given)
        found.subnormals = tuple(log10(known[name].subnormals) for name in given)
        found.nonfinite = tuple(log10(known[name].nonfinite) for name in given)
    if levels.change:
        found.change = tuple(part.change for part in known.values())
        found.update = tuple(_ratio(part.change, part.weight) for part in known.values())
    return found


def by_name(levels: Levels) -> dict[str, Part]:
    """Return the levels parameter by parameter, with counts as numbers."""
    parts = {name: Part(weight=w) for name, w in zip(levels.names, levels.weight, strict=True)}
    for name, change in zip(levels.names, levels.change, strict=False):
        parts[name].change = change
    for position, name in enumerate(levels.with_gradient):
        part = parts[name]
        part.with_gradient = 1.0
        part.gradient = levels.gradient[position]
        part.zeros = _count(levels.zeros, position)
        part.subnormals = _count(levels.subnormals, position)
        part.nonfinite = _count(levels.nonfinite, position)
    return parts


def _count(logs: Sequence[float], position: int) -> float:
    return float(round(10.0 ** logs[position])) if logs else 0.0


def _ratio(change: float, weight: float) -> float:
    if change == -math.inf:
        return -math.inf
    return math.inf if weight == -math.inf else change - weight


def restated(trace: Trace, levels: Levels | None, spread: Collection[str]) -> Trace:
    """Return the trace with the parameters as `levels` has them, in its layers too.

    Without levels only what is spread over ranks is taken out.
    """
    known = {} if levels is None else by_name(levels)
    scale = math.log10(trace.loss_scale) if trace.phase == "scaled" and trace.loss_scale > 0 else 0
    signals = [
        signal
        if signal.name not in known
        else _signal(signal, known[signal.name], bool(levels and levels.update), scale)
        for signal in trace.parameters
        if signal.name in known or signal.name not in spread
    ]
    gone = {name for name in spread if name not in known}
    owned: dict[str, list[ParameterSignal]] = {}
    for signal in signals:
        owned.setdefault(signal.name.rpartition(".")[0], []).append(signal)
    bare = {name.rpartition(".")[0] for name in gone}
    layers = [
        _layer(layer, owned.get(layer.module), layer.module in bare) for layer in trace.layers
    ]
    return replace(trace, parameters=tuple(signals), layers=tuple(layers))


def _signal(signal: ParameterSignal, part: Part, updated: bool, scale: float) -> ParameterSignal:
    given = part.with_gradient > 0
    return replace(
        signal,
        grad_log10=part.gradient + scale if given else None,
        weight_log10=part.weight,
        zeros=round(part.zeros) if given else None,
        subnormals=round(part.subnormals) if given else None,
        nonfinite=round(part.nonfinite),
        update_ratio_log10=_ratio(part.change, part.weight) if updated else None,
    )


def _layer(layer: LayerSignal, own: Sequence[ParameterSignal] | None, bare: bool) -> LayerSignal:
    """Return the row with what its module's own parameters are as a whole."""
    fields: dict[str, Any] = {}
    if own and layer.weight_log10 is not None:
        gradients = [one.grad_log10 for one in own if one.grad_log10 is not None]
        weight = join_log10([one.weight_log10 for one in own])
        changes = [
            one.update_ratio_log10 + one.weight_log10
            for one in own
            if one.update_ratio_log10 is not None
            and math.isfinite(one.update_ratio_log10)
            and math.isfinite(one.weight_log10)
        ]
        fields = {
            "grad_log10": join_log10(gradients) if gradients else None,
            "weight_log10": weight,
            "update_ratio_log10": join_log10(changes) - weight if changes else None,
        }
    elif bare:
        fields = {"grad_log10": None, "weight_log10": None, "update_ratio_log10": None}
    return replace(layer, **fields) if fields else layer
