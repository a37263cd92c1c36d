"""OK001: the backward signal is healthy.

## What it finds

Nothing above a remark: the signal reaches the first layers with its size kept, units answer,
gradients are finite, what is to be trained gets a gradient. The evidence is listed. If training is
stuck all the same, it says so plainly, and lists what else to look at.

## Why it matters

Silence proves little. "Healthy" with numbers tells where not to search.

## Known problems

Only what was traced is known: a signal that dies later is seen by a longer run. A healthy signal
does not mean that there is anything to learn: with shuffled labels it is healthy too.

## Example

    unvanish run train.py      # 12 ReLU layers with He weights

## Cure

None needed. If the run is stuck: labels against inputs (shuffled? off by one?), the learning rate
(try ten times more and less), the data (scaled? constant?), the loss against the output (logits or
probabilities?), regularisation, too small a network. Can it overfit eight samples? If not, the
mistake is in the code.

## References

- Karpathy 2019, A recipe for training neural networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from unvanish.diagnose.rule import Rule
from unvanish.diagnose.rules.ur104_rising_against_gradient import changes
from unvanish.diagnose.view import View
from unvanish.i18n import _
from unvanish.records import Evidence, Finding, Where
from unvanish.words import loss, quantity, times

_LITTLE = 0.5  # a fall of the loss by less than this share is said with its number


def check(view: View) -> Sequence[Finding]:
    """State the evidence for a healthy signal, and what training does."""
    return [
        Finding(
            code="OK001",
            family="OK",
            verdict="healthy",
            severity="info",
            title=_title(view),
            where=Where(),
            factor=None,
            evidence=_evidence(view),
            remedy=_remedy(view),
            model=view.model.name,
            step=view.traces[0].step if view.traces else None,
        )
    ]


def _title(view: View) -> str:
    if not view.traces:
        return _("No backward pass of this model was traced: nothing is known of its signal.")
    training = view.training
    numbers = {"start": loss(training.start or 0.0), "end": loss(training.end or 0.0)}
    if training.state == "stuck":
        text = _(
            "The backward signal is healthy, and yet the loss does not fall: it went from"
            " {start} to {end}. Either it has converged, or the cause lies elsewhere."
        )
    elif training.state == "diverging":
        text = _(
            "The backward signal was healthy where it was traced, and yet training diverges: the"
            " loss went from {start} to {end}."
        )
    elif training.rests_high:
        text = _(
            "The backward signal is healthy; the loss fell from {start} and came to rest at {end}:"
            " no finding explains why it stays there."
        )
    elif training.state == "falling" and (training.fall or 0.0) < _LITTLE:
        text = _("The backward signal is healthy; the loss falls little, from {start} to {end}.")
    elif training.state == "falling":
        text = _("The backward signal is healthy, and the loss falls.")
    else:
        text = _("The backward signal is healthy.")
    return text.format(**numbers)


def _evidence(view: View) -> tuple[Evidence, ...]:
    trunks = [trace.trunk for trace in view.traces if trace.trunk is not None]
    ratios = [trunk.ratio for trunk in trunks if math.isfinite(trunk.ratio)]
    rows = []
    if ratios:
        rows += [
            Evidence("trunk_ratio_log10_lowest", min(ratios), -view.limit("vanishing-clear")),
            Evidence("trunk_ratio_log10_highest", max(ratios), view.limit("exploding-clear")),
        ]
    if view.traces:
        layers = view.traces[-1].trace.layers
        dead = [row.dead_share for row in layers if row.dead_share is not None]
        flat = [row.saturated_share for row in layers if row.saturated_share is not None]
        if dead:
            rows.append(Evidence("dead_share_highest", max(dead), view.limit("dead-mostly")))
        if flat:
            rows.append(
                Evidence("saturated_share_highest", max(flat), view.limit("saturated-layer"))
            )
    ratio = update_ratio(view)
    if ratio is not None:
        rows.append(Evidence("update_ratio_log10_median", ratio))
    rows += _looked_at(view)
    rows.append(Evidence("training", view.training.state))
    if view.training.start is not None and view.training.end is not None:
        rows.append(Evidence("loss_start", view.training.start))
        rows.append(Evidence("loss_end", view.training.end))
    return tuple(rows)


def _looked_at(view: View) -> list[Evidence]:
    """What was measured of the data, the loss and the step, for a training that does not work."""
    training = view.training
    if not (training.not_working or training.rests_high) or not view.traces:
        return []
    trace = view.traces[-1].trace
    rows = []
    first = _first_size(view)
    if first is not None:
        rows.append(Evidence("first_output_rms", first))
    known = guessing(view)
    if known is not None:
        rows.append(Evidence("guessing_loss", known[1]))
    if trace.output_level_log10 is not None and math.isfinite(trace.output_level_log10):
        rows.append(Evidence("output_level_log10", trace.output_level_log10))
    if trace.head is not None and trace.head.reduction is not None:
        rows.append(Evidence("reduction", trace.head.reduction))
    moves = changes(view)
    if moves:
        count = len(moves)
        rows.append(Evidence("predicted_change", sum(change for _s, change, _r in moves) / count))
        rows.append(Evidence("real_change", sum(real for _s, _c, real in moves) / count))
    if view.optimizer is not None and view.optimizer.lr:
        rows.append(Evidence("lr", max(view.optimizer.lr)))
    return rows


def _first_size(view: View) -> float | None:
    rows = view.traces[-1].trace.layers if view.traces else ()
    return next((row.forward_rms for row in rows if row.forward_rms is not None), None)


def update_ratio(view: View) -> float | None:
    """Return the median over layers of log10(||dw|| / ||w||) in the last trace that has it."""
    for trace in reversed(view.traces):
        ratios = sorted(
            row.update_ratio_log10
            for row in trace.trace.layers
            if row.update_ratio_log10 is not None and math.isfinite(row.update_ratio_log10)
        )
        if ratios:
            return ratios[len(ratios) // 2]
    return None


def _remedy(view: View) -> str:
    if not view.training.not_working and not view.training.rests_high:
        return _("Nothing to mend in the backward signal.")
    text = _(
        "Look at the labels (do they belong to these inputs? {labels}), the learning rate ({rate}a"
        " step changes the weights by {ratio} of their size; try ten times more and less), the data"
        " ({data}), the loss against the output (logits or probabilities?), and whether the network"
        " can overfit eight samples."
    )
    ratio = update_ratio(view)
    rates = view.optimizer.lr if view.optimizer is not None else ()
    size = _first_size(view)
    return text.format(
        labels=_of_the_labels(view),
        rate=_("{rate}: ").format(rate=quantity(max(rates))) if rates else "",
        ratio=_("an unknown share") if ratio is None else times(ratio),
        data=_("how large are they?")
        if size is None
        else _("the first layer makes {size} of them, root mean square").format(
            size=quantity(size)
        ),
    )


def _of_the_labels(view: View) -> str:
    end = view.training.end
    if end is None:
        return _("the loss was never finite")
    known = guessing(view)
    if known is None:
        return _("the loss ends at {end}").format(end=loss(end))
    classes, chance = known
    return _("the loss ends at {end}, and guessing among {classes} classes gives {chance}").format(
        end=loss(end), classes=classes, chance=loss(chance)
    )


def guessing(view: View) -> tuple[int, float] | None:
    """Return the number of classes and the loss of guessing among them evenly, ln(classes).

    None where the loss is not known to be a mean cross-entropy.
    """
    head = view.traces[-1].trace.head if view.traces else None
    if head is None or head.reduction != "mean" or head.constant_log10 != 0.0:
        return None
    if head.op.startswith("LogSoftmax") and len(head.output_shape) > 1:
        # Classes lie along dimension 1, and also where all else has been flattened away.
        classes = head.output_shape[1]
    elif head.op.startswith("BinaryCrossEntropyWithLogits"):
        classes = 2
    else:
        return None
    return (classes, math.log(classes)) if classes > 1 else None


RULE = Rule(
    code="OK001",
    verdict="healthy",
    title="the backward signal is healthy",
    check=check,
    documentation=__doc__,
    when_healthy=True,
)
