"""UR102: the step does not take the gradient of this batch.

## What it finds

The gradient that the optimiser finds in `.grad` when it steps, against the one that the backward
pass has just given. Two faults show there, under any optimiser:

- `.grad` still holds the gradient of earlier steps when the first backward of a step begins:
  gradients add up over the whole run, since zero_grad() is missing;
- next to nothing of the gradient is left when the step begins: something took it. Where a gradient
  scaler is at work, that is clipping before unscaling: what is left, times the loss scale, is the
  clipping bound.

## Why it matters

Every single backward pass is right, so gradients look fine; what is done with them is wrong. Summed
gradients make each step longer than the one before, and in a direction that is out of date, until
training diverges. Steps of a 65536th of the gradient do not move anything.

## Known problems

Several backward passes before one step (micro-batches) are no fault: only what is there before the
first of them counts. Clipping on purpose takes a factor of ten or a hundred, more where the signal
explodes: without a gradient scaler only a loss of a factor of a thousand counts, while training
does not work and the signal does not explode.

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
from unvanish.diagnose.sickness import later_codes
from unvanish.diagnose.view import TraceView, View
from unvanish.i18n import _
from unvanish.records import Evidence, Finding, StepGradient, Where
from unvanish.words import times

_LATER = 2  # looks after the first step that must find gradients left over
_Seen = list[tuple[TraceView, StepGradient]]


def check(view: View) -> Sequence[Finding]:
    """Fire if steps take gradients of earlier steps as well, or next to nothing of their own."""
    seen = [(trace, trace.trace.taken) for trace in view.traces if trace.trace.taken is not None]
    return _adding_up(view, seen) or _eaten(view, seen)


def _adding_up(view: View, seen: _Seen) -> list[Finding]:
    first = view.traces[0].step if view.traces else 0
    later = [
        (trace, taken, left)
        for trace, taken in seen
        if trace.step > first and (left := taken.leftover_log10) is not None
    ]
    if len(later) < _LATER or not all(_counts(taken, left, view) for _t, taken, left in later):
        return []
    trace = later[0][0]
    title = _(
        "Gradients add up from step to step: when a backward begins, the gradient of earlier steps"
        " is still there, {ratio} of the fresh one (median)."
    )
    excess = median(min(left - taken.fresh_log10, 300.0) for _t, taken, left in later)
    remedy = _("Call optimizer.zero_grad() before each backward.")
    evidence = Evidence("leftover_over_fresh_log10", excess, view.limit("leftover-least"))
    return [_finding(view, trace, title.format(ratio=times(excess)), remedy, evidence)]


def _counts(taken: StepGradient, left: float, view: View) -> bool:
    if left == -math.inf:
        return False
    return not left - taken.fresh_log10 < view.limit("leftover-least")  # NaN counts


def _eaten(view: View, seen: _Seen) -> list[Finding]:
    if seen and all(
        taken.taken_log10 == -math.inf and math.isfinite(taken.fresh_log10) for _t, taken in seen
    ):
        title = _(
            "The gradient is 0 when the optimiser steps, though the backward gave one: it is zeroed"
            " in between."
        )
        remedy = _("Call optimizer.zero_grad() before the backward, not between backward and step.")
        evidence = Evidence("taken_over_fresh_log10", -math.inf, view.limit("step-share-least"))
        return [_finding(view, seen[0][0], title, remedy, evidence)]
    shares = [
        (trace, taken, share)
        for trace, taken in seen
        if math.isfinite(share := taken.taken_log10 - taken.fresh_log10)
    ]
    if len(shares) < min(2, len(view.traces)) or not shares:
        return []
    if all(_clipped_scaled(trace, taken, share, view) for trace, taken, share in shares):
        title = _(
            "The optimiser takes {ratio} of the gradient: it was clipped before it was unscaled, at"
            " a bound that the loss scale of {scale:g} makes as much too small."
        )
        scale = shares[0][0].trace.loss_scale
        bound = view.limit("scaled-share-least")
    elif (
        view.training.not_working
        and view.exploding is None
        and all(share <= view.limit("step-share-least") for _t, _taken, share in shares)
    ):
        title = _("The optimiser takes {ratio} of the gradient: something takes the rest.")
        scale, bound = 1.0, view.limit("step-share-least")
    else:
        return []
    share = median(share for _t, _taken, share in shares)
    remedy = _("Unscale before clipping (scaler.unscale_(optimizer)), or clip less.")
    evidence = Evidence("taken_over_fresh_log10", share, bound)
    text = title.format(ratio=times(share), scale=scale)
    return [_finding(view, shares[0][0], text, remedy, evidence)]


def _clipped_scaled(trace: TraceView, taken: StepGradient, share: float, view: View) -> bool:
    """Whether a scaler is at work and less is left than any sensible bound would leave."""
    scaled = trace.trace.phase == "scaled" and trace.trace.loss_scale > 1.0
    small = taken.taken_log10 <= view.limit("clipping-bound-least")
    return scaled and small and share <= view.limit("scaled-share-least")


def _finding(view: View, trace: TraceView, title: str, remedy: str, evidence: Evidence) -> Finding:
    return Finding(
        code="UR102",
        family="UR",
        verdict="update-size",
        severity="error" if view.training.not_working else "warning",
        title=title,
        where=Where(),
        factor=None,
        evidence=(evidence, Evidence("training", view.training.state)),
        remedy=remedy,
        model=view.model.name,
        step=trace.step,
        explains=(
            "UR101",
            "UR104",
            "DU101",
            "FS101",
            "FS104",
            "NF101",
            *later_codes(view, trace.step),
        ),
    )


RULE = Rule(
    code="UR102",
    verdict="update-size",
    title="steps that do not follow from the gradient",
    check=check,
    documentation=__doc__,
    thresholds=(
        "leftover-least",
        "scaled-share-least",
        "clipping-bound-least",
        "step-share-least",
    ),
)
