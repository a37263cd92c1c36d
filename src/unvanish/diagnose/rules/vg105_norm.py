"""VG105: normalisation shrinks the signal.

## What it finds

The backward signal vanishes, and a large share of the loss happens in normalisation layers, or in
weights that a normalisation directly follows.

## Why it matters

A normalisation sends back 1/std of what it normalised, and takes out the mean and the component
along its output. In a post-norm transformer each of them divides by the size of skip plus branch;
when the branches grow during training, the front of the network starves.

## Known problems

A post-norm transformer looks healthy at the first step (a ratio of 0.1 over 18 layers) and dies
during training: one look at the start is not enough.

## Example

    layer = nn.TransformerEncoderLayer(32, 4, norm_first=False)
    encoder = nn.TransformerEncoder(layer, 18)   # Adam at 3e-3, no warm-up

## Cure

Normalise inside the branch (`norm_first=True`), warm the learning rate up, or scale the branches
down (DeepNorm).

## References

- Xiong et al. 2020, On layer normalization in the transformer architecture, arXiv 2002.04745.
- Liu et al. 2020, Understanding the difficulty of training transformers, arXiv 2004.08249.
"""

from __future__ import annotations

from collections.abc import Sequence

from unvanish.diagnose.rule import Rule
from unvanish.diagnose.trunk_findings import trunk_finding
from unvanish.diagnose.view import View
from unvanish.i18n import _
from unvanish.records import Finding


def check(view: View) -> Sequence[Finding]:
    """Fire if normalisation has a share in a vanishing signal."""
    remedy = _(
        "Normalise inside the branches instead of after the sums (norm_first=True), warm the"
        " learning rate up, or scale the branches down."
    )
    return trunk_finding(view, "vanishing", "norm", remedy)


RULE = Rule(
    code="VG105",
    verdict="vanishing",
    title="signal lost in normalisation",
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
