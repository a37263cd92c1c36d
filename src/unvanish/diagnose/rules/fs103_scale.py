"""FS103: the forward signal is far too small, or far too large.

## What it finds

A network whose activations are, at the first traced step, smaller than a ten-thousandth or larger
than a thousand (root mean square, in a layer with weights in front of the last one), while training
does not work. It tells whether the input already has that scale or the layers make it.

## Why it matters

The gradient of a weight is the product of what comes back and of what goes in: at an input of 1e-5
the weights hardly move, and soon the biases alone decide, so that all samples look alike. At an
input of 10,000 each step is as many times too large.

## Known problems

Weights that are too small or too large change the signal in both directions: there the rules of the
families VG and EG lead, which name the factor. An output layer may start at 0, and branches beside
the main path may be small on purpose: they are left out. Only a training that does not work is
judged; optimisers that rescale cope with much.

## Example

    pixels = images / 255 / 255 / 255            # scaled three times over: 1e-5
    hidden = torch.relu(0.1 * layer(hidden))     # a constant that nothing makes up for

## Cure

Inputs of zero mean and unit variance; no constants between the layers that the weights do not make
up for; a normalisation in front of the first layer.

## References

- LeCun et al. 1998, Efficient BackProp, section 4.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from unvanish.diagnose.phrases import place
from unvanish.diagnose.rule import Rule
from unvanish.diagnose.view import TraceView, View
from unvanish.i18n import _
from unvanish.records import Evidence, Finding, LayerSignal, Where
from unvanish.words import quantity

_FROM_THE_START = 1.0  # decades within which the first layer has that scale already


def check(view: View) -> Sequence[Finding]:
    """Fire if the first trace's activations are out of scale, and training does not work."""
    if not view.training.not_working or not view.traces:
        return []
    rows = _hidden(view.traces[0])
    if not rows:
        return []
    for line, sign in ((view.limit("forward-small"), -1), (view.limit("forward-large"), 1)):
        beyond = [row for row in rows if sign * _size(row) >= sign * line]
        if beyond:
            return [_finding(view, rows[0], beyond[0], line, small=sign < 0)]
    return []


def _hidden(trace: TraceView) -> list[LayerSignal]:
    """The layers with weights on the main path but the last, in order; a 0 says nothing."""
    weighted = [r for r in trace.trace.layers if r.weight_log10 is not None and r.on_main_path]
    return [r for r in weighted[:-1] if r.forward_rms and math.isfinite(r.forward_rms)]


def _size(row: LayerSignal) -> float:
    return math.log10(row.forward_rms or 1.0)


def _finding(
    view: View, first: LayerSignal, row: LayerSignal, line: float, *, small: bool
) -> Finding:
    given = abs(_size(first) - _size(row)) < _FROM_THE_START
    if given:
        title = _("The input is out of scale: {where} makes {size} of it (root mean square).")
        remedy = _("Scale the inputs to zero mean and unit variance.")
    else:
        title = _(
            "The forward signal goes from {start} in {first} to {size} in {where} (root mean"
            " square)."
        )
        remedy = _(
            "Look for constants between the layers that the weights do not make up for; initialise"
            " the weights at the scale that keeps the signal, or put a normalisation between."
        )
    return Finding(
        code="FS103",
        family="FS",
        verdict="forward-collapse",
        severity="error",
        title=title.format(
            where=place(row.module),
            first=place(first.module),
            start=quantity(first.forward_rms or 0.0),
            size=quantity(row.forward_rms or 0.0),
        ),
        where=Where(row.module, row.op, row.call, row.source),
        factor=None,
        evidence=(
            Evidence("forward_rms_log10", _size(row), line),
            Evidence("first_output_rms", first.forward_rms or 0.0),
            Evidence("training", view.training.state),
        ),
        remedy=remedy,
        model=view.model.name,
        step=view.traces[0].step,
        # Biases decide where the input is too small to: units then are on or off for all samples.
        explains=("DU101", "FS101", "FS104", "UR101") if small else ("UR101", "UR104"),
    )


RULE = Rule(
    code="FS103",
    verdict="forward-collapse",
    title="activations far too small or far too large",
    check=check,
    documentation=__doc__,
    thresholds=("forward-small", "forward-large"),
)
