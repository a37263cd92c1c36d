"""CG103: a gradient that is exactly zero, by the way the network is built.

## What it finds

A step function on the trunk (round, sign, floor, ceil), whose derivative is 0 everywhere. And
weights whose gradient is exactly 0 at every traced step, several of them after the first, although
they are called and are to be trained: for example a LoRA adapter whose two factors both start at
zero.

## Why it matters

Zero times anything is zero: no learning rate, and no optimiser, moves them.

## Known problems

Zero at the first step is often by design and passes by the second: LoRA's B = 0, zero-initialised
heads and branches. So weights are judged by later steps only. Biases are left out: in front of a
normalisation or a softmax they rightly have none. While the loss falls this is a remark: rows of an
embedding, or experts, may be waiting for their turn.

## Example

    quantised = torch.round(encoder(x))       # derivative 0

## Cure

A straight-through estimator: `x + (x.round() - x).detach()`. Start only one of two factors at 0.

## References

- Bengio, Léonard, Courville 2013, Estimating or propagating gradients through stochastic neurons.
- Hu et al. 2021, LoRA, arXiv 2106.09685, section 4.1.
"""

from __future__ import annotations

from collections.abc import Sequence

from unvanish.diagnose.phrases import place
from unvanish.diagnose.rule import Rule
from unvanish.diagnose.trunk import is_step_function
from unvanish.diagnose.view import View
from unvanish.i18n import _
from unvanish.records import Evidence, Finding, PathEdge, Where

_LATER_TRACES = 2


def check(view: View) -> Sequence[Finding]:
    """Fire for a step function on the trunk, or for weights whose gradient stays zero."""
    judged = [trace.trunk for trace in view.traces if trace.trunk is not None]
    cuts = [t.cut.edge for t in judged if t.cut and is_step_function(t.cut.edge)]
    if cuts and len(cuts) == len(judged):
        return [_step_function(view, cuts[0])]
    first = view.traces[0].step if view.traces else 0
    if sum(trace.step > first for trace in view.traces) < _LATER_TRACES:
        return []
    still = [
        each
        for each in view.model.parameters
        if each.gradient == "zero"
        and each.requires_grad
        and each.called
        and each.in_optimizer is not False
        and not each.name.endswith("bias")
    ]
    if not still:
        return []
    title = _("The gradient of {count} weights ({first} and others) is exactly 0 at every step.")
    return [
        Finding(
            code="CG103",
            family="CG",
            verdict="cut-graph",
            severity="info" if view.training.state == "falling" else "error",
            title=title.format(count=len(still), first=f"`{still[0].name}`"),
            where=Where(still[0].module, source=view.source(still[0].module)),
            factor=None,
            evidence=(
                Evidence("parameters_with_zero_gradient", float(len(still)), 0.0),
                Evidence("training", view.training.state),
            ),
            remedy=_("Look for a factor of 0 behind them; start only one of two factors at 0."),
            model=view.model.name,
            step=first,
            explains=("VG103", "UR101", "UR106"),
        )
    ]


def _step_function(view: View, cut: PathEdge) -> Finding:
    return Finding(
        code="CG103",
        family="CG",
        verdict="cut-graph",
        severity="error",
        title=_("{op} in {where} is a step function: its derivative is 0 everywhere.").format(
            op=cut.op, where=place(cut.module)
        ),
        where=Where(cut.module, cut.op, cut.call, view.source(cut.module)),
        factor="slope",
        evidence=(Evidence("slope", 0.0),),
        remedy=_("Use a straight-through estimator: x + (x.{function}() - x).detach().").format(
            function=cut.op.partition("Backward")[0].lower()
        ),
        model=view.model.name,
        step=view.traces[0].step,
        explains=("VG101", "VG102", "DU101"),
    )


RULE = Rule(
    code="CG103",
    verdict="cut-graph",
    title="gradient exactly zero by construction",
    check=check,
    documentation=__doc__,
)
