"""A gradient past a hard choice.

An argmax has no gradient. `straight-through` lets it pass: forward the hard choice, backward the
softmax's gradient. The line to paste is torch's `gumbel_softmax(hard=True)`, which also makes the
choice at random, as training wants it.

Proposed where the graph is cut.

Display-only, an edit that a trial imitates; its gradient is an estimate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from unvanish.fix.cure import Applicability, Change, Cure, Edit, Kind, Live, NotApplicable
from unvanish.fix.edits import edits
from unvanish.fix.functions import Substitution
from unvanish.fix.structure import observe
from unvanish.i18n import _


class StraightThrough(Cure):
    """The softmax's gradient for an argmax."""

    name = "straight-through"
    applicability = Applicability.DISPLAY_ONLY
    kind: ClassVar[Kind] = "source-edit"
    sources = (
        "Bengio, Léonard & Courville 2013, Estimating or Propagating Gradients, arXiv:1308.3432",
        "Jang et al. 2017, Categorical Reparameterization with Gumbel-Softmax, arXiv:1611.01144",
    )
    words: ClassVar[Mapping[str, float]] = {"CG101": 0.9, "CG": 0.5}

    def summary(self) -> str:
        return _("Let the gradient pass an argmax as it passes a softmax (straight-through).")

    def apply(self, live: Live) -> Change:
        choices = [op for op in observe(live).ops if op.name in ("argmax", "one_hot")]
        if {op.name for op in choices} != {"argmax", "one_hot"}:
            raise NotApplicable(_("no one-hot code of an argmax in the network"))
        live.settings.contexts.append(_StraightThrough)
        note = _("Imitated here; in your source it is an edit.")
        rows = (Edit(choices[0].module or "", "argmax", _("hard"), _("straight-through softmax")),)
        return Change(rows, note=note, details={"lines": [op.line for op in choices]})

    def code(self, live: Live, change: Change) -> str:
        return edits(
            change.details["lines"],
            r"$^",
            "",
            _("torch.nn.functional.gumbel_softmax(logits, hard=True) instead of one_hot(argmax)"),
        )


class _StraightThrough(Substitution):
    def instead(self, name: str, function: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        """Remember what an argmax chose from; make its one-hot code differentiable."""
        if name == "argmax" and args and isinstance(args[0], Tensor):
            return self.note(torch.argmax(*args, **kwargs), "argmax", args[0])
        if name == "one_hot" and args:
            logits = self.origin(args[0], "argmax")
            if logits is not None and logits.requires_grad:
                code = functional.one_hot(*args, **kwargs)
                return _through(code.to(logits.dtype), logits)
        return NotImplemented


def _through(code: Tensor, logits: Tensor) -> Tensor:
    soft = torch.softmax(logits, -1)
    return code + soft - soft.detach() if code.shape == soft.shape else code


CURES = (StraightThrough(),)
