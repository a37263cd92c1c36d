"""EG105: activations, attention, gates or fused ops blow the signal up.

## What it finds

The backward signal grows toward the front, and a large share of the growth is due to neither
weights, nor sums, nor normalisation: to activations whose slope exceeds 1 (an exponential, a power,
a division), to attention, to products of two activations, to a constant between two layers, or to
an op that hides several factors.

## Why it matters

As with large weights: no learning rate suits both ends of the network, and the next step often ends
in NaN.

## Known problems

A slope above 1 is no fault by itself (SELU's is 1.05): only a trunk that explodes is looked at.

## Example

    for layer in layers:
        x = torch.exp(layer(x))

## Cure

An activation whose slope stays near 1; bounded arguments (clamp) for exponentials, powers and
divisions; attention logits scaled by 1/sqrt(d).

## References

- Philipp, Song, Carbonell 2017, The exploding gradient problem demystified, arXiv 1712.05577.
"""

from __future__ import annotations

from collections.abc import Sequence

from unvanish.diagnose.rule import Rule
from unvanish.diagnose.trunk import Part
from unvanish.diagnose.trunk_findings import trunk_finding
from unvanish.diagnose.view import View
from unvanish.i18n import _
from unvanish.records import Finding

_PARTS: tuple[Part, ...] = ("slope", "saturation", "off", "attention", "gate", "scale", "opaque")


def check(view: View) -> Sequence[Finding]:
    """Fire for the one of these parts that has the greatest share in an exploding signal."""
    remedy = _(
        "Use an activation whose slope stays near 1; bound the arguments of exponentials, powers"
        " and divisions (clamp); scale attention logits by 1/sqrt(d)."
    )
    sick = view.exploding
    if sick is None:
        return []
    part = max(_PARTS, key=lambda each: sick.parts.get(each, 0.0))
    if part == "scale":
        remedy = _("Leave the constant out, or make the weights behind it as much smaller.")
    return trunk_finding(view, "exploding", part, remedy)


RULE = Rule(
    code="EG105",
    verdict="exploding",
    title="signal blown up by activations, attention or gates",
    check=check,
    documentation=__doc__,
    thresholds=(
        "exploding-mild",
        "exploding-clear",
        "exploding-hopeless",
        "adaptive-factor",
        "contribution-share",
    ),
)
