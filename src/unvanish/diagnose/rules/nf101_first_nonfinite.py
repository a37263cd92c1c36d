"""NF101: the first op that makes a NaN or an infinity.

## What it finds

The op that first turned finite numbers into NaN or infinity: in the forward pass in forward order,
in the backward pass in backward order, or the optimiser's step if gradients were finite and the
parameters are not. With it the usual cause of that op.

## Why it matters

One NaN spreads to every parameter in a single step; from then on the cause can no longer be seen.

## Known problems

Infinities that a gradient scaler meets while it finds its scale are no fault: it skips those steps.
If the NaN arises between two traced steps, only the step is known. A signal that was exploding
before comes first (EG101), and the NaN hangs under it.

## Example

    distance = ((a - b) ** 2).sum(1).sqrt()   # a == b: the slope of sqrt at 0 is infinite,
    distance.mean().backward()                # times 0 is NaN, though the loss is finite

## Cure

Keep the argument away from the singular point *before* the op: `sqrt(x + eps)`,
`log(x.clamp_min(eps))`, `acos(x.clamp(-1 + eps, 1 - eps))`. With torch.where, mask the inputs, not
only the result. For whole classes of them use the fused losses (`cross_entropy`,
`binary_cross_entropy_with_logits`, `logsumexp`).

## References

- PyTorch documentation, Autograd mechanics, "Gradients for non-differentiable functions".
- Goldberg 1991, What every computer scientist should know about floating-point arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

from unvanish.diagnose.nonfinite import usual_cause
from unvanish.diagnose.phrases import place
from unvanish.diagnose.rule import Rule
from unvanish.diagnose.view import TraceView, View
from unvanish.i18n import _
from unvanish.records import Evidence, Finding, NonFinite, Severity, Where
from unvanish.words import percent

_ENOUGH_STEPS = 10  # before the share of skipped steps says anything


def check(view: View) -> Sequence[Finding]:
    """Fire for the first non-finite number of the run, wherever it was seen."""
    skipped = {record.step for record in view.model.steps if record.skipped}
    traced = [trace for trace in view.traces if trace.trace.nonfinite is not None]
    real = [trace for trace in traced if trace.step not in skipped]
    if real:
        return [_traced(view, real[0], _severity(view, real[-1].step))]
    if view.training.nonfinite_step is not None:
        return [_untraced(view, view.training.nonfinite_step)]
    total = len(view.model.steps)
    if total >= _ENOUGH_STEPS and len(skipped) > view.limit("overflow-skips") * total:
        return [_skipping(view, traced, len(skipped) / total)]
    return []


def _severity(view: View, last_bad: int) -> Severity:
    """A run that came back to finite numbers and stayed with them has had an accident."""
    after = [trace for trace in view.traces if trace.step > last_bad]
    recovered = len(after) >= 2 and view.training.state != "diverging"
    return "warning" if recovered else "error"


def _traced(view: View, trace: TraceView, severity: Severity) -> Finding:
    fault = trace.trace.nonfinite
    assert fault is not None
    titles = {
        "forward": _("The forward pass first makes {kind} in {op} of {where}, at step {step}."),
        "backward": _("The backward pass first makes {kind} in {op} of {where}, at step {step}."),
        "parameters": _("The optimiser's step makes {kind} in {where}, at step {step}: gradients"
                        " were finite."),
    }  # fmt: skip
    kind = _("NaN") if fault.kind == "nan" else _("an infinity")
    grown = trace.step > view.traces[0].step
    cause = usual_cause(fault, view.optimizer, trace.trace.phase == "scaled", grown)
    detail = f" ({fault.detail})" if fault.detail else ""
    title = titles[fault.direction].format(
        kind=kind, op=fault.op, where=place(fault.module), step=trace.step
    )
    title = f"{title[:-1]}{detail}{title[-1]} {cause.why}"
    return _finding(view, fault, severity, title, cause.remedy, trace.step)


def _untraced(view: View, step: int) -> Finding:
    severity: Severity = "error" if view.training.state == "diverging" else "warning"
    if any(trace.step == step for trace in view.traces):
        return _finding(
            view,
            None,
            severity,
            _(
                "The loss is not finite at step {step}, and no op that a gradient passes made it:"
                " a constant holds it (a target, a mask, a weight of the loss)."
            ).format(step=step),
            _("Print the targets and whatever else the loss takes beside the network's output."),
            step,
        )
    return _finding(
        view,
        None,
        severity,
        _("The loss is not finite at step {step}, which was not traced.").format(step=step),
        _("Run again, and trace every step up to it, to see the op that makes it."),
        step,
    )


def _skipping(view: View, traced: list[TraceView], share: float) -> Finding:
    fault = traced[0].trace.nonfinite if traced else None
    return _finding(
        view,
        fault,
        "error" if view.training.not_working else "warning",
        _("The gradient scaler skipped {share} of the steps: it does not find a scale.").format(
            share=percent(share)
        ),
        _("Something overflows at any scale: look for infinities in the forward pass in float16."),
        traced[0].step if traced else None,
        (Evidence("skipped_share", share, view.limit("overflow-skips")),),
    )


def _finding(
    view: View,
    fault: NonFinite | None,
    severity: Severity,
    title: str,
    remedy: str,
    step: int | None,
    evidence: tuple[Evidence, ...] = (),
) -> Finding:
    if fault is not None:
        where = Where(fault.module, fault.op, fault.call, fault.source)
        evidence += (Evidence("direction", fault.direction), Evidence("kind", fault.kind))
    else:
        where = Where()
    return Finding(
        code="NF101",
        family="NF",
        verdict="non-finite",
        severity=severity,
        title=title.strip(),
        where=where,
        factor=None,
        evidence=evidence or (Evidence("training", view.training.state),),
        remedy=remedy,
        model=view.model.name,
        step=step,
        explains=("UR101", "UR106", "CG103", "FS103"),
    )


RULE = Rule(
    code="NF101",
    verdict="non-finite",
    title="first op that makes a NaN or an infinity",
    check=check,
    documentation=__doc__,
    thresholds=("overflow-skips",),
)
