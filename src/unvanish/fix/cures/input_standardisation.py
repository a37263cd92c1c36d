"""Inputs shifted and scaled to mean 0 and mean square 1.

Raw pixels or raw observations push the first units into saturation and make exponentials overflow.
The floating-point input of the network is standardised in front of its first layer, by the numbers
of the first batch: all entries alike, or, where columns differ by more than ten times in scale,
column by column.

Proposed where units are saturated or dead, numbers overflow, steps are of the wrong size, or the
signal vanishes, explodes or collapses, and the input's root mean square is above 3 or below 1/3.

Unsafe: the network is another function of its input. The mean and the scale stand in the pasted
lines, not in the state dictionary: whoever loads the weights elsewhere needs these lines there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from unvanish.fix.cure import Applicability, Change, Cure, Edit, Live, NotApplicable
from unvanish.i18n import _
from unvanish.measure.preserve import preserved
from unvanish.records import Diagnosis

_RAW = 3.0  # an input is raw if its rms is above this, or below its inverse
_COLUMNS = 10.0  # standard deviations of columns that differ by this much are scaled one by one
_FEW = 64  # columns that can be listed in lines to paste


@dataclass(frozen=True)
class Standardise:
    """A forward pre-hook: (x − mean) / std of the first floating-point input."""

    mean: Tensor  # scalar, or (columns,)
    std: Tensor

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        position = first_float(args)
        if position is None:
            return args
        x = args[position]
        scaled = (x - self.mean.to(x)) / self.std.to(x)
        return (*args[:position], scaled, *args[position + 1 :])


class InputStandardisation(Cure):
    """Scale the input."""

    name = "input-standardisation"
    applicability = Applicability.UNSAFE
    kind = "input"
    sources = ("LeCun, Bottou, Orr & Müller 1998, Efficient BackProp, section 4.3",)
    words: ClassVar[Mapping[str, float]] = {
        "VG102": 0.95,
        "NF": 0.6,
        "EG": 0.5,
        "DU": 0.45,
        "UR": 0.4,
        "VG": 0.35,
        "FS": 0.4,
    }

    def summary(self) -> str:
        return _("Standardise the input: mean 0, mean square 1.")

    def fits(self, diagnosis: Diagnosis, live: Live) -> float:
        x = first_input(live)
        return 0.0 if x is None or not _raw(x) else 1.0

    def apply(self, live: Live) -> Change:
        x = first_input(live)
        if x is None:
            raise NotApplicable(_("the network has no floating-point input"))
        if not _raw(x):
            raise NotApplicable(_("the input is not far from mean 0 and mean square 1"))
        mean, std = _numbers(x)
        live.model.register_forward_pre_hook(Standardise(mean, std), prepend=True)
        rms = float(x.double().pow(2).mean().sqrt())
        row = Edit("", _("input"), _("rms {rms:.3g}").format(rms=rms), _("standardised"))
        return Change((row,), details={"mean": mean, "std": std})

    def code(self, live: Live, change: Change) -> str:
        mean, std = (_literal(change.details[key]) for key in ("mean", "std"))
        return "\n".join(
            (
                "import torch",
                "",
                f"MEAN, STD = torch.tensor({mean}), torch.tensor({std})",
                "",
                "",
                "def standardise(module, inputs):",
                "    x, *others = inputs",
                "    return ((x - MEAN.to(x)) / STD.to(x), *others)",
                "",
                "",
                "model.register_forward_pre_hook(standardise)",
            )
        )


def first_float(args: tuple[Any, ...]) -> int | None:
    """The position of the first floating-point tensor with more than one entry."""
    for position, item in enumerate(args):
        if isinstance(item, Tensor) and item.is_floating_point() and item.numel() > 1:
            return position
    return None


def first_input(live: Live) -> Tensor | None:
    """The first floating-point input that the network is given on the batch, detached."""
    seen: list[Tensor] = []

    def look(module: nn.Module, args: tuple[Any, ...]) -> None:
        position = first_float(args)
        if position is not None and not seen:
            seen.append(args[position].detach())

    with preserved(live.model):
        handle = live.model.register_forward_pre_hook(look)
        try:
            live.loss_fn(live.model, live.batch)
        finally:
            handle.remove()
    return seen[0] if seen else None


def _raw(x: Tensor) -> bool:
    rms = float(x.double().pow(2).mean().sqrt())
    return math.isfinite(rms) and rms > 0 and not 1 / _RAW <= rms <= _RAW


def _numbers(x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.double()
    whole = x.std(correction=0).clamp_min(1e-12)
    if x.dim() == 2 and 1 < x.shape[1] <= _FEW:
        columns = x.std(0, correction=0)
        live = columns[columns > 1e-6 * whole]
        if len(live) and float(live.max() / live.min()) > _COLUMNS:
            # A column that hardly varies is not blown up.
            return x.mean(0).float(), columns.clamp_min(float(live.median()) * 1e-3).float()
    return x.mean().float(), whole.float()


def _literal(values: Tensor) -> str:
    if values.dim() == 0:
        return repr(float(values))
    return "[" + ", ".join(repr(float(v)) for v in values) + "]"


CURES = (InputStandardisation(),)
