"""EG103: sums of branches make the signal grow.

## What it finds

The backward signal grows toward the front, and a large share of the growth comes from residual
sums: each block adds what came back through its branch to what came back through its skip.

## Why it matters

With unscaled branches the variance doubles in every block, forward and backward: 64 blocks are
10^12. The loss starts many orders of magnitude too high.

## Known problems

Where the branch sends back more than the skip, the main path runs through the branch and its
weights are named instead (EG101): the same trouble, seen from the other side. A normalisation in
the branch, behind the sum's scale, keeps the growth slow (pre-norm transformers): that is healthy.

## Example

    for block in blocks:                      # 64 of them, no normalisation, He weights
        x = x + block(x)

## Cure

Scale each branch (by 0.1, or 1/sqrt(number of blocks)), start the last layer of each branch at 0,
or normalise inside the branch.

## References

- Zhang, Dauphin, Ma 2019, Fixup initialization, arXiv 1901.09321.
- De and Smith 2020, Batch normalization biases residual blocks toward the identity.
"""

from __future__ import annotations

from collections.abc import Sequence

from unvanish.diagnose.rule import Rule
from unvanish.diagnose.trunk_findings import trunk_finding
from unvanish.diagnose.view import View
from unvanish.i18n import _
from unvanish.records import Finding


def check(view: View) -> Sequence[Finding]:
    """Fire if sums of branches have a share in an exploding signal."""
    remedy = _(
        "Scale each residual branch down (by 0.1, or 1/sqrt(number of blocks)), start its last"
        " layer at 0, or normalise inside the branch."
    )
    return trunk_finding(view, "exploding", "merge", remedy)


RULE = Rule(
    code="EG103",
    verdict="exploding",
    title="signal blown up by sums of branches",
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
