"""UR105: a hand-written backward that is wrong.

## What it finds

A torch.autograd.Function in the network whose backward ignores the gradient that comes in (it gives
a gradient even where none comes), or whose slope differs from that of its own forward, found by
finite differences, by two fifths or more.

## Why it matters

Everything in front of it is trained on something that is not the gradient of the loss. Without the
factor that comes in, no error of the output reaches the layers in front: the chain rule is cut,
though the gradients there look alive.

## Known problems

Many backwards differ from the slope on purpose, and are not judged: straight-through estimators and
surrogates of step functions, identities that reverse or scale gradients, whatever gives another
result when it is called again, auxiliary losses that are smuggled in. It is tried out on a replay,
for the first call of each class, in double precision where it takes that.

## Example

    class Exp(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(y := x.exp())
            return y

        @staticmethod
        def backward(ctx, grad_output):
            return ctx.saved_tensors[0]          # times grad_output is missing

## Cure

Multiply by grad_output; hold the function against `torch.autograd.gradcheck` in double precision.

## References

- PyTorch documentation, Extending PyTorch, and torch.autograd.gradcheck.
"""

from __future__ import annotations

from collections.abc import Sequence

from unvanish.diagnose.phrases import place
from unvanish.diagnose.rule import Rule
from unvanish.diagnose.sickness import CODES
from unvanish.diagnose.view import TraceView, View
from unvanish.i18n import _
from unvanish.records import CustomBackward, Evidence, Finding, Where
from unvanish.words import percent

_EXPLAINS = (*CODES["vanishing"].values(), *CODES["exploding"].values())


def check(view: View) -> Sequence[Finding]:
    """Fire for a custom function whose backward was seen to be wrong whenever it was tried."""
    tried: dict[str, list[tuple[TraceView, CustomBackward]]] = {}
    for trace in view.traces:
        for one in trace.trace.custom:
            tried.setdefault(one.op, []).append((trace, one))
    wrong = [seen[0] for seen in tried.values() if all(_wrong(one, view) for _t, one in seen)]
    return [_finding(view, *wrong[0], len(wrong))] if wrong else []


def _wrong(one: CustomBackward, view: View) -> bool:
    if one.ignores_gradient:
        return True
    return one.error is not None and one.error >= view.limit("backward-error")


def _finding(view: View, trace: TraceView, one: CustomBackward, count: int) -> Finding:
    if one.ignores_gradient:
        title = _("The backward of {op} in {where} gives a gradient even where none comes in.")
        evidence = Evidence("gradient_without_input", _("yes"))
        remedy = _("Multiply what it returns by grad_output.")
    else:
        title = _(
            "The backward of {op} in {where} is {error} off the slope of its forward, found by"
            " finite differences."
        )
        evidence = Evidence("slope_error", one.error or 0.0, view.limit("backward-error"))
        remedy = _("Hold it against torch.autograd.gradcheck, in double precision.")
    return Finding(
        code="UR105",
        family="UR",
        verdict="update-size",
        severity="warning" if view.training.works else "error",
        title=title.format(
            op=one.op,
            where=place(one.module),
            error=percent(one.error or 0.0),
        ),
        where=Where(one.module, one.op, one.call, view.source(one.module)),
        factor=None,
        evidence=(
            evidence,
            Evidence("wrong_backwards", float(count)),
            Evidence("training", view.training.state),
        ),
        remedy=remedy,
        model=view.model.name,
        step=trace.step,
        explains=(*dict.fromkeys(_EXPLAINS), "UR101", "UR104", "DU101", "NF101", "FS101", "FS104"),
    )


RULE = Rule(
    code="UR105",
    verdict="update-size",
    title="a hand-written backward that is wrong",
    check=check,
    documentation=__doc__,
    thresholds=("backward-error",),
)
