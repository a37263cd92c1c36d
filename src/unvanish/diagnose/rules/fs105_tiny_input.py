"""FS105: inputs so small that the first layer sees only its bias.

## What it finds

A first layer whose outputs are the same for every sample (mean cosine 1 to four digits or more) at
every traced step, while its weights get far less gradient than its bias does. The gradient of the
weights is that of the bias times the input: so the input is next to nothing. Only a training that
does not work is judged.

## Why it matters

What the layer puts out is its bias; the sample is lost in it at once, and nothing behind can tell
one sample from another. The signal reaches the first layer in good health, and the loss stays where
guessing leaves it.

## Known problems

A first layer without a bias, or with a normalisation behind it, is not misled by the scale of its
input, and is not judged. Inputs that are all alike but not small (a
constant state of a bandit, a bias that is learnt) are no fault and are left alone.

## Example

    x = transforms.functional.to_tensor(image) / 255     # to_tensor has divided already

## Cure

Scale the inputs to zero mean and unit variance; divide pixels by 255 once.

## References

- LeCun, Bottou, Orr, Müller 1998, Efficient BackProp, section 4.3 (normalising the inputs).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from unvanish.diagnose.phrases import linear, place
from unvanish.diagnose.rule import Rule
from unvanish.diagnose.view import TraceView, View
from unvanish.i18n import _
from unvanish.records import Evidence, Finding, LayerSignal, Where


def check(view: View) -> Sequence[Finding]:
    """Fire if the first layer answers alike to every sample because its input is tiny."""
    looks = [first for trace in view.traces if (first := _first(trace, view)) is not None]
    if not view.training.not_working or not looks or len(looks) < len(view.traces):
        return []
    _row, cosine, _norm = min(looks, key=lambda look: look[1])
    norm = max(norm for _row, _cosine, norm in looks)
    if cosine < view.limit("alike-cosine") or norm > view.limit("tiny-input"):
        return []
    row = looks[0][0]
    title = _(
        "The inputs are next to nothing: {where} gives the same output for every sample (mean"
        " cosine {cosine:.6f}), that of its bias."
    )
    return [
        Finding(
            code="FS105",
            family="FS",
            verdict="forward-collapse",
            severity="error",
            title=title.format(where=place(row.module), cosine=cosine),
            where=Where(row.module, row.op, row.call, row.source),
            factor=None,
            evidence=(
                Evidence("sample_correlation", cosine, view.limit("alike-cosine")),
                Evidence("weight_over_bias", linear(norm), linear(view.limit("tiny-input"))),
                Evidence("training", view.training.state),
            ),
            remedy=_("Scale the inputs to zero mean and unit variance; divide pixels by 255 once."),
            model=view.model.name,
            step=view.traces[0].step,
            explains=("FS101", "FS103", "FS104", "UR101", "UR106", "DU101", "VG101", "VG103"),
        )
    ]


def _first(trace: TraceView, view: View) -> tuple[LayerSignal, float, float] | None:
    """The first layer, its cosine between samples, and its input's norm (log10); None: unknown.

    Where all samples are alike, the gradient of the weights is the outer product of that of the
    bias and of the input: their norms have the input's norm as their ratio.
    """
    samples = trace.trace.batch_size
    rows = [row for row in trace.trace.layers if row.sample_correlation is not None]
    if not rows or samples is None or samples < view.limit("dead-min-samples"):
        return None
    first = rows[0]
    levels = {one.name: one.grad_log10 for one in trace.trace.parameters}
    weight = levels.get(f"{first.module}.weight")
    bias = levels.get(f"{first.module}.bias")
    if weight is None or bias is None or not math.isfinite(weight - bias):
        return None
    return first, first.sample_correlation or 0.0, weight - bias


RULE = Rule(
    code="FS105",
    verdict="forward-collapse",
    title="inputs so small that the first layer sees only its bias",
    check=check,
    documentation=__doc__,
    thresholds=("alike-cosine", "tiny-input", "dead-min-samples"),
)
