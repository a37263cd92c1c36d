"""LH102: a saturated output in front of a squared (or absolute) error.

## What it finds

A sigmoid, tanh or the like at the network's output, most of whose values lie in its flat ends, in
front of a squared or absolute error, while training is stuck.

## Why it matters

The error is multiplied by the slope of the output. Where the output is sure and wrong, the error is
as large as it can be and the slope is nearly 0: nothing is learnt just where most is to be learnt.
Cross-entropy has the inverse slope built in, which cancels it.

## Known problems

A saturated output that is *right* is the aim of training. So the rule speaks only while training
does not work, the loss is not small, and the saturation stays.

## Example

    net = nn.Sequential(body, nn.Linear(16, 1), nn.Sigmoid())
    net[-2].bias.data.fill_(8.0)
    loss = F.mse_loss(net(x), target)

## Cure

`binary_cross_entropy_with_logits` on the raw output (for targets in [0, 1]); otherwise a linear
output. Or an output bias that starts in the middle of the targets.

## References

- Nielsen 2015, Neural networks and deep learning, chapter 3: the cross-entropy cost function.
"""

from __future__ import annotations

from collections.abc import Sequence

from unvanish.diagnose.phrases import place
from unvanish.diagnose.rule import Rule
from unvanish.diagnose.trunk import flat_share, head_length
from unvanish.diagnose.view import TraceView, View
from unvanish.i18n import _
from unvanish.records import Evidence, Finding, LayerSignal, PathEdge, Where
from unvanish.words import percent

_ERRORS = ("MseLoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "Pow", "Abs")
_OUTPUTS = ("Sigmoid", "Tanh", "Hardsigmoid", "Hardtanh")


def check(view: View) -> Sequence[Finding]:
    """Fire if the output stays saturated in front of a squared error and training is stuck."""
    end = view.training.end
    if not view.training.not_working or end is None or end < view.limit("wrong-side-loss"):
        return []
    found = [(trace, _saturated(trace, view)) for trace in view.traces]
    late = found[len(found) // 2 :]
    if not late or any(item is None for _trace, item in late):
        return []
    first = next(trace for trace, item in found if item is not None)
    edge, layer = late[-1][1] or (None, None)
    assert edge is not None
    assert layer is not None
    title = _(
        "{share} of the outputs of {where} are saturated, and the error is multiplied by their"
        " slope: where they are wrong they cannot learn."
    )
    return [
        Finding(
            code="LH102",
            family="LH",
            verdict="loss-head",
            severity="error",
            title=title.format(share=percent(flat_share(layer)), where=place(edge.module)),
            where=Where(edge.module, edge.op, edge.call, view.source(edge.module)),
            factor="loss",
            evidence=(
                Evidence("flat_share", flat_share(layer), view.limit("saturated-layer")),
                Evidence("gain_log10", edge.gain_log10),
                Evidence("loss_end", end, view.limit("wrong-side-loss")),
                Evidence("training", view.training.state),
            ),
            remedy=_(
                "Use binary_cross_entropy_with_logits on the raw output (targets in [0, 1]), or a"
                " linear output; start the output bias in the middle of the targets."
            ),
            model=view.model.name,
            step=first.step,
            explains=("VG101", "VG102", "UR101", "UR106"),
        )
    ]


def _saturated(trace: TraceView, view: View) -> tuple[PathEdge, LayerSignal] | None:
    path = trace.trace.main_path
    if path is None:
        return None
    head = path.edges[: head_length(path.edges)]
    if not any(edge.op.startswith(_ERRORS) for edge in head):
        return None
    edge = next((edge for edge in head if edge.op.startswith(_OUTPUTS)), None)
    layer = trace.layer(edge.module, edge.call) if edge is not None else None
    if edge is None or layer is None or flat_share(layer) < view.limit("saturated-layer"):
        return None
    return edge, layer


RULE = Rule(
    code="LH102",
    verdict="loss-head",
    title="saturated output in front of a squared error",
    check=check,
    documentation=__doc__,
    thresholds=("saturated-layer", "wrong-side-loss"),
)
