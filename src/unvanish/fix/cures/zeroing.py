"""Gradients cleared after every step.

`backward` adds to what is in `.grad`: without `optimizer.zero_grad()` each step follows the sum of
all gradients so far.

Proposed where steps do not follow from the gradient, as they do not when gradients add up.

Display-only: an edit of the loop that a trial imitates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from unvanish.fix.cure import Applicability, Change, Cure, Edit, Kind, Live
from unvanish.i18n import _


class ZeroGrad(Cure):
    """Clear gradients each step."""

    name = "zero-grad"
    applicability = Applicability.DISPLAY_ONLY
    kind: ClassVar[Kind] = "optimiser"
    sources = ("PyTorch documentation, torch.optim.Optimizer.zero_grad",)
    words: ClassVar[Mapping[str, float]] = {"UR102": 0.97, "UR": 0.4, "EG": 0.25}

    def summary(self) -> str:
        return _("Clear the gradients after every step.")

    def apply(self, live: Live) -> Change:
        live.settings.zero_grad_each_step = True
        note = _("Imitated here; in your source it is an edit.")
        return Change((Edit("", _("gradients after a step"), _("kept"), _("cleared")),), note=note)

    def code(self, live: Live, change: Change) -> str:
        return "# " + _("in the loop, before loss.backward():") + "\n#   optimizer.zero_grad()"


CURES = (ZeroGrad(),)
