"""EG104: normalisation makes the signal grow.

## What it finds

The backward signal grows toward the front, and a large share of the growth happens in
normalisation layers, beyond what they do by design.

## Why it matters

BatchNorm before ReLU multiplies the signal by 1.21 in every layer (sqrt(pi / (pi - 1))), and by
more for small batches. Without skips, and beyond some fifty layers, the front's gradients explode
however the weights are scaled.

## Known problems

Image models without skips grow 200 to 800 times at the start and train well: growth at the pace of
the theory is allowed for, up to 6 decades in all, and up to 3 where training does not work.

## Example

    layers = [m for _ in range(100) for m in (nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU())]

## Cure

Skips around the normalised layers; fewer layers; a larger batch.

## References

- Yang et al. 2019, A mean field theory of batch normalization, arXiv 1902.08129.
"""

from __future__ import annotations

from collections.abc import Sequence

from unvanish.diagnose.rule import Rule
from unvanish.diagnose.trunk_findings import trunk_finding
from unvanish.diagnose.view import View
from unvanish.i18n import _
from unvanish.records import Finding


def check(view: View) -> Sequence[Finding]:
    """Fire if normalisation has a share in an exploding signal."""
    remedy = _("Put skips around the normalised layers; use fewer of them, or a larger batch.")
    return trunk_finding(view, "exploding", "norm", remedy)


RULE = Rule(
    code="EG104",
    verdict="exploding",
    title="signal blown up by normalisation",
    check=check,
    documentation=__doc__,
    thresholds=(
        "exploding-norm-allowance",
        "norm-growth-limit",
        "norm-growth-limit-stuck",
        "exploding-mild",
        "exploding-clear",
        "exploding-hopeless",
        "contribution-share",
    ),
)
