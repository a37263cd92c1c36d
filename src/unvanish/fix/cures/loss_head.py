"""A loss head that takes logits.

`nn.CrossEntropyLoss` applies log-softmax itself: a softmax in front of it squeezes the logits into
[0, 1], and the loss cannot go below 1.46 for ten classes. `logits-head` takes the softmax (or
log-softmax) at the model's end away. A sigmoid before a squared error multiplies the error by its
slope, which is nearly 0 where the output is wrong and sure: `bce-head` computes the binary
cross-entropy on the logits instead, whose gradient at the logits is the error itself.

Proposed where the loss head is to blame; `bce-head` also where units are saturated.

`logits-head` is unsafe: from then on the model returns logits, and who reads probabilities has to
apply the softmax. `bce-head` is display-only, an edit that a trial imitates: the loss keeps its
value and gets the gradient of the cross-entropy, so that both networks are held against the
squared error that was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from unvanish.fix.cure import Applicability, Change, Cure, Edit, Kind, Live, NotApplicable
from unvanish.fix.edits import edit
from unvanish.fix.functions import Substitution, during_forward
from unvanish.fix.recording import Op
from unvanish.fix.replace import replace_module
from unvanish.fix.structure import observe
from unvanish.i18n import _

_SQUASHING = ("softmax", "sigmoid", "log_softmax")


class LogitsHead(Cure):
    """Take the model's last softmax away."""

    name = "logits-head"
    applicability = Applicability.UNSAFE
    kind: ClassVar[Kind] = "structural"
    sources = ("Goodfellow, Bengio & Courville 2016, Deep Learning, section 6.2.2",)
    words: ClassVar[Mapping[str, float]] = {"LH101": 0.98, "LH": 0.6}

    def summary(self) -> str:
        return _("Hand logits to the loss: take the softmax at the model's end away.")

    def apply(self, live: Live) -> Change:
        last = _last_squashing(live)
        if last is None or last.name == "sigmoid":
            raise NotApplicable(_("the model's last call is no softmax"))
        module = live.model.get_submodule(last.module) if last.module else None
        row = Edit(last.module or "", _("output"), last.name, _("logits"))
        if isinstance(module, nn.Softmax | nn.LogSoftmax):
            replace_module(live.model, module, nn.Identity())
            return Change((row,), details={"path": last.module})
        during_forward(live.model, _Logits(last.name, _place_of(live, last)))
        return Change((row,), details={"op": last})

    def code(self, live: Live, change: Change) -> str:
        path = change.details.get("path")
        if path is not None:
            parent, _dot, name = path.rpartition(".")
            return "\n".join(
                (
                    "import torch",
                    "",
                    f"setattr(model.get_submodule({parent!r}), {name!r}, torch.nn.Identity())",
                )
            )
        op = change.details["op"]
        return edit(
            op.line,
            r"\b(?:\w+\.)*softmax\(([^,()]+).*?\)",
            r"\1",
            _("return the logits themselves"),
        )


@dataclass(frozen=True)
class _Logits:
    """Makes the substitution for one forward; an object, so that it copies with the model."""

    name: str
    place: int  # which of the forward's calls of that name is the model's last, from 0

    def __call__(self) -> Substitution:
        return _WithoutCall(self.name, self.place)


class _WithoutCall(Substitution):
    def __init__(self, name: str, place: int) -> None:
        super().__init__()
        self.name = name
        self.left = place  # calls of that name before the one that goes: attention's

    def instead(self, name: str, function: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        """Hand on what the one call was given."""
        if name != self.name or not args:
            return NotImplemented
        self.left -= 1
        return args[0] if self.left == -1 else NotImplemented


def _place_of(live: Live, last: Op) -> int:
    """Return how many calls of the same function the model makes before `last`."""
    ops = observe(live).ops
    return sum(op.name == last.name and op.module is not None for op in ops[: last.index])


class BceHead(Cure):
    """Binary cross-entropy on logits instead of a squared error behind a sigmoid."""

    name = "bce-head"
    applicability = Applicability.DISPLAY_ONLY
    kind: ClassVar[Kind] = "source-edit"
    sources = ("Nielsen 2015, Neural Networks and Deep Learning, chapter 3",)
    words: ClassVar[Mapping[str, float]] = {"LH102": 0.98, "VG102": 0.5, "LH": 0.5}

    def summary(self) -> str:
        return _(
            "Minimise the binary cross-entropy of the logits, not a squared error of a sigmoid."
        )

    def apply(self, live: Live) -> Change:
        structure = observe(live)
        ops = structure.ops
        losses = [op for op in ops if op.name in ("mse_loss", "mse", "l1_loss")]
        squares = [op for op in ops if op.name == "pow" and op.module is None]
        sigmoids = [op for op in ops if op.name == "sigmoid"]
        if not sigmoids or not (losses or squares or _last_squashing(live) is not None):
            raise NotApplicable(_("no squared error of a sigmoid"))
        live.settings.contexts.append(_Bce)
        line = (losses or squares or sigmoids)[-1].line
        row = Edit(
            "", _("loss"), _("squared error of a sigmoid"), "binary_cross_entropy_with_logits"
        )
        return Change(
            (row,), note=_("Imitated here; in your source it is an edit."), details={"line": line}
        )

    def code(self, live: Live, change: Change) -> str:
        return edit(
            change.details["line"],
            r"$^",
            "",
            _(
                "let the model return the logits z (no sigmoid), and minimise"
                " torch.nn.functional.binary_cross_entropy_with_logits(z, target)"
            ),
        )


class _Bce(Substitution):
    """A squared error of what a sigmoid made gets the gradient of a cross-entropy of its logits."""

    def instead(self, name: str, function: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        """Remember what sigmoids were made of; replace the error."""
        if name == "sigmoid" and args and isinstance(args[0], Tensor):
            return self.note(torch.sigmoid(args[0]), "sigmoid", args[0])
        if name in ("mse_loss", "l1_loss") and len(args) >= 2:
            logits = self.origin(args[0], "sigmoid")
            if logits is not None and logits.shape == args[1].shape:
                return _with_gradient_of(
                    function(*args, **kwargs),
                    functional.binary_cross_entropy_with_logits(
                        logits, args[1].to(logits.dtype), reduction=kwargs.get("reduction", "mean")
                    ),
                )
        if name == "sub" and len(args) == 2:
            logits = self.origin(args[0], "sigmoid")
            if logits is not None and isinstance(args[1], Tensor):
                return self.note(args[0].sub(args[1]), "error", (logits, args[1]))
        if name == "pow" and args:
            error = self.origin(args[0], "error")
            if error is not None:
                logits, target = error
                return _with_gradient_of(
                    function(*args, **kwargs),
                    functional.binary_cross_entropy_with_logits(
                        logits, target.to(logits.dtype).expand_as(logits), reduction="none"
                    ),
                )
        return NotImplemented


def _with_gradient_of(value: Tensor, other: Tensor) -> Tensor:
    """Return `value` with the gradient of `other`, which has its shape."""
    return value.detach() + (other - other.detach())


def _last_squashing(live: Live) -> Op | None:
    """Return the model's last call, if it is a softmax or a sigmoid."""
    inner = [op for op in observe(live).ops if op.module is not None]
    shaped = [op for op in inner if op.name not in ("squeeze", "flatten", "view", "reshape")]
    return shaped[-1] if shaped and shaped[-1].name in _SQUASHING else None


CURES = (LogitsHead(), BceHead())
