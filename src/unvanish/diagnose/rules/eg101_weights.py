"""EG101: weights too large.

## What it finds

The backward signal grows on its way from the network's output to the first layer, and a large share
of the growth is due to weights: each linear layer multiplies it by more than what keeps it (1, or
sqrt(2) in front of a ReLU).

## Why it matters

The gradients of the first layers are then orders of magnitude larger than those of the last ones:
no learning rate suits both. Often the activations explode too, and the first step ends in NaN.

## Known problems

The gradients of the *weights* can look flat (ratio 0.2 over 20 layers) while the signal grows
10^14-fold: large activations in the last layers make up for small signals there. So the rule looks
at the signal. A weight that a normalisation follows directly is not judged by its scale.

## Example

    for layer in linears:
        nn.init.normal_(layer.weight)        # N(0, 1) at width 64: ×5.7 behind a ReLU

## Cure

`nn.init.kaiming_normal_` (ReLU) or `xavier_normal_` (tanh). Clipping the gradient hides the
symptom.

## References

- He et al. 2015, Delving deep into rectifiers, arXiv 1502.01852.
- Hanin 2018, Which neural net architectures give rise to exploding and vanishing gradients?
"""

from __future__ import annotations

from collections.abc import Sequence

from unvanish.diagnose.rule import Rule
from unvanish.diagnose.trunk_findings import trunk_finding
from unvanish.diagnose.view import View
from unvanish.i18n import _
from unvanish.records import Finding


def check(view: View) -> Sequence[Finding]:
    """Fire if large weights have a share in an exploding signal."""
    remedy = _(
        "Initialise the weights at the scale that keeps the signal: He's for ReLU"
        " (nn.init.kaiming_normal_), Xavier for tanh; or put a normalisation behind each linear"
        " layer. Clipping the gradient only hides it."
    )
    return trunk_finding(view, "exploding", "weight", remedy)


RULE = Rule(
    code="EG101",
    verdict="exploding",
    title="weights too large",
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
