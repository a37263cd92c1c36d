"""VG108: attention heads that look at one token only, or at all alike.

## What it finds

Layers of attention at least half of whose heads have an entropy near 0 (each query gives all its
weight to one key: the softmax is saturated) or, in the later traced steps, still exactly that of an
even spread (the queries and keys have no say), while training does not work. The entropy is given
as a share of the greatest possible, over all queries of a batch.

## Why it matters

The slope of a softmax is p (1 - p): a head that is sure passes nothing back to its queries and
keys, and cannot change its mind. A head that spreads evenly averages all tokens into one.

## Known problems

Untrained attention spreads nearly evenly and is healthy; heads that look at one token (the previous
one, say) are common in trained models. So only a training that does not work is judged. Preview:
not yet held against enough models; select it by its code.

## Example

    scores = (query @ key.mT) * 8.0          # in place of / sqrt(d): saturated from the start

## Cure

Scale the scores by 1/sqrt(d); normalise queries and keys (QK norm); a warm-up and a smaller
learning rate; smaller initial weights of the query and key projections.

## References

- Zhai et al. 2023, Stabilizing transformer training by preventing attention entropy collapse,
  arXiv 2303.06296.
- Dong, Cordonnier, Loukas 2021, Attention is not all you need, arXiv 2103.03404.
"""

from __future__ import annotations

from collections.abc import Sequence

from unvanish.diagnose.phrases import place
from unvanish.diagnose.rule import Rule
from unvanish.diagnose.view import TraceView, View
from unvanish.i18n import _
from unvanish.records import AttentionHead, Evidence, Finding, Where


def check(view: View) -> Sequence[Finding]:
    """Fire if half of the heads of a layer stay saturated, or spread evenly, and training fails."""
    seen = [trace for trace in view.traces if trace.trace.attention]
    late = seen[len(seen) // 2 :]
    if not late or not view.training.not_working:
        return []
    sure, even = view.limit("attention-sure"), view.limit("attention-even")
    for saturated in (True, False):
        layers = [_layers(trace, sure if saturated else even, below=saturated) for trace in late]
        always = [key for key in layers[0] if all(key in found for found in layers)]
        if always:
            return [_finding(view, late[-1], always, saturated=saturated)]
    return []


def _layers(trace: TraceView, limit: float, *, below: bool) -> dict[tuple[str, int], float]:
    """The mean entropy of each call at least half of whose heads are beyond `limit`."""
    calls: dict[tuple[str, int], list[AttentionHead]] = {}
    for head in trace.trace.attention:
        calls.setdefault((head.module, head.call), []).append(head)
    found = {}
    for key, heads in calls.items():
        beyond = sum(
            (head.entropy <= limit) if below else (head.entropy >= limit) for head in heads
        )
        if 2 * beyond >= len(heads):
            found[key] = sum(head.entropy for head in heads) / len(heads)
    return found


def _finding(
    view: View, trace: TraceView, always: Sequence[tuple[str, int]], *, saturated: bool
) -> Finding:
    module, call = always[0]
    heads = [h for h in trace.trace.attention if (h.module, h.call) == (module, call)]
    entropy = sum(head.entropy for head in heads) / len(heads)
    if saturated:
        title = _(
            "The attention of {where} is saturated: its heads look at one token each (entropy"
            " {entropy:.3f} of the greatest)."
        )
        remedy = _("Scale the scores by 1/sqrt(d), normalise queries and keys, or warm up.")
        limit = view.limit("attention-sure")
    else:
        title = _(
            "The attention of {where} looks at all tokens alike (entropy {entropy:.4f} of the"
            " greatest): queries and keys have no say."
        )
        remedy = _("Look at the scale of the query and key projections, and at their gradient.")
        limit = view.limit("attention-even")
    return Finding(
        code="VG108",
        family="VG",
        verdict="vanishing",
        severity="warning",
        title=title.format(where=place(module), entropy=entropy),
        where=Where(module, None, call, view.source(module)),
        factor="attention",
        evidence=(
            Evidence("attention_entropy", entropy, limit),
            Evidence("attention_layers", float(len(always))),
            Evidence("training", view.training.state),
        ),
        remedy=remedy,
        model=view.model.name,
        step=trace.step,
        explains=("VG106",),
    )


RULE = Rule(
    code="VG108",
    verdict="vanishing",
    title="attention that is saturated, or spreads evenly",
    check=check,
    documentation=__doc__,
    thresholds=("attention-sure", "attention-even"),
    preview=True,
)
