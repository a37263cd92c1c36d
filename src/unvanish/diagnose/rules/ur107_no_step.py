"""UR107: an optimiser that never steps.

## What it finds

Backward passes whose gradients are thrown away: an optimiser holds the parameters that they reach,
and in the whole run it was not stepped once, nor did the parameters change by other means.

## Why it matters

The loop looks complete (zero_grad, backward, a scheduler), losses are printed, and the weights stay
what they were. The loss moves with the batches alone.

## Known problems

A script that only measures gradients may hold an optimiser that it does not use: then the loss is
not meant to fall, and this finding may be ignored. Fewer backward passes than a stuck training
needs are not judged: they may be micro-batches of one step.

## Example

    for x, y in loader:
        optimizer.zero_grad()
        criterion(net(x), y).backward()
        scheduler.step()                   # optimizer.step() is missing

## Cure

`optimizer.step()` after each backward (or after each group of micro-batches).

## References

- PyTorch documentation, torch.optim, "Taking an optimization step".
"""

from __future__ import annotations

from collections.abc import Sequence

from unvanish.diagnose.rule import Rule
from unvanish.diagnose.view import View
from unvanish.i18n import _
from unvanish.records import Evidence, Finding, Where


def check(view: View) -> Sequence[Finding]:
    """Fire if the model has an optimiser that never stepped, and the loss does not fall."""
    optimizer = view.optimizer
    if optimizer is None or optimizer.stepped or not view.training.not_working:
        return []
    count = sum(record.backwards for record in view.model.steps)
    return [
        Finding(
            code="UR107",
            family="UR",
            verdict="update-size",
            severity="error",
            title=_("{optimizer} never steps: {count} backward passes, and no update.").format(
                optimizer=optimizer.name, count=count
            ),
            where=Where(),
            factor=None,
            evidence=(
                Evidence("backward_passes", float(count)),
                Evidence("training", view.training.state),
            ),
            remedy=_("Call optimizer.step() after each backward."),
            model=view.model.name,
            step=view.traces[0].step if view.traces else None,
            explains=("UR101", "UR106", "CG102"),
        )
    ]


RULE = Rule(
    code="UR107",
    verdict="update-size",
    title="an optimiser that never steps",
    check=check,
    documentation=__doc__,
)
