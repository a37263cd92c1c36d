"""UR102: the step is not what the gradient of this batch gives.

## What it finds

Under plain or momentum SGD the size of a step follows from the gradient and the learning rate. The
rule compares the two. Steps that grow beyond it from step to step: gradients accumulate over the
whole run, since zero_grad() is missing. Steps a thousand times smaller: something (clipping before
unscaling) eats the gradient.

## Why it matters

Every single backward pass is right, so gradients look fine; what is done with them is wrong.

## Known problems

Momentum may multiply a step by 1 / (1 - momentum), accumulation on purpose by the number of
micro-batches: both are allowed for. Optimisers that rescale (Adam) hide it, and are not judged.

## Example

    for x, y in loader:
        loss = criterion(net(x), y)
        loss.backward()                # optimizer.zero_grad() is missing
        optimizer.step()

## Cure

`optimizer.zero_grad()` before each backward (or once for each group of micro-batches);
`scaler.unscale_(optimizer)` before `clip_grad_norm_`.

## References

- PyTorch documentation, Automatic mixed precision examples, "Gradient clipping".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from unvanish.diagnose.rule import Rule
from unvanish.diagnose.view import TraceView, View
from unvanish.i18n import _
from unvanish.records import Evidence, Finding, OptimizerFacts, Where
from unvanish.words import times


def check(view: View) -> Sequence[Finding]:
    """Fire if the steps of SGD are steadily larger, or far smaller, than their gradients give."""
    optimizer = view.optimizer
    if optimizer is None or optimizer.name != "SGD":
        return []
    seen = [(trace, e) for trace in view.traces if (e := _excess(trace)) is not None]
    if len(seen) < 2:
        return []
    bound = _allowed(view, optimizer)
    later = seen[1:]
    grown = [(trace, e) for trace, e in later if e > bound]
    if len(later) >= 2 and len(grown) > len(later) / 2 and seen[0][1] <= bound:
        title = _(
            "Steps grow to {ratio} of what the gradient of the batch gives: gradients add up from"
            " step to step."
        )
        remedy = _("Call optimizer.zero_grad() before each backward.")
        greatest = max(e for _trace, e in grown)
        return [_finding(view, (grown[0][0], greatest), title, remedy, bound)]
    least = view.limit("step-share-least")
    if view.training.not_working and all(e <= least for _trace, e in seen):
        title = _("Steps are {ratio} of what the gradient gives: something takes the rest.")
        remedy = _("Unscale before clipping (scaler.unscale_(optimizer)), or clip less.")
        return [_finding(view, seen[0], title, remedy, least)]
    return []


def _allowed(view: View, optimizer: OptimizerFacts) -> float:
    """Decades by which a step may exceed the gradient's: momentum, micro-batches, and a margin."""
    momentum = min(optimizer.momentum or 0.0, 0.999)
    backwards = max((record.backwards for record in view.model.steps), default=1)
    return view.limit("step-share-margin") - math.log10(1 - momentum) + math.log10(backwards)


def _excess(trace: TraceView) -> float | None:
    """The median over layers of log10 of step over (learning rate times gradient)."""
    scale = math.log10(trace.trace.loss_scale) if trace.trace.loss_scale > 0 else 0.0
    found = []
    for row in trace.trace.layers:
        values = (row.update_ratio_log10, row.weight_log10, row.grad_log10)
        if row.lr is None or row.lr <= 0 or any(v is None or not math.isfinite(v) for v in values):
            continue
        update, weight, gradient = (value or 0.0 for value in values)
        found.append(update + weight - gradient + scale - math.log10(row.lr))
    return median(found) if found else None


def _finding(
    view: View, seen: tuple[TraceView, float], title: str, remedy: str, threshold: float
) -> Finding:
    trace, excess = seen
    return Finding(
        code="UR102",
        family="UR",
        verdict="update-size",
        severity="error" if view.training.not_working else "warning",
        title=title.format(ratio=times(excess)),
        where=Where(),
        factor=None,
        evidence=(
            Evidence("step_over_gradient_log10", excess, threshold),
            Evidence("training", view.training.state),
        ),
        remedy=remedy,
        model=view.model.name,
        step=trace.step,
        explains=("UR101", "DU101", "NF101"),
    )


RULE = Rule(
    code="UR102",
    verdict="update-size",
    title="steps that do not follow from the gradient",
    check=check,
    documentation=__doc__,
    thresholds=("step-share-margin", "step-share-least"),
)
