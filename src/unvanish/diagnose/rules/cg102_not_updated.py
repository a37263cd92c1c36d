"""CG102: parameters that get a gradient and that nobody updates.

## What it finds

Parameters that a gradient reaches and that the optimiser does not hold: layers kept in a plain
Python list, tuple or dict, so that `parameters()` does not see them; or parameters left out when
the optimiser was made, between others that it does hold; or layers that were replaced after it was
made, whose old parameters it still holds.

## Why it matters

They stay what they were at initialisation: random features. The rest of the network fits around
them, worse than it could.

## Known problems

A front part left out of the optimiser (feature extraction with a fixed backbone) is usually meant
so, and only remarked on while training works.

## Example

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden = [nn.Linear(64, 64) for _ in range(3)]   # not nn.ModuleList

## Cure

`nn.ModuleList`, `nn.ModuleDict` or `nn.ParameterList` instead of list and dict. Make the optimiser
after all layers exist, from `model.parameters()`. What is fixed on purpose: requires_grad_(False),
which also saves the time of its gradient.

## References

- PyTorch documentation, torch.nn.ModuleList.
"""

from __future__ import annotations

from collections.abc import Sequence

from unvanish.diagnose.phrases import place
from unvanish.diagnose.rule import Rule
from unvanish.diagnose.view import View
from unvanish.i18n import _
from unvanish.records import Evidence, Finding, ParameterFacts, Severity, Where


def check(view: View) -> Sequence[Finding]:
    """Fire if a parameter with a gradient is not registered, or is not in the optimiser."""
    reached = [each for each in view.model.parameters if each.gradient in ("some", "nonfinite")]
    lost = [each for each in reached if not each.registered and not each.in_optimizer]
    if lost:
        title = _(
            "{count} parameters ({first} and others) are not registered with the model:"
            " parameters() does not see them, and nothing updates them."
        )
        remedy = _("Keep layers in nn.ModuleList or nn.ModuleDict, not in a Python list or dict.")
        return [_finding(view, lost, "error", title, remedy)]
    left_out = [each for each in reached if each.registered and each.in_optimizer is False]
    if not left_out:
        return []
    optimizer = view.model.optimizer
    if optimizer is not None and optimizer.orphans:
        title = _(
            "The optimiser steps parameters that the model does not have (any more):"
            " {count} of the model's own ({first} and others) are not in it."
        )
        remedy = _(
            "Make the optimiser after the last layer is replaced, loaded or wrapped, from"
            " model.parameters()."
        )
        orphans = Evidence("parameters_of_no_model", float(optimizer.orphans), 0.0)
        return [_finding(view, left_out, "error", title, remedy, orphans)]
    if all(each.in_optimizer is False for each in reached):
        return []
    title = _("{count} trainable parameters ({first} and others) are not in the optimiser.")
    remedy = _(
        "Give the optimiser model.parameters(), after all layers exist; or freeze what is meant to"
        " stay (requires_grad_(False))."
    )
    held = next(i for i, each in enumerate(reached) if each.in_optimizer)
    only_front = all(each.in_optimizer is not False for each in reached[held:])
    mild = only_front and not view.training.not_working
    return [_finding(view, left_out, "info" if mild else "warning", title, remedy)]


def _finding(
    view: View,
    lost: list[ParameterFacts],
    severity: Severity,
    title: str,
    remedy: str,
    *more: Evidence,
) -> Finding:
    module = lost[0].module
    return Finding(
        code="CG102",
        family="CG",
        verdict="cut-graph",
        severity=severity,
        title=title.format(count=len(lost), first=f"`{lost[0].name}`"),
        where=Where(module, source=view.source(module)),
        factor=None,
        evidence=(
            Evidence("parameters_not_updated", float(len(lost)), 0.0),
            Evidence("modules", ", ".join(dict.fromkeys(place(each.module) for each in lost))),
            *more,
        ),
        remedy=remedy,
        model=view.model.name,
        step=view.traces[0].step if view.traces else None,
    )


RULE = Rule(
    code="CG102",
    verdict="cut-graph",
    title="parameters with a gradient that nobody updates",
    check=check,
    documentation=__doc__,
)
