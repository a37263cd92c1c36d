"""VG102: units are saturated.

## What it finds

The backward signal vanishes, and a large share of the loss happens in activations at least half of
whose unit-sample pairs lie in their flat ends: slope not 0 but below 0.07 of the steepest (for the
sigmoid |z| > 4), or rounded to exactly 0. If the scale of the network's input explains it, the
rule says so.

## Why it matters

A saturated unit passes almost nothing back, whatever it is told. One such layer is enough: its
factor multiplies every gradient in front of it.

## Known problems

Saturated does not mean vanishing. A tanh network with N(0, 1) weights is saturated and its
gradients *grow* toward the front, since the same weights that saturate it multiply what passes. So
saturation alone never fires this rule; a measured loss of signal must come with it. For activations
whose steepest slope is not known, only slopes of exactly 0 count.

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

from unvanish.diagnose.rule import Rule
from unvanish.diagnose.trunk_findings import trunk_finding
from unvanish.diagnose.view import TraceView, View
from unvanish.i18n import _
from unvanish.records import Evidence, Finding, LayerSignal


def check(view: View) -> Sequence[Finding]:
    """Fire if saturated activations have a share in a vanishing signal."""
    remedy = _(
        "Shrink the weights in front of the saturated layer (Xavier), or put a normalisation"
        " before the activation; if it saturated during training, lower the learning rate."
    )
    found = trunk_finding(view, "vanishing", "saturation", remedy)
    if not found or view.vanishing is None:
        return found
    size = input_rms(view.vanishing.view, found[0].where.module)
    if size is None or size < view.limit("raw-input-rms"):
        return found
    remedy = _(
        "Scale the inputs to zero mean and unit variance: they have a root mean square of about"
        " {size:.3g}, which is what saturates the first layer."
    ).format(size=size)
    cause = Evidence("input_rms", size, view.limit("raw-input-rms"))
    return [
        replace(
            found[0],
            severity="error" if found[0].severity == "error" else "warning",  # a mistake in itself
            remedy=remedy,
            evidence=(*found[0].evidence, cause),
        )
    ]


def input_rms(trace: TraceView, saturated: str | None) -> float | None:
    """Return the scale of the network's input if `saturated` is its first activation.

    The first linear layer's output has the root mean square ||W||_F x_rms / sqrt(units), for
    inputs that do not all point one way; so x_rms follows from what was measured.
    """
    rows = trace.trace.layers
    place = next((i for i, row in enumerate(rows) if row.module == saturated), None)
    if place is None or rows[place].units is None:
        return None
    before = [row for row in rows[:place] if row.weight_log10 is not None]
    if len(before) != 1:
        return None
    return _input_rms(before[0], rows[place].units or 1)


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
        "raw-input-rms",
        "vanishing-mild",
        "vanishing-clear",
        "vanishing-hopeless",
        "adaptive-factor",
        "contribution-share",
    ),
)
