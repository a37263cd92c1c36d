"""EG106: the output starts far too large.

## What it finds

A cross-entropy that starts far above that of a guess (the logarithm of the number of classes), or
is thrown there by the first steps, and that is still no better than a guess after some steps:
logits so large that the network is certain, and wrong.

## Why it matters

The loss falls, which looks like training (a warning then). But all that is unlearnt is the scale of
the start; a step that mends one sample breaks the next, and units saturate or die on the way.

## Known problems

Only the mean cross-entropy over plain logits is known by its graph; a loss of the user's own making
is not judged. Where the backward signal explodes as well, that says it already.

## Example

    for parameter in net.parameters():
        parameter.data.mul_(10)                      # the normalisations' scales too

## Cure

Smaller initial weights, above all in the last layer (unvanish.init_); scales of normalisations that
start at 1; standardised inputs.

## References

- Karpathy 2019, A recipe for training neural networks (verify the loss at initialisation).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from unvanish.diagnose.rule import Rule
from unvanish.diagnose.view import View
from unvanish.i18n import _
from unvanish.records import Evidence, Finding, Where

_FIRST = 5  # losses that make the start
_LAST = 5  # share of the losses that make the end: one in so many


def check(view: View) -> Sequence[Finding]:
    """Fire if a cross-entropy starts far above a guess and does not come below it."""
    guess = view.guess
    losses = [record.loss for record in view.model.steps if math.isfinite(record.loss)]
    if guess is None or len(losses) < view.limit("training-stuck-steps"):
        return []
    if view.exploding is not None and view.exploding.severity != "info":
        return []
    start, end = max(losses[:_FIRST]), median(losses[-(len(losses) // _LAST) :])
    if start < view.limit("blown-start") * guess or end < guess:
        return []
    title = _(
        "The loss stands at {start:.3g} in the first steps and ends at {end:.3g}, above the"
        " {guess:.3g} of a guess: the output is far too large."
    )
    return [
        Finding(
            code="EG106",
            family="EG",
            verdict="exploding",
            severity="error" if view.training.not_working else "warning",
            title=title.format(start=start, end=end, guess=guess),
            where=Where(),
            factor=None,
            evidence=(
                Evidence("loss_start", start, view.limit("blown-start") * guess),
                Evidence("loss_end", end, guess),
                Evidence("training", view.training.state),
            ),
            remedy=_(
                "Draw smaller initial weights, above all in the last layer (unvanish.init_); start"
                " the scales of normalisations at 1; standardise the inputs."
            ),
            model=view.model.name,
            step=view.traces[0].step,
            explains=("UR101", "UR104"),
        )
    ]


RULE = Rule(
    code="EG106",
    verdict="exploding",
    title="the output starts far too large",
    check=check,
    documentation=__doc__,
    thresholds=("blown-start", "training-stuck-steps"),
)
