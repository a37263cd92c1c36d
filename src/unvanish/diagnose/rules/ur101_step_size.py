"""UR101: steps far too large or far too small for the weights.

## What it finds

What an optimiser's step changes, against what it changes: ||dw|| / ||w||, by layer. A step that
replaces the weights (more than their own size in half of the layers), or steps so small that no
layer moves (a millionth) under a learning rate that explains it, while training does not work.

## Why it matters

Around a thousandth is usual. Far above, every step throws away what was learnt and may drive units
into saturation or kill them; far below, and below the resolution of the number format, training
stands still although the gradients are fine.

## Known problems

Weights that start at 0 have an infinite ratio at first, so the median over layers is used. Small
ratios are right where the gradient is small, at the end of training: they count only where the
learning rate is tiny. Only a training that does not work is judged; with a single traced step a
step larger than the weights is a warning.

## Example

    optimizer = torch.optim.Adam(net.parameters(), lr=0.3)

## Cure

Another learning rate (by tens); warm-up. In float16 keep float32 master weights (autocast) or use
bfloat16.

## References

- Karpathy 2019, A recipe for training neural networks (the ratio of updates to weights).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from unvanish.diagnose.nonfinite import outgrown
from unvanish.diagnose.rule import Rule
from unvanish.diagnose.view import TraceView, View
from unvanish.i18n import _
from unvanish.records import Evidence, Finding, Severity, Where
from unvanish.words import times


def check(view: View) -> Sequence[Finding]:
    """Fire if steps are out of band and training does not work (or too short to say)."""
    sizes = [(trace, ratios) for trace in view.traces if (ratios := _ratios(trace))]
    if not sizes or view.training.state == "falling":
        return []
    severity: Severity = "error" if view.training.not_working else "warning"
    large = [(t, m) for t, ratios in sizes if (m := median(ratios)) >= view.limit("update-large")]
    if large:
        title = _("The step changes the weights by {ratio} of their size (median of the layers).")
        remedy = _("Lower the learning rate, by tens, or warm it up.")
        found = _finding(view, large[0], severity, title, remedy, view.limit("update-large"))
        return [replace(found, explains=_later_overflow(view, large[0][0].step))]
    largest = [(trace, max(ratios)) for trace, ratios in sizes]
    rate = max(view.optimizer.lr, default=1.0) if view.optimizer else 1.0
    if (
        view.training.state == "stuck"
        and rate <= view.limit("lr-small")
        and all(size <= view.limit("update-small") for _trace, size in largest)
    ):
        title = _("No layer moves: a step changes the weights by {ratio} of their size at most.")
        remedy = _("Raise the learning rate, by tens; keep master weights in float32.")
        return [_finding(view, largest[0], severity, title, remedy, view.limit("update-small"))]
    return []


def _later_overflow(view: View, step: int) -> tuple[str, ...]:
    """What comes of such steps: numbers that outgrow the format, if they did so afterwards."""
    bad = view.nonfinite_step
    if bad is None or bad <= step:
        return ()
    faults = [trace.trace.nonfinite for trace in view.traces if trace.trace.nonfinite]
    return ("NF101",) if outgrown(faults[0] if faults else None) else ()


def _ratios(trace: TraceView) -> list[float]:
    return [
        row.update_ratio_log10
        for row in trace.trace.layers
        if row.update_ratio_log10 is not None and not math.isnan(row.update_ratio_log10)
    ]


def _finding(
    view: View,
    seen: tuple[TraceView, float],
    severity: Severity,
    title: str,
    remedy: str,
    threshold: float,
) -> Finding:
    trace, size = seen
    return Finding(
        code="UR101",
        family="UR",
        verdict="update-size",
        severity=severity,
        title=title.format(ratio=times(size)),
        where=Where(),
        factor=None,
        evidence=(
            Evidence("update_ratio_log10", size, threshold),
            Evidence("lr", max(view.optimizer.lr, default=0.0) if view.optimizer else 0.0),
            Evidence("training", view.training.state),
        ),
        remedy=remedy,
        model=view.model.name,
        step=trace.step,
    )


RULE = Rule(
    code="UR101",
    verdict="update-size",
    title="steps far too large or far too small",
    check=check,
    documentation=__doc__,
    thresholds=("update-large", "update-small", "lr-small"),
)
