"""UR106: steps too short to get anywhere.

## What it finds

A training that is stuck while its gradient is alive: what all steps of the run (or of the rest of
it, from some step on) promise to take off the loss, by the inner product of the gradient and the
step, is less than a hundredth of the loss, though steps of a thousandth of the weights along the
same gradient would promise a good deal more. It says what makes them short, where that was
measured: the optimiser's eps, clipping, a number format that rounds steps away, a schedule.

## Why it matters

Nothing is wrong with the signal, and nothing comes of it: the weights stay where they are. An
accuracy at chance looks just like vanishing gradients.

## Known problems

A warm-up looks like this at its beginning: steps that grow are left alone. A net that has converged
has next to no gradient, so that no step would promise anything, and is left alone as well.

## Example

    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    for x, y in loader:
        ...
        scheduler.step()               # meant once an epoch

## Cure

A larger learning rate, by tens; a schedule that is stepped as often as it was meant to be; a bound
for clipping near the usual norm of the gradient; float32 weights (autocast); Adam's eps below the
size of the gradient, and no tiny constants in front of the loss.

## References

- Schneider, Dangel, Hennig 2021, Cockpit, arXiv 2102.06604 (what a step promises, what it brings).
- Micikevicius et al. 2018, Mixed precision training, arXiv 1710.03740 (float32 master weights).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from unvanish.diagnose.phrases import linear
from unvanish.diagnose.rule import Rule
from unvanish.diagnose.view import TraceView, View
from unvanish.i18n import _
from unvanish.records import Evidence, Finding, Where
from unvanish.words import percent, quantity, times

_USUAL = 1e-3  # a usual step, as a share of the weights
# How many times more usual steps must promise. Runs with steps too short measured 500 and more,
# runs stuck for other reasons 26 at most (and 140 with a dead layer, which then leads).
_LONGER = 50.0
_GROWN = 1.0  # decades by which later steps may be longer than the first ones; else a warm-up
_ROUNDED = -0.5  # decades: a plain step shorter than lr times the gradient by so much is rounded
_SHORTENED = -1.0  # decades that a schedule, or nothing else, takes off the first steps' length
_TAKEN = -1.0  # decades of the gradient that is left after clipping


@dataclass(frozen=True, slots=True)
class _Step:
    """One traced step: what it promises of the loss, and what a usual one would; the logs."""

    trace: TraceView
    promised: float
    usual: float
    length_log10: float  # norm of the step over that of the weights
    gradient_log10: float  # norm of the gradient that was taken
    share_log10: float  # taken over given


def check(view: View) -> Sequence[Finding]:
    """Fire if the steps of a stuck training promise nothing, though its gradient would."""
    training = view.training
    if training.state != "stuck" or not training.start or not view.model.steps:
        return []
    seen = [step for trace in view.traces if (step := _read(trace)) is not None]
    if len(seen) < min(2, len(view.traces)) or not seen:
        return []
    if seen[-1].length_log10 > seen[0].length_log10 + _GROWN:
        return []
    last = view.model.steps[-1].step
    spans = [
        after - step.trace.step
        for step, after in zip(seen, [*(s.trace.step for s in seen[1:]), last + 1], strict=True)
    ]
    for i, step in enumerate(seen):
        if step.trace.step > last / 2:
            break
        rest = list(zip(seen[i:], spans[i:], strict=True))
        promised = sum(one.promised * span for one, span in rest) / abs(training.start)
        usual = sum(one.usual * span for one, span in rest) / abs(training.start)
        short = promised < view.limit("promised-least") and usual >= _LONGER * promised
        if short and usual >= view.limit("promised-usual"):
            return [_finding(view, seen, i, promised, usual)]
    return []


def _read(trace: TraceView) -> _Step | None:
    taken = trace.trace.taken
    if taken is None or taken.predicted_change is None or not math.isfinite(taken.fresh_log10):
        return None
    weights = [
        one
        for one in trace.trace.parameters
        if one.update_ratio_log10 is not None and math.isfinite(one.weight_log10)
    ]
    size = math.hypot(*(linear(one.weight_log10) for one in weights))
    moved = math.hypot(
        *(linear(one.weight_log10 + (one.update_ratio_log10 or 0.0)) for one in weights)
    )
    if not (math.isfinite(size) and size > 0 and math.isfinite(moved)):
        return None
    return _Step(
        trace=trace,
        promised=-taken.predicted_change,
        usual=_USUAL * size * linear(taken.fresh_log10),
        length_log10=math.log10(moved / size) if moved else -math.inf,
        gradient_log10=taken.taken_log10,
        share_log10=taken.taken_log10 - taken.fresh_log10,
    )


def _finding(view: View, seen: list[_Step], first: int, promised: float, usual: float) -> Finding:
    step = seen[first]
    why, remedy = _cause(view, seen, first)
    title = _(
        "The steps are too short: together they promise to take {promised} off the loss, where"
        " steps of a thousandth of the weights would take {usual}. {why}"
    )
    if first:
        title = _(
            "The steps are too short from step {step} on: together they promise to take {promised}"
            " off the loss, where steps of a thousandth of the weights would take {usual}. {why}"
        )
    return Finding(
        code="UR106",
        family="UR",
        verdict="update-size",
        severity="error",
        title=title.format(
            step=step.trace.step,
            promised=percent(max(promised, 0.0)),
            usual=percent(usual),
            why=why,
        ).strip(),
        where=Where(),
        factor=None,
        evidence=(
            Evidence("promised_fall", promised, view.limit("promised-least")),
            Evidence("usual_fall", usual, view.limit("promised-usual")),
            Evidence("step_length_log10", step.length_log10),
            Evidence("lr", max(view.optimizer.lr, default=0.0) if view.optimizer else 0.0),
            Evidence("training", view.training.state),
        ),
        remedy=remedy,
        model=view.model.name,
        step=step.trace.step,
        explains=("UR101",),
    )


def _cause(view: View, seen: list[_Step], first: int) -> tuple[str, str]:
    """What makes the steps short, and what to do about it."""
    step, facts = seen[first], view.optimizer
    shortened = _pace(view, seen[-1]) - _pace(view, seen[0])
    if shortened < _SHORTENED:
        return (
            _("In the end they are {times} as long as at first: a schedule shortens them.").format(
                times=times(shortened)
            ),
            _("Step the scheduler once an epoch, if it was meant so, or let it decay more slowly."),
        )
    if step.share_log10 <= _TAKEN:
        return (
            _("Clipping leaves {times} of the gradient.").format(times=times(step.share_log10)),
            _("Raise the bound of clipping to the usual norm of the gradient, or clip by it."),
        )
    count = sum(one.numel for one in view.model.parameters if one.in_optimizer)
    size = step.gradient_log10 - math.log10(count) / 2 if count else math.inf
    if facts is not None and facts.rescales and facts.eps and size < math.log10(facts.eps):
        return (
            _("The optimiser's eps of {eps} outweighs gradients of {size}.").format(
                eps=quantity(facts.eps), size=quantity(linear(size))
            ),
            _("Take tiny constants out of the loss, or set eps well below the gradients."),
        )
    if facts is not None and not facts.rescales and _is_rounded(seen[0], max(facts.lr, default=0)):
        return (
            _("They are shorter than the learning rate makes them: the weights' number format"
              " rounds them away."),
            _("Keep the weights in float32 (autocast), and only compute in half precision."),
        )  # fmt: skip
    return "", _("Raise the learning rate, by tens.")


def _pace(view: View, step: _Step) -> float:
    """The length of a step (log10), for the same gradient."""
    rescales = view.optimizer is not None and view.optimizer.rescales
    return step.length_log10 - (0.0 if rescales else step.gradient_log10)


def _is_rounded(step: _Step, lr: float) -> bool:
    """Whether a first step, which momentum has not lengthened yet, is shorter than lr times g."""
    if not lr > 0:
        return False
    # g^T dw is lr ||g||^2 for a plain step, whatever is added to the weights by rounding.
    expected = math.log10(lr) + 2 * step.gradient_log10
    return step.promised <= 0 or math.log10(step.promised) - expected < _ROUNDED


RULE = Rule(
    code="UR106",
    verdict="update-size",
    title="steps too short to get anywhere",
    check=check,
    documentation=__doc__,
    thresholds=("promised-least", "promised-usual"),
)
