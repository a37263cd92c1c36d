"""LH103: output and target are broadcast against each other.

## What it finds

An output of n numbers in a column against n targets in a row (or the other way round), stretched to
an n x n table in front of the loss.

## Why it matters

Every output is compared with every target, so the best it can do is their mean: the network learns
to answer the same for every input. The loss falls to the variance of the targets and stays there,
with gradients that look healthy. PyTorch warns only in its own loss functions, and once.

## Known problems

Comparing all pairs on purpose stretches two outputs, not an output and a constant, and is not
reported; nor is a row of another length (quantiles, ensembles). Of a batch of one nothing can be
said.

## Example

    loss = F.mse_loss(net(x), y)          # (64, 1) against (64,)

## Cure

Give both the same shape: `net(x).squeeze(1)`, or `y[:, None]` (y.unsqueeze(1)).

## References

- PyTorch documentation, Broadcasting semantics.
"""

from __future__ import annotations

from collections.abc import Sequence

from unvanish.diagnose.rule import Rule
from unvanish.diagnose.view import View
from unvanish.i18n import _
from unvanish.records import Evidence, Finding, Where


def check(view: View) -> Sequence[Finding]:
    """Fire if every traced loss stretches the network's output against a constant."""
    heads = [(trace, trace.trace.head) for trace in view.traces if trace.trace.head is not None]
    if not heads or not all(head.broadcast_shape for _trace, head in heads):
        return []
    trace, head = heads[0]
    made = head.broadcast_shape or ()
    title = _(
        "The output, of shape {given}, is broadcast to {made} in front of the loss: each output is"
        " compared with every target."
    )
    return [
        Finding(
            code="LH103",
            family="LH",
            verdict="loss-head",
            severity="warning" if view.training.works else "error",
            title=title.format(given=_shape(head.output_shape), made=_shape(made)),
            where=Where(head.module, head.op),
            factor="loss",
            evidence=(
                Evidence("output_shape", _shape(head.output_shape)),
                Evidence("broadcast_shape", _shape(made)),
                Evidence("training", view.training.state),
            ),
            remedy=_("Give output and target the same shape: output.squeeze(1), or y[:, None]."),
            model=view.model.name,
            step=trace.step,
            explains=("UR101", "UR104", "FS101", "FS104", "LH104"),
        )
    ]


def _shape(sizes: Sequence[int]) -> str:
    return " × ".join(str(size) for size in sizes)


RULE = Rule(
    code="LH103",
    verdict="loss-head",
    title="output and target broadcast against each other",
    check=check,
    documentation=__doc__,
)
