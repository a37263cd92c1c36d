"""LH104: a loss that sums where it should average.

## What it finds

A loss summed over the numbers of a batch, without anything that divides by their count, whose first
steps are a large share of the weights, under an optimiser whose steps follow the gradient's size,
while training does not work.

## Why it matters

The gradient of a sum over n numbers is n times that of the mean. A learning rate that suits the
mean is then n times too large, and more so with every enlargement of the batch.

## Known problems

A sum is right with a learning rate to match: so the rule speaks only where the steps are measured
to be too large and training does not work, and not where the signal explodes from the start.
Optimisers that rescale (Adam) do not care, and are not judged.

## Example

    loss = F.mse_loss(net(x), y, reduction="sum")
    torch.optim.SGD(net.parameters(), lr=0.1)

## Cure

`reduction="mean"`, or divide by the number of samples; or a learning rate as much smaller.

## References

- Goyal et al. 2017, Accurate, large minibatch SGD, arXiv 1706.02677, section 2 (learning rate and
  batch size).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from unvanish.diagnose.rule import Rule
from unvanish.diagnose.sickness import later_codes
from unvanish.diagnose.view import TraceView, View
from unvanish.i18n import _
from unvanish.records import Evidence, Finding, Where
from unvanish.words import times


def check(view: View) -> Sequence[Finding]:
    """Fire if a summed loss makes the first steps too large and training does not work."""
    if view.optimizer is None or view.rescales or not view.training.comes_to_nothing:
        return []
    heads = [trace.trace.head for trace in view.traces if trace.trace.head is not None]
    sums = [head for head in heads if head.reduction == "sum" and head.entries]
    if not sums or len(sums) < len(heads):
        return []
    excess = math.log10(sums[0].entries) + sums[0].constant_log10
    steps = [(trace, size) for trace in view.traces if (size := _step(trace)) is not None]
    if not steps or excess < view.limit("sum-excess"):
        return []
    if view.exploding is not None and view.exploding.first_step <= steps[0][0].step:
        return []
    trace, size = steps[0]
    if size < view.limit("sum-step"):
        return []
    title = _(
        "The loss sums over {count} numbers instead of averaging: its gradient is {ratio} of the"
        " mean's, and the first step changes the weights by {step} of their size."
    )
    return [
        Finding(
            code="LH104",
            family="LH",
            verdict="loss-head",
            severity="error",
            title=title.format(count=sums[0].entries, ratio=times(excess), step=times(size)),
            where=Where(sums[0].module, sums[0].op),
            factor="loss",
            evidence=(
                Evidence("numbers_summed", float(sums[0].entries)),
                Evidence("sum_over_mean_log10", excess, view.limit("sum-excess")),
                Evidence("update_ratio_log10", size, view.limit("sum-step")),
                Evidence("training", view.training.state),
            ),
            remedy=_('Use reduction="mean", or a learning rate as many times smaller.'),
            model=view.model.name,
            step=trace.step,
            explains=("UR101", "UR106", "UR104", "NF101", "DU101", *later_codes(view, trace.step)),
        )
    ]


def _step(trace: TraceView) -> float | None:
    ratios = [
        row.update_ratio_log10
        for row in trace.trace.layers
        if row.update_ratio_log10 is not None and math.isfinite(row.update_ratio_log10)
    ]
    return median(ratios) if ratios else None


RULE = Rule(
    code="LH104",
    verdict="loss-head",
    title="a loss that sums where it should average",
    check=check,
    documentation=__doc__,
    thresholds=("sum-excess", "sum-step"),
)
