"""UR104: the loss rises where its gradient says it must fall.

## What it finds

At each traced step the inner product of the gradient and of what the step changed says by how much
the loss should fall, if the step is short. Beside it stands what the loss did: its change to the
next step. The rule fires where steps that were to lower the loss well beyond its noise raised it
well beyond its noise: the steps overshoot, since the learning rate is too large for the curvature.
With rho, the real change over the predicted one, Cockpit's alpha is 1 - 2 rho: -1 for a short step,
0 at the minimum along the step, above 1 where the loss rises.

## Why it matters

It tells a learning rate that is too large from a signal that is sick: the gradient is right, and
points down; only the step leaves the range in which that says anything. A hand-written backward
that is wrong looks alike, and is found by trying it out (UR105).

## Known problems

The next loss is measured on the next batch, not on the same one: it is a stand-in for the real
change, and noise enters; so only sums over the traced steps are judged, against the noise of the
losses. Where the loss itself moves (a GAN, reinforcement learning) it may rise for that reason.
Hence a preview rule: select it by its code.

## Example

    torch.optim.SGD(net.parameters(), lr=3.0)

## Cure

A smaller learning rate (by threes), a warm-up, or clipping.

## References

- Schneider, Dangel, Hennig 2021, Cockpit, arXiv 2102.06604, section 3 (alpha).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from statistics import median

from unvanish.diagnose.rule import Rule
from unvanish.diagnose.view import View
from unvanish.i18n import _
from unvanish.records import Evidence, Finding, Where
from unvanish.words import loss

_LEAST = 3  # traced steps with both numbers


def changes(view: View) -> list[tuple[int, float, float]]:
    """Return step, predicted and real change of the loss, where both are known and finite.

    The real change is that to the loss of the next step, on the next batch.
    """
    losses = {record.step: record.loss for record in view.model.steps if not record.skipped}
    found = []
    for trace in view.traces:
        taken = trace.trace.taken
        now, after = losses.get(trace.step), losses.get(trace.step + 1)
        if taken is None or taken.predicted_change is None or now is None or after is None:
            continue
        if math.isfinite(taken.predicted_change) and math.isfinite(after - now):
            found.append((trace.step, taken.predicted_change, after - now))
    return found


def check(view: View) -> Sequence[Finding]:
    """Fire if steps that were to lower the loss raise it, both beyond its noise."""
    known = changes(view)
    if len(known) < _LEAST or not view.training.not_working:
        return []
    predicted = sum(change for _step, change, _real in known)
    real = sum(change for _step, _predicted, change in known)
    error = view.limit("overshoot-errors") * _noise(view) * math.sqrt(2 * len(known))
    if not (predicted <= -error and real >= error):
        return []
    title = _(
        "{count} traced steps were to lower the loss by {predicted} in all, and it rose by {real}:"
        " the steps are too long."
    )
    return [
        Finding(
            code="UR104",
            family="UR",
            verdict="update-size",
            severity="error" if view.training.state == "diverging" else "warning",
            title=title.format(count=len(known), predicted=loss(-predicted), real=loss(real)),
            where=Where(),
            factor=None,
            evidence=(
                Evidence("predicted_change", predicted, -error),
                Evidence("real_change", real, error),
                Evidence("cockpit_alpha", 1 - 2 * real / predicted, 1.0),
                Evidence("training", view.training.state),
            ),
            remedy=_("Lower the learning rate, by threes, or warm it up."),
            model=view.model.name,
            step=known[0][0],
            explains=("UR101", "UR106", "NF101"),
        )
    ]


def _noise(view: View) -> float:
    """The spread of one loss, by successive differences (robust: see `training`)."""
    losses = [record.loss for record in view.model.steps if math.isfinite(record.loss)]
    steps = [after - before for before, after in itertools.pairwise(losses)]
    return 1.4826 * median(abs(step) for step in steps) / math.sqrt(2) if steps else math.inf


RULE = Rule(
    code="UR104",
    verdict="update-size",
    title="a loss that rises where its gradient says it falls",
    check=check,
    documentation=__doc__,
    thresholds=("overshoot-errors",),
    preview=True,
)
