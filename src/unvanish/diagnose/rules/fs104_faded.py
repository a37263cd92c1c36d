"""FS104: the forward signal fades.

## What it finds

A trunk on which some layer puts out next to nothing (its root mean square), so that the network's
output hardly differs from sample to sample (its spread: root mean square times the root of one
minus the mean cosine), in every traced step, while the loss does not fall.

## Why it matters

What depends on the input is drowned by the biases, and the gradient of every weight is as small as
the activations it multiplies. The backward signal alone may look healthy: a skip carries it past
all layers.

## Known problems

Targets that are as small themselves can be learnt by such outputs: only a training that is stuck is
judged. Where weights that are too small weaken the backward signal as well, that says it already.

## Example

    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.02)         # in a transformer without normalisation

## Cure

Larger initial weights (unvanish.init_), a normalisation before the head or in each branch, inputs
and embeddings of unit scale.

## References

- He et al. 2015, Delving deep into rectifiers, arXiv 1502.01852 (keeping the forward scale).
- Mishkin, Matas 2016, All you need is a good init, arXiv 1511.06422.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from unvanish.diagnose.phrases import place
from unvanish.diagnose.rule import Rule
from unvanish.diagnose.view import TraceView, View
from unvanish.i18n import _
from unvanish.records import Evidence, Finding, LayerSignal, Where


def check(view: View) -> Sequence[Finding]:
    """Fire if the forward signal is faded in every look, and the loss does not fall."""
    if view.training.state != "stuck":
        return []
    if view.vanishing is not None and view.vanishing.severity != "info":
        return []
    seen = [(trace, *found) for trace in view.traces if (found := _faded(trace)) is not None]
    if not seen or any(
        weakest > view.limit("faded-rms") or spread > view.limit("faded-spread")
        for _trace, _row, weakest, spread in seen
    ):
        return []
    trace, row, weakest, spread = seen[0]
    title = _(
        "The forward signal fades: {where} puts out an RMS of {rms:.1g}, and the output differs"
        " between samples by {spread:.1g} only."
    )
    return [
        Finding(
            code="FS104",
            family="FS",
            verdict="forward-collapse",
            severity="error",
            title=title.format(where=place(row.module), rms=weakest, spread=spread),
            where=Where(row.module, row.op, row.call, row.source),
            factor=None,
            evidence=(
                Evidence("forward_rms", weakest, view.limit("faded-rms")),
                Evidence("output_spread", spread, view.limit("faded-spread")),
                Evidence("training", view.training.state),
            ),
            remedy=_(
                "Draw larger initial weights (unvanish.init_), or put a normalisation before the"
                " head or into each branch; give inputs and embeddings a scale of 1."
            ),
            model=view.model.name,
            step=trace.step,
            explains=("FS101", "UR101"),
        )
    ]


def _faded(trace: TraceView) -> tuple[LayerSignal, float, float] | None:
    """The layer of the trunk that puts out least, its RMS, and the spread of the output."""
    trunk = [row for row in trace.trace.layers if row.on_main_path]
    sized = [
        (row.forward_rms, row)
        for row in trunk
        if row.forward_rms is not None and row.weight_log10 is not None
    ]
    last = next((row for row in reversed(trunk) if row.sample_correlation is not None), None)
    if not sized or last is None or last.forward_rms is None or last.sample_correlation is None:
        return None
    weakest, row = min(sized, key=lambda each: each[0])
    spread = last.forward_rms * math.sqrt(max(0.0, 1 - last.sample_correlation))
    return row, weakest, spread


RULE = Rule(
    code="FS104",
    verdict="forward-collapse",
    title="the forward signal fades",
    check=check,
    documentation=__doc__,
    thresholds=("faded-rms", "faded-spread"),
)
