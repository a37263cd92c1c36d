"""A generator's loss that does not saturate.

Where the judge D answers with the logit u, D = σ(u), the slope of log(1 − D(G(z))) is −σ(u): nearly
0 while the judge is sure of the fakes, when the generator has most to learn. Raising log D(G(z))
has the same fixed point and the slope 1 − σ(u), nearly 1.

Proposed where the loss head is to blame or the signal vanishes, and the loss holds a logarithm of
1 − sigmoid that is minimised.

Display-only: an edit of the line that computes the loss; a trial imitates it. It changes what is
minimised, so it can be measured, not proven.
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
from unvanish.i18n import _
from unvanish.measure.preserve import preserved
from unvanish.records import Diagnosis, SourceLine


class NonSaturatingLoss(Cure):
    """−log D for log(1 − D)."""

    name = "non-saturating-loss"
    applicability = Applicability.DISPLAY_ONLY
    kind: ClassVar[Kind] = "loss"
    sources = ("Goodfellow et al. 2014, Generative Adversarial Nets, arXiv:1406.2661, section 3",)
    words: ClassVar[Mapping[str, float]] = {"LH": 0.9, "VG": 0.8, "CG103": 0.6, "UR": 0.4}

    def summary(self) -> str:
        return _("Train the generator to raise log D(G(z)), not to lower log(1 − D(G(z))).")

    def fits(self, diagnosis: Diagnosis, live: Live) -> float:
        return float(bool(_minimised(live)))

    def apply(self, live: Live) -> Change:
        lines = _minimised(live)
        if not lines:
            raise NotApplicable(_("no logarithm of 1 − sigmoid that is minimised"))
        live.settings.contexts.append(lambda: _NonSaturating(lines))
        row = Edit("", _("loss"), "log(1 - D(G(z)))", "-log D(G(z))")
        note = _("Imitated here; in your source it is an edit.")
        return Change((row,), note=note, details={"lines": lines})

    def code(self, live: Live, change: Change) -> str:
        return edits(
            change.details["lines"],
            r"$^",
            "",
            _("minimise -torch.nn.functional.logsigmoid(logits) of the fake samples"),
        )


class _Logarithms(Substitution):
    """Knows the logits behind log(1 − sigmoid(logits))."""

    def instead(self, name: str, function: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        """Follow sigmoid, then 1 − it, then its logarithm."""
        if not args or not isinstance(args[0], Tensor):
            return NotImplemented
        x = args[0]
        if name == "sigmoid":
            return self.note(torch.sigmoid(x), "sigmoid", x)
        # `1 - p` is a reflected subtraction, `torch.sub(1, p)` a call of `rsub` below it
        if name in ("sub", "rsub") and (logits := self.origin(x, "sigmoid")) is not None:
            result = function(*args, **kwargs)
            one = isinstance(args[1], int | float) and args[1] == 1
            reflected = bool(torch.equal(result, 1 - x))
            return self.note(result, "complement", logits) if one and reflected else result
        if name == "log" and (logits := self.origin(x, "complement")) is not None:
            return self.logarithm(torch.log(x), logits)
        return NotImplemented

    def logarithm(self, value: Tensor, logits: Tensor) -> Tensor:
        """Return what stands for log(1 − sigmoid(logits))."""
        return value


class _Search(_Logarithms):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[Tensor, SourceLine | None]] = []

    def logarithm(self, value: Tensor, logits: Tensor) -> Tensor:
        """Keep it."""
        self.found.append((value, self.line()))
        return value


class _NonSaturating(_Logarithms):
    def __init__(self, lines: tuple[SourceLine | None, ...]) -> None:
        super().__init__()
        self.lines = lines

    def logarithm(self, value: Tensor, logits: Tensor) -> Tensor:
        """Replace it by −log sigmoid(logits) on the lines of a generator's loss."""
        return -functional.logsigmoid(logits) if self.line() in self.lines else value


def _minimised(live: Live) -> tuple[SourceLine | None, ...]:
    """Return the lines of logarithms of 1 − sigmoid that the loss grows with."""
    search = _Search()
    with preserved(live.model), torch.enable_grad():
        with search:
            loss = live.loss_fn(live.model, live.batch)
        values = [value for value, _line in search.found]
        if not values or not loss.requires_grad:
            return ()
        slopes = torch.autograd.grad(loss, values, allow_unused=True)
    rising = [
        line
        for slope, (_value, line) in zip(slopes, search.found, strict=True)
        if slope is not None and bool((slope >= 0).all()) and bool((slope > 0).any())
    ]
    return tuple(dict.fromkeys(rising))


CURES = (NonSaturatingLoss(),)
