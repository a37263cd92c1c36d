"""VG101: the activation's slope is too small by nature.

## What it finds

The backward signal vanishes on its way from the network's output to the first layer, and the
largest or a large share of the loss is due to slopes of activations that are small although their
units are *not* saturated: the sigmoid's slope is at most 1/4; GELU and SiLU have a slope of 1/2
around 0, where small weights keep them.

## Why it matters

By the chain rule the gradient of an early layer holds one slope of every layer behind it. Twenty
factors of 0.25 are 10^-12. The layers in front then learn nothing, and everything behind them
learns from what is next to random features.

## Known problems

Slope and weights can be traded: a sigmoid with four times larger weights has the same factor as
a tanh with the usual ones. The rule splits the loss as it is measured, and names both. For
positively homogeneous activations (ReLU, leaky ReLU) it counts only what is missing from their own
root mean square slope, sqrt((1 + a^2) / 2), since the usual initialisation makes up for that.

## Example

    layers = []
    for _ in range(20):
        layers += [nn.Linear(100, 100), nn.Sigmoid()]
    # each sigmoid x0.25, each default Linear x0.58: x0.14 a layer

## Cure

ReLU with He weights, or tanh with orthogonal weights; or a normalisation before each activation;
or skips around the layers. Whoever must keep the sigmoid: weights of four times the size, with a
bias of minus half the row sum, make it a tanh.

## References

- Bengio, Simard, Frasconi 1994, Learning long-term dependencies with gradient descent is difficult.
- Glorot and Bengio 2010, Understanding the difficulty of training deep feedforward networks.
- Schoenholz et al. 2017, Deep information propagation, arXiv 1611.01232.
"""

from __future__ import annotations

from collections.abc import Sequence

from unvanish.diagnose.rule import Rule
from unvanish.diagnose.trunk_findings import trunk_finding
from unvanish.diagnose.view import View
from unvanish.i18n import _
from unvanish.records import Finding


def check(view: View) -> Sequence[Finding]:
    """Fire if slopes that are small by nature have a share in a vanishing signal."""
    remedy = _(
        "Use an activation whose slope does not stay below 1 (ReLU with He weights, tanh with"
        " orthogonal weights), or put a normalisation before each activation, or skips around the"
        " layers."
    )
    return trunk_finding(view, "vanishing", "slope", remedy)


RULE = Rule(
    code="VG101",
    verdict="vanishing",
    title="slope of the activation too small by nature",
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
