"""LH105: a discriminator that is sure, and a loss that has no slope there.

## What it finds

A loss that reaches the trained network only through another network that judges it (its weights
belong to another optimiser), and that hardly passes anything on to that judge's raw output: less
than a hundredth a sample, in the later traced steps, while training does not work.

## Why it matters

The generator of a GAN that minimises log(1 - D(G(z))) gets the slope D(G(z)): a discriminator that
tells all fakes apart makes it 0, just where the generator has most to learn. The profile inside
the generator looks healthy, only there is next to nothing to pass on.

## Known problems

A classifier that has converged passes as little, which is right: so only losses through a network
that is somebody else's are judged. A loss that is scaled by a constant is counted without it.

## Example

    g_loss = torch.log(1 - discriminator(generator(z))).mean()

## Cure

The non-saturating loss, -log D(G(z)), which has its greatest slope there: binary cross-entropy
against ones. Or a Wasserstein or hinge loss; noise on the discriminator's inputs, one-sided label
smoothing, a slower discriminator.

## References

- Goodfellow et al. 2014, Generative adversarial networks, arXiv 1406.2661, section 3.
- Arjovsky, Bottou 2017, Towards principled methods for training GANs, arXiv 1701.04862.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from unvanish.diagnose.phrases import place
from unvanish.diagnose.rule import Rule
from unvanish.diagnose.trunk import head_length
from unvanish.diagnose.view import TraceView, View
from unvanish.i18n import _
from unvanish.records import Evidence, Finding, PathEdge, Where
from unvanish.words import times

_SQUASH = ("Sigmoid", "LogSigmoid", "BinaryCrossEntropy", "Softplus", "LogSoftmax", "Softmax")


def check(view: View) -> Sequence[Finding]:
    """Fire if a judge that is somebody else's passes next to nothing on, and training is stuck."""
    if not view.training.not_working or len(view.traces) < 2:
        return []
    own = {each.name for each in view.model.parameters}
    seen = [(trace, _passed(trace, own)) for trace in view.traces]
    late = seen[len(seen) // 2 :]
    limit = view.limit("adversary-slope")
    if any(found is None or found[1] > limit for _trace, found in late):
        return []
    first = next(trace for trace, found in seen if found is not None and found[1] <= limit)
    edge, slope = late[-1][1] or (None, math.nan)
    assert edge is not None
    title = _(
        "The loss passes only {slope} a sample on to the output of {where}, which judges and"
        " belongs to another optimiser: it is sure, and the loss has no slope there."
    )
    return [
        Finding(
            code="LH105",
            family="LH",
            verdict="loss-head",
            severity="error",
            title=title.format(slope=times(slope), where=place(edge.module)),
            where=Where(edge.module, edge.op, edge.call, view.source(edge.module)),
            factor="loss",
            evidence=(
                Evidence("slope_per_sample_log10", slope, limit),
                Evidence("training", view.training.state),
            ),
            remedy=_(
                "Use the non-saturating loss, -log D(G(z)) (binary cross-entropy against ones), or"
                " a Wasserstein or hinge loss; slow the discriminator down."
            ),
            model=view.model.name,
            step=first.step,
            explains=("UR101", "UR106", "UR103", "VG101", "VG102", "VG103", "LH102"),
        )
    ]


def _passed(trace: TraceView, own: set[str]) -> tuple[PathEdge, float] | None:
    """The judge's last weight op, and the root mean square of what each sample sends to it."""
    path, head = trace.trace.main_path, trace.trace.head
    samples = trace.trace.batch_size
    if path is None or head is None or not samples:
        return None
    length = head_length(path.edges)
    body = path.edges[length:]
    squashed = any(edge.op.startswith(_SQUASH) for edge in path.edges[:length])
    if not body or not squashed or body[0].weight is None or body[0].weight in own:
        return None
    if not any(edge.weight in own for edge in body):
        return None
    count = (-0.5 if head.reduction == "sum" else 0.5) * math.log10(samples)
    return body[0], body[0].level_log10 + count - head.constant_log10


RULE = Rule(
    code="LH105",
    verdict="loss-head",
    title="a discriminator that is sure, and a loss without a slope there",
    check=check,
    documentation=__doc__,
    thresholds=("adversary-slope",),
)
