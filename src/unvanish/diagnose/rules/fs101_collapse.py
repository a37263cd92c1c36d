"""FS101: all samples have become one.

## What it finds

Layers in which the activations of all samples point the same way (mean cosine near 1) *and* the
gradients that come back for them are those of a few samples only (participation far below that at
the output), while training does not work.

## Why it matters

The size of the signal may be perfect: a He-initialised ReLU net of depth 100 keeps it. But if the
layers cannot tell one input from another, there is nothing to learn from.

## Known problems

Cosines near 1 alone say little: the activations of a sigmoid are all positive, and in a healthy
three-layer net their cosine is 0.999. Few samples dominate the gradient of a healthy net that has
converged. Only both together, in the same layer, count, and only while training does not work.
Where samples look alike a unit is on for all of them or off for all, so that layers may lose more
than half; units that are off also make samples alike: which was seen first leads.

## Example

    net = nn.Sequential(*[m for _ in range(100) for m in (he(nn.Linear(64, 64)), nn.ReLU())])

## Cure

Skips, or a normalisation over the batch; orthogonal weights with tanh; for ReLU mirrored orthogonal
blocks; fewer layers.

## References

- Schoenholz et al. 2017, Deep information propagation, arXiv 1611.01232.
- Xiao, Pennington, Schoenholz 2020, Disentangling trainability and generalization,
  arXiv 1912.13053.
- Balduzzi et al. 2017, The shattered gradients problem, arXiv 1702.08591.
"""

from __future__ import annotations

from collections.abc import Sequence

from unvanish.diagnose.phrases import place
from unvanish.diagnose.rule import Rule
from unvanish.diagnose.sickness import CODES, middling
from unvanish.diagnose.view import TraceView, View
from unvanish.i18n import _
from unvanish.records import Evidence, Finding, LayerSignal, Where


def check(view: View) -> Sequence[Finding]:
    """Fire if samples are indistinguishable, forward and backward, and training does not work."""
    if not view.training.not_working:
        return []
    seen = [(trace, row) for trace in view.traces if (row := _collapsed(trace, view)) is not None]
    if not seen or len(seen) < min(2, len(view.traces)):
        return []
    trace, row = seen[0]
    assert row.participation is not None
    assert row.sample_correlation is not None
    title = _(
        "In {where} all samples look alike (mean cosine {cosine:.4f}), and the gradient is that of"
        " {count:.1f} samples out of {batch}."
    )
    return [
        Finding(
            code="FS101",
            family="FS",
            verdict="forward-collapse",
            severity="error",
            title=title.format(
                where=place(row.module),
                cosine=row.sample_correlation,
                count=row.participation,
                batch=trace.trace.batch_size or "?",
            ),
            where=Where(row.module, row.op, row.call, row.source),
            factor=None,
            evidence=(
                Evidence(
                    "sample_correlation", row.sample_correlation, view.limit("collapsed-cosine")
                ),
                Evidence(
                    "participation_share",
                    row.participation / (_at_output(trace) or 1.0),
                    view.limit("collapsed-participation"),
                ),
                Evidence("training", view.training.state),
            ),
            remedy=_(
                "Put skips around the layers or a normalisation over the batch between them; use"
                " orthogonal weights with tanh; or fewer layers."
            ),
            model=view.model.name,
            step=trace.step,
            # A unit is then on for all samples or off for all. What came first leads (`arrange`).
            explains=("UR101", "UR106", "DU101", *_weakened(view)),
        )
    ]


def _weakened(view: View) -> list[str]:
    """Codes of a signal that shrinks too little to explain by itself that training is stuck."""
    sick = view.vanishing
    if sick is None or not middling(view, sick):
        return []
    return [code for code in CODES["vanishing"].values() if code.startswith("VG")]


def _at_output(trace: TraceView) -> float | None:
    known = [row.participation for row in trace.trace.layers if row.participation is not None]
    return known[-1] if known else None


def _collapsed(trace: TraceView, view: View) -> LayerSignal | None:
    """The first layer on the main path in which the samples are one."""
    output = _at_output(trace)
    samples = trace.trace.batch_size
    if output is None or samples is None or samples < view.limit("dead-min-samples"):
        return None
    for row in trace.trace.layers:
        if row.participation is None or row.sample_correlation is None or not row.on_main_path:
            continue
        few = 0 < row.participation <= view.limit("collapsed-participation") * output
        if few and row.sample_correlation >= view.limit("collapsed-cosine"):
            return row
    return None


RULE = Rule(
    code="FS101",
    verdict="forward-collapse",
    title="all samples look alike",
    check=check,
    documentation=__doc__,
    thresholds=("collapsed-cosine", "collapsed-participation", "dead-min-samples"),
)
