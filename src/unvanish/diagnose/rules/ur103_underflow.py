"""UR103: gradients too small for their number format.

## What it finds

The backward signal becomes exactly zero in an op that cannot stop it: a multiplication by a
constant, a mean, or a linear layer whose weights are not zero, while training is stuck.

## Why it matters

float16 has no number below 6e-8. A loss that is averaged over very many outputs, or multiplied by
a small constant, sends back gradients that are rounded to zero, in all layers at once. In float32
the very same net trains.

## Known problems

A loss multiplied by exactly 0 looks the same. In float32 only a signal that has vanished through
tens of layers gets so small: then the rules of the family VG speak.

## Example

    net.half()
    loss = ((net(x) - y) ** 2 / 65536).mean()

## Cure

Loss scaling (`torch.amp.GradScaler`), or bfloat16, which has the range of float32; or autocast with
float32 weights. Take constants and means out of the loss, and into the learning rate.

## References

- Micikevicius et al. 2018, Mixed precision training, arXiv 1710.03740.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from unvanish.diagnose.phrases import place
from unvanish.diagnose.rule import Rule
from unvanish.diagnose.trunk import UNDERFLOW
from unvanish.diagnose.view import TraceView, View
from unvanish.i18n import _
from unvanish.records import Evidence, Finding, PathEdge, Where

_SCALING = ("Mul", "Div", "Mean", "Sum", "Pow", "MseLoss", "SmoothL1Loss", "ToCopy", "Neg")


def check(view: View) -> Sequence[Finding]:
    """Fire if the signal is rounded to zero at every traced step, and training is stuck."""
    if view.training.state != "stuck":
        return []
    lost = [_rounded_away(trace) for trace in view.traces if trace.trace.main_path is not None]
    edge = lost[0] if lost else None
    if edge is None or not all(lost):
        return []
    title = _(
        "The gradient is exactly 0 from {op} of {where} on, which only rounds it away: it is too"
        " small for its number format."
    )
    return [
        Finding(
            code="UR103",
            family="UR",
            verdict="update-size",
            severity="error",
            title=title.format(op=edge.op, where=place(edge.module)),
            where=Where(edge.module, edge.op, edge.call, view.source(edge.module)),
            factor=edge.factor,
            evidence=(
                Evidence("level_log10", edge.level_log10),
                Evidence("training", view.training.state),
            ),
            remedy=_(
                "Scale the loss (torch.amp.GradScaler), or use bfloat16 or autocast; take constants"
                " and means out of the loss and into the learning rate."
            ),
            model=view.model.name,
            step=view.traces[0].step,
            explains=("CG103", "UR101", "UR106", "UR102", "VG101", "VG103", "VG105"),
        )
    ]


def _rounded_away(trace: TraceView) -> PathEdge | None:
    trunk = trace.trunk
    if trunk is not None:
        small = trunk.cut is not None and trunk.cut.edge.level_log10 >= UNDERFLOW
        return trunk.cut.edge if small and trunk.cut and trunk.underflows else None
    path = trace.trace.main_path
    edges = path.edges if path is not None else ()
    cut = next((edge for edge in edges if not math.isfinite(edge.gain_log10)), None)
    if cut is None or cut.gain_log10 != -math.inf or cut.level_log10 < UNDERFLOW:
        return None
    return cut if cut.op.startswith(_SCALING) else None


RULE = Rule(
    code="UR103",
    verdict="update-size",
    title="gradients too small for their number format",
    check=check,
    documentation=__doc__,
)
