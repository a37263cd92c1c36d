"""Weights and biases read off the network's own activations, then corrected by measurement.

What follows each weight is read off a trace; weights and biases are drawn so that neither lengths
nor gradients change from layer to layer (orthogonal matrices, mirrored pairs or centring biases
where an activation has a mean, small residual branches, open forget gates in recurrent cells), and
each layer is corrected on one batch until its forward and backward gains are 1. `measured-init` is
`unvanish.init_`, which chooses among these; `centring-init`, `mirrored-init` and `shaped-init` hold
to one scheme.

Proposed where the signal vanishes, explodes or collapses, where units are dead, and where numbers
overflow. Keeps the architecture and the activation.

Safe before training has begun: only values are redrawn that were drawn at random themselves. What a
trained network has learnt would be lost; freeze what is pretrained.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from unvanish.errors import UnvanishError
from unvanish.fix.cure import Applicability, Change, Cure, Edit, Live, NotApplicable
from unvanish.i18n import _
from unvanish.initialisation import init_
from unvanish.initialisation.plan import InitPlan


class MeasuredInit(Cure):
    """`unvanish.init_` on the user's batch."""

    name = "measured-init"
    applicability = Applicability.SAFE
    kind = "structural"
    scheme: ClassVar[str] = "auto"
    sources: ClassVar[tuple[str, ...]] = (
        "Balduzzi et al. 2017, The Shattered Gradients Problem, arXiv:1702.08591",
        "Mishkin and Matas 2016, All You Need is a Good Init, arXiv:1511.06422",
        "Schoenholz et al. 2017, Deep Information Propagation, arXiv:1611.01232",
    )
    words: ClassVar[Mapping[str, float]] = {
        "VG102": 0.7,
        "VG104": 0.6,
        "VG": 0.95,
        "EG": 0.85,
        "FS": 0.85,
        "DU": 0.6,
        "NF": 0.5,
    }

    def summary(self) -> str:
        return _(
            "Draw weights and biases that suit each activation, and correct every layer on a batch"
            " until its gain is 1 forward and backward."
        )

    def apply(self, live: Live) -> Change:
        try:
            plan = init_(
                live.model,
                live.batch,
                scheme=self.scheme,
                loss_fn=live.loss_fn,
                generator=live.generator,
            )
        except UnvanishError as error:
            raise NotApplicable(str(error)) from error
        edits = _edits(plan)
        if not edits:
            raise NotApplicable(_("there is no weight here whose scale it knows"))
        return Change(edits)

    def code(self, live: Live, change: Change) -> str:
        scheme = "" if self.scheme == "auto" else f", scheme={self.scheme!r}"
        first = _("its plan can be read first: init_(..., dry_run=True)")
        then = _("one batch of your data")
        return "\n".join(
            (
                f"import unvanish  # {first}",
                f"unvanish.init_(model, batch, loss_fn=loss_fn{scheme})  # {then}",
            )
        )


def _edits(plan: InitPlan) -> tuple[Edit, ...]:
    return tuple(
        Edit(row.parameter, row.what, f"{row.before:.3g}", f"{row.after:.3g}")
        for row in plan.rows
        if row.action == "set"
    )


CURES = (MeasuredInit(),)
