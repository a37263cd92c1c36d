"""VG103: weights too small.

## What it finds

The backward signal vanishes, and a large share of the loss is due to weights: each linear layer
multiplies the signal by less than what keeps it (1, or sqrt(2) in front of a ReLU). Also a layer
whose weights are exactly 0 and stay 0.

## Why it matters

A linear layer sends back W^T times what came in: its gain is about sigma_w = std(W) sqrt(fan_in)
(in Frobenius norm, for layers of equal width). PyTorch's default for nn.Linear has sigma_w = 0.58:
behind a ReLU, ×0.41 a layer, 10^-12 after thirty.

## Known problems

A weight that a normalisation follows directly (convolution, then BatchNorm) is not judged by its
scale, because the output does not depend on it; the two are judged together (VG105). Weights that
are 0 at the first step are no fault if they move later (LoRA's B, zero-initialised heads and
branches): with one traced step this is only a remark.

## Example

    net = nn.Sequential(*[m for _ in range(30) for m in (nn.Linear(64, 64), nn.ReLU())])
    # default weights: 30 layers of ×0.41

## Cure

`nn.init.kaiming_normal_(weight, nonlinearity="relu")` for ReLU, `orthogonal_` for tanh; or a
normalisation behind each linear layer. For other activations take the gain from theory: torch's
`calculate_gain` knows only a few.

## References

- He et al. 2015, Delving deep into rectifiers, arXiv 1502.01852.
- Glorot and Bengio 2010, Understanding the difficulty of training deep feedforward networks.
"""

from __future__ import annotations

from collections.abc import Sequence

from unvanish.diagnose.phrases import place
from unvanish.diagnose.rule import Rule
from unvanish.diagnose.trunk_findings import trunk_finding
from unvanish.diagnose.view import View
from unvanish.i18n import _
from unvanish.records import Evidence, Finding, PathEdge, Where

_LATER_TRACES = 2  # looks after the first step that must still find the weights at zero


def check(view: View) -> Sequence[Finding]:
    """Fire if small weights have a share in a vanishing signal, or if zero weights block it."""
    remedy = _(
        "Initialise the weights at the scale that keeps the signal: He's for ReLU"
        " (nn.init.kaiming_normal_), orthogonal for tanh; or put a normalisation behind each"
        " linear layer."
    )
    return trunk_finding(view, "vanishing", "weight", remedy) or _zero_weights(view)


def _zero_weights(view: View) -> Sequence[Finding]:
    judged = [trace for trace in view.traces if trace.trunk is not None]
    cuts = [
        trace.trunk.cut.edge
        for trace in judged
        if trace.trunk and trace.trunk.cut and trace.trunk.cut.part == "weight"
    ]
    if not cuts or len(cuts) < len(judged):
        return []  # not always: whatever was zero has moved
    later = sum(trace.step > judged[0].step for trace in judged)
    return [_zero_finding(view, cuts[0], judged[0].step, stays=later >= _LATER_TRACES)]


def _zero_finding(view: View, cut: PathEdge, step: int, *, stays: bool) -> Finding:
    module = cut.module
    if stays:
        title = _("The weights of {where} are exactly 0 and stay so: nothing passes back.")
        remedy = _("Initialise them, and see that the optimiser holds them.")
    else:
        title = _("The weights of {where} are exactly 0 at this step: nothing passes back yet.")
        remedy = _(
            "Nothing to do if they are zero by design (a zero-initialised head or branch) and"
            " move: look again a few steps later."
        )
    return Finding(
        code="VG103",
        family="VG",
        verdict="vanishing",
        severity="error" if stays else "info",
        title=title.format(where=place(module)),
        where=Where(module, cut.op, cut.call, view.source(module)),
        factor="weight",
        evidence=(Evidence("weight_gain", 0.0),),
        remedy=remedy,
        model=view.model.name,
        step=step,
    )


RULE = Rule(
    code="VG103",
    verdict="vanishing",
    title="weights too small",
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
