"""Numbers that float16 can hold.

`adam-eps` takes an eps that the parameters' type can hold: 1e-8 is 0 in float16. Proposed where
numbers are not finite or steps are of the wrong size.

`loss-scaling` multiplies the loss so that float16 gradients do not flush to 0. Its trial suits
optimisers that divide by the gradient's size (Adam); before any other's step the scale has to be
divided out again. `float32` trains in float32. Proposed where parameters are in float16 and
gradients too small for it; the latter also where numbers are not finite.

Unsafe: they change the dynamics of training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from unvanish.fix.cure import Applicability, Change, Cure, Edit, Kind, Live, NotApplicable
from unvanish.i18n import _
from unvanish.records import Diagnosis

_EPS = 1e-4
_SCALE = 65536.0


class AdamEps(Cure):
    """An eps that the parameters' type can hold."""

    name = "adam-eps"
    applicability = Applicability.UNSAFE
    kind: ClassVar[Kind] = "optimiser"
    sources = (
        "Kingma and Ba 2015, Adam, arXiv:1412.6980; Micikevicius et al. 2018, arXiv:1710.03740",
    )
    words: ClassVar[Mapping[str, float]] = {"NF": 0.98, "UR": 0.7}

    def summary(self) -> str:
        return _("Give the optimiser an eps of {eps:g}: its own is 0 in float16.").format(eps=_EPS)

    def fits(self, diagnosis: Diagnosis, live: Live) -> float:
        return float(self._tiny(live))

    def _tiny(self, live: Live) -> bool:
        groups = live.optimizer.param_groups if live.optimizer is not None else []
        return any(
            "eps" in group
            and any(
                torch.finfo(p.dtype).smallest_normal * 1e-3 > group["eps"] for p in group["params"]
            )
            for group in groups
        )

    def apply(self, live: Live) -> Change:
        if not self._tiny(live) or live.optimizer is None:
            raise NotApplicable(_("the optimiser's eps is a number in its parameters' type"))
        before = f"{live.optimizer.param_groups[0].get('eps')}"
        for group in live.optimizer.param_groups:
            group["eps"] = _EPS
        return Change((Edit("", "eps", before, f"{_EPS:g}"),))

    def code(self, live: Live, change: Change) -> str:
        return f"for group in optimizer.param_groups:\n    group['eps'] = {_EPS!r}"


class LossScaling(Cure):
    """A multiple of the loss."""

    name = "loss-scaling"
    applicability = Applicability.UNSAFE
    kind: ClassVar[Kind] = "optimiser"
    sources = ("Micikevicius et al. 2018, Mixed Precision Training, arXiv:1710.03740",)
    words: ClassVar[Mapping[str, float]] = {"UR103": 0.97, "VG": 0.3, "CG103": 0.3}

    def summary(self) -> str:
        return _(
            "Multiply the loss by {scale:g}, so that float16 gradients do not flush to 0."
        ).format(scale=_SCALE)

    def fits(self, diagnosis: Diagnosis, live: Live) -> float:
        return float(_half(live.model))

    def apply(self, live: Live) -> Change:
        if not _half(live.model):
            raise NotApplicable(_("nothing here is in float16"))
        live.settings.loss_scale = _SCALE
        return Change((Edit("", _("scale of the loss"), "1", f"{_SCALE:g}"),))

    def code(self, live: Live, change: Change) -> str:
        return "\n".join(
            (
                "# " + _("in place of loss.backward():"),
                f"#   (loss * {_SCALE:g}).backward()",
                "# "
                + _(
                    "and divide gradients by it in float32 before the step"
                    " (torch.amp.GradScaler does)"
                ),
            )
        )


class Float32(Cure):
    """Train in float32."""

    name = "float32"
    applicability = Applicability.UNSAFE
    kind: ClassVar[Kind] = "structural"
    sources = ("Micikevicius et al. 2018, Mixed Precision Training, arXiv:1710.03740",)
    words: ClassVar[Mapping[str, float]] = {"UR103": 0.9, "NF": 0.8}

    def summary(self) -> str:
        return _("Keep parameters in float32 (autocast can still compute in float16).")

    def fits(self, diagnosis: Diagnosis, live: Live) -> float:
        return float(_half(live.model))

    def apply(self, live: Live) -> Change:
        if not _half(live.model):
            raise NotApplicable(_("nothing here is in float16"))
        live.model.float()
        live.model.register_forward_pre_hook(to_float32, with_kwargs=True, prepend=True)
        return Change((Edit("", _("parameters"), "float16", "float32"),))

    def code(self, live: Live, change: Change) -> str:
        return "\n".join(
            (
                "import torch",
                "",
                "",
                "def to_float32(module, inputs):",
                "    half = (torch.float16, torch.bfloat16)",
                "    return tuple(",
                "        x.float() if getattr(x, 'dtype', None) in half else x for x in inputs",
                "    )",
                "",
                "",
                "model.float()",
                "model.register_forward_pre_hook(to_float32)",
            )
        )


def to_float32(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Hand half-precision inputs on in float32."""

    def single(value: Any) -> Any:
        half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
        return value.float() if half else value

    return tuple(map(single, args)), {key: single(value) for key, value in kwargs.items()}


def _half(model: nn.Module) -> bool:
    return any(parameter.dtype == torch.float16 for parameter in model.parameters())


CURES = (AdamEps(), LossScaling(), Float32())
