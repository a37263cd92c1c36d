"""VG106: attention, gates, sums, constants or fused ops shrink the signal.

## What it finds

The backward signal vanishes, and a large share of the loss happens where data meet data: in
attention, in products of two activations (gates), in sums whose branches cancel, at a
constant between two layers, or inside an op that hides several factors (fused or compiled).

## Why it matters

An attention that averages over everything, or looks at one token only, passes little back through
its scores; a closed gate passes nothing. Layers in front of it starve as behind a small weight.

## Known problems

Query and key branches of attention are weak by nature, 10^-6 in an untrained BERT, and healthy:
only the trunk is judged, which seldom runs through them. A fused op is one factor here: what is to
blame inside cannot be told.

## Example

    x = torch.sigmoid(gate(x) - 10.0) * value(x)     # a gate that starts closed, twenty times over

## Cure

A skip around the layer; gates that start open (a bias); attention logits scaled by 1/sqrt(d).

## References

- Dong, Cordonnier, Loukas 2021, Attention is not all you need, arXiv 2103.03404.
"""

from __future__ import annotations

from collections.abc import Sequence

from unvanish.diagnose.rule import Rule
from unvanish.diagnose.trunk import Part
from unvanish.diagnose.trunk_findings import trunk_finding
from unvanish.diagnose.view import View
from unvanish.i18n import _
from unvanish.records import Finding

_PARTS: tuple[Part, ...] = ("attention", "gate", "merge", "scale", "opaque")


def check(view: View) -> Sequence[Finding]:
    """Fire for the one of these parts that has the greatest share in a vanishing signal."""
    remedy = _(
        "Put a skip around the layer; let gates start open (a bias); scale attention logits by"
        " 1/sqrt(d)."
    )
    sick = view.vanishing
    if sick is None:
        return []
    part = max(_PARTS, key=lambda each: sick.parts.get(each, 0.0))
    if part == "scale":
        remedy = _("Leave the constant out, or make the weights behind it as much larger.")
    return trunk_finding(view, "vanishing", part, remedy)


RULE = Rule(
    code="VG106",
    verdict="vanishing",
    title="signal lost in attention, gates, sums or constants",
    check=check,
    documentation=__doc__,
    thresholds=(
        "vanishing-mild",
        "vanishing-clear",
        "vanishing-hopeless",
        "adaptive-factor",
        "contribution-share",
    ),
)
