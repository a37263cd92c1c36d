"""LH101: probabilities where the loss expects logits.

## What it finds

A softmax or sigmoid at the network's output, followed by a loss that applies one of its own
(cross_entropy, binary_cross_entropy_with_logits); or a softmax without its logarithm in front of
nll_loss; or nll_loss on the plain output of a linear layer, with no softmax at all.

## Why it matters

Two squashings: the loss cannot fall below a floor (1.46 for ten classes), and the gradient is small
where the first softmax is sure, also where it is wrong. Training works, but worse and slower than
it could. Without a softmax the loss has no floor: it falls below 0, and training only drives the
outputs apart.

## Known problems

A log-softmax in front of cross_entropy does no harm (it is its own log-softmax), and is not
reported. Only what lies between the loss and the last layer is looked at.

## Example

    net = nn.Sequential(body, nn.Softmax(dim=1))
    loss = F.cross_entropy(net(x), y)

## Cure

Let the network return logits, and take probabilities only where they are needed: drop the softmax
in front of cross_entropy, the sigmoid in front of binary_cross_entropy_with_logits; use log_softmax
in front of nll_loss.

## References

- PyTorch documentation, torch.nn.CrossEntropyLoss: "the input is expected to contain the
  unnormalized logits".
"""

from __future__ import annotations

from collections.abc import Sequence

from unvanish.diagnose.phrases import place
from unvanish.diagnose.rule import Rule
from unvanish.diagnose.trunk import head_length
from unvanish.diagnose.view import View
from unvanish.i18n import _
from unvanish.records import Evidence, Finding, PathEdge, Where

_WITH_LOGITS = ("LogSoftmax", "BinaryCrossEntropyWithLogits")
_SQUASH = ("Softmax", "Sigmoid")
_VIEWS = ("View", "Reshape", "Transpose", "Permute", "Squeeze", "Unsqueeze", "UnsafeView", "ToCopy")


def check(view: View) -> Sequence[Finding]:
    """Fire if the head of every judged path squashes its output twice, or forgets the logarithm."""
    paths = [t.trace.main_path.edges for t in view.traces if t.trace.main_path is not None]
    heads = [edges[: head_length(edges)] for edges in paths]
    found = [_twice(head) or _no_logarithm(head) for head in heads]
    if heads and all(map(_bare, paths)):
        found = [(path[0], path[0]) for path in paths]
    if not found or found[0] is None or not all(found):
        return []
    squash, loss = found[0]
    if squash is loss:
        title = _("{loss} is given plain outputs, not the logarithms of probabilities.")
        remedy = _("Use cross_entropy on them, or log_softmax in front of nll_loss.")
    elif loss.op.startswith("NllLoss"):
        title = _("{squash} of {where} goes into nll_loss without a logarithm.")
        remedy = _("Use log_softmax in front of nll_loss, or cross_entropy on the logits.")
    else:
        title = _(
            "{squash} of {where} goes into a loss that expects logits: {loss} squashes again."
        )
        remedy = _("Let the network return logits: drop the softmax or sigmoid at its output.")
    return [
        Finding(
            code="LH101",
            family="LH",
            verdict="loss-head",
            severity="error" if view.training.not_working else "warning",
            title=title.format(squash=squash.op, where=place(squash.module), loss=loss.op),
            where=Where(squash.module, squash.op, squash.call, view.source(squash.module)),
            factor="loss",
            evidence=(
                Evidence("head", " < ".join(edge.op for edge in heads[0])),
                Evidence("training", view.training.state),
            ),
            remedy=remedy,
            model=view.model.name,
            step=view.traces[0].step,
            explains=("LH102", "VG101", "VG102", "VG106"),
        )
    ]


def _bare(edges: Sequence[PathEdge]) -> bool:
    """Whether nll_loss takes, through views at most, what a linear map made."""
    body = next((edge for edge in edges[1:] if edge.factor not in ("scale", "loss")), None)
    plain = all(edge.op.startswith(_VIEWS) for edge in edges[1 : head_length(edges)])
    return (
        edges[0].op.startswith("NllLoss")
        and plain
        and body is not None
        and (body.factor == "weight")
    )


def _twice(head: Sequence[PathEdge]) -> tuple[PathEdge, PathEdge] | None:
    loss = next((edge for edge in head if edge.op.startswith(_WITH_LOGITS)), None)
    squash = next((edge for edge in head if edge.op.startswith(_SQUASH)), None)
    return (squash, loss) if loss is not None and squash is not None else None


def _no_logarithm(head: Sequence[PathEdge]) -> tuple[PathEdge, PathEdge] | None:
    loss = next((edge for edge in head if edge.op.startswith("NllLoss")), None)
    squash = next((edge for edge in head if edge.op.startswith("Softmax")), None)
    logarithm = any(edge.op.startswith("Log") for edge in head)
    return (squash, loss) if loss is not None and squash is not None and not logarithm else None


RULE = Rule(
    code="LH101",
    verdict="loss-head",
    title="probabilities where the loss expects logits",
    check=check,
    documentation=__doc__,
)
