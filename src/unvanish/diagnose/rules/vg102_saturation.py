"""VG102: units are saturated.

## What it finds

The backward signal vanishes, and a large share of the loss happens in activations at least half of
whose unit-sample pairs lie in their flat ends: slope not 0 but below 0.07 of the steepest (for the
sigmoid |z| > 4), or rounded to exactly 0. If the scale of the network's input explains it, the
rule says so. And, whether or not the signal's size is lost, a first activation nine tenths of whose
pairs are flat at every traced step because the inputs are not scaled.

## Why it matters

A saturated unit passes almost nothing back, whatever it is told. One such layer is enough: its
factor multiplies every gradient in front of it.

## Known problems

Saturated does not mean vanishing. A tanh network with N(0, 1) weights is saturated and its
gradients *grow* toward the front, since the same weights that saturate it multiply what passes. So
saturation alone does not fire this rule: a measured loss of signal must come with it, or inputs
that are not scaled must be its cause. For activations whose steepest slope is not known, only
slopes of exactly 0 count.

## Example

    net = nn.Sequential(nn.Linear(64, 32), nn.Sigmoid(), nn.Linear(32, 10))
    nn.init.normal_(net[0].weight)          # N(0, 1)
    net(pixels)                             # 0..255, not scaled: z is in the thousands

## Cure

Scale the inputs to zero mean and unit variance. Shrink the weights in front of the saturated layer
(Xavier for sigmoid and tanh). A normalisation before the activation keeps it unsaturated. If the
updates drove it there, lower the learning rate.

## References

- LeCun et al. 1998, Efficient BackProp.
- Glorot and Bengio 2010, Understanding the difficulty of training deep feedforward networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from unvanish.diagnose.phrases import place
from unvanish.diagnose.rule import Rule
from unvanish.diagnose.trunk import flat_share, is_rectifier
from unvanish.diagnose.trunk_findings import trunk_finding
from unvanish.diagnose.view import TraceView, View
from unvanish.i18n import _
from unvanish.records import Evidence, Finding, LayerSignal, Where
from unvanish.words import percent


def check(view: View) -> Sequence[Finding]:
    """Fire if saturation has a share in a vanishing signal, or raw inputs saturate the front."""
    remedy = _(
        "Shrink the weights in front of the saturated layer (Xavier), or put a normalisation"
        " before the activation; if it saturated during training, lower the learning rate."
    )
    found = trunk_finding(view, "vanishing", "saturation", remedy)
    if view.vanishing is None or not found:
        return _raw_inputs(view)
    where = found[0].where
    size = input_rms(view.vanishing.view, where.module, where.op)
    if size is None or size < view.limit("raw-input-rms"):
        return found
    return [
        replace(
            found[0],
            severity="error" if found[0].severity == "error" else "warning",  # a mistake in itself
            remedy=_scale_them(size),
            evidence=(*found[0].evidence, _cause(view, size)),
        )
    ]


def _scale_them(size: float) -> str:
    return _(
        "Scale the inputs to zero mean and unit variance: they have a root mean square of about"
        " {size:.3g}, which is what saturates the first layer."
    ).format(size=size)


def _cause(view: View, size: float) -> Evidence:
    return Evidence("input_rms", size, view.limit("raw-input-rms"))


def _raw_inputs(view: View) -> Sequence[Finding]:
    """The first activation is flat for nearly all pairs at every step, and the input is raw.

    The few pairs that are left may carry the signal at its full size, so that none is lost on the
    trunk: but for all others the front is a constant, whatever its weights.
    """
    looks = [_flat_front(trace, view) for trace in view.traces if trace.trace.layers]
    if not looks or not all(looks):
        return []
    found = looks[0]
    assert found is not None
    row, size = found
    flat = min(flat_share(look[0]) for look in looks if look is not None)
    title = _(
        "{where} is saturated for {share} of its unit-sample pairs at every step: the inputs are"
        " not scaled (root mean square {size:.3g}), and what is in front of it hardly learns."
    )
    return [
        Finding(
            code="VG102",
            family="VG",
            verdict="vanishing",
            severity="error" if view.training.not_working else "warning",
            title=title.format(where=place(row.module), share=percent(flat), size=size),
            where=Where(row.module, row.op, row.call, row.source),
            factor="slope",
            evidence=(
                Evidence("flat_share", flat, view.limit("saturated-throughout")),
                _cause(view, size),
                Evidence("training", view.training.state),
            ),
            remedy=_scale_them(size),
            model=view.model.name,
            step=view.traces[0].step,
            explains=("UR101", "UR104", "FS101"),
        )
    ]


def _flat_front(trace: TraceView, view: View) -> tuple[LayerSignal, float] | None:
    """The first activation and the scale of the input, if it is flat and the input raw."""
    for row in trace.trace.layers:
        if row.activation is None or row.units is None:
            continue
        if is_rectifier(row, row.op) or flat_share(row) < view.limit("saturated-throughout"):
            return None
        size = input_rms(trace, row.module, row.op)
        return None if size is None or size < view.limit("raw-input-rms") else (row, size)
    return None


def input_rms(trace: TraceView, saturated: str | None, op: str | None = None) -> float | None:
    """Return the scale of the network's input if `saturated` is its first activation.

    The first linear layer's output has the root mean square ||W||_F x_rms / sqrt(units), for
    inputs that do not all point one way; so x_rms follows from what was measured. `op` tells
    functional activations of one module apart.
    """
    rows = trace.trace.layers
    named = (i for i, row in enumerate(rows) if row.module == saturated and row.op in (None, op))
    first = next(named, None)
    if first is None or rows[first].units is None:
        return None
    before = [row for row in rows[:first] if row.weight_log10 is not None]
    if len(before) != 1:
        return None
    return _input_rms(before[0], rows[first].units or 1)


def _input_rms(linear: LayerSignal, units: int) -> float | None:
    if linear.forward_rms is None or linear.weight_log10 is None:
        return None
    if not math.isfinite(linear.weight_log10):
        return None
    return float(linear.forward_rms * math.sqrt(units) / 10**linear.weight_log10)


RULE = Rule(
    code="VG102",
    verdict="vanishing",
    title="saturated units",
    check=check,
    documentation=__doc__,
    thresholds=(
        "saturated-layer",
        "saturated-throughout",
        "raw-input-rms",
        "vanishing-mild",
        "vanishing-clear",
        "vanishing-hopeless",
        "adaptive-factor",
        "contribution-share",
    ),
)
