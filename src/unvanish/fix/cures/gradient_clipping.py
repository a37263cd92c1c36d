"""Gradients of bounded norm.

`gradient-clipping` bounds the norm of the whole gradient, so that one cliff does not throw the
weights away (Pascanu et al. 2013). Proposed where the signal explodes, numbers overflow, units die
or steps are too large.

`unscale-first` divides gradients by the loss scale before they are clipped. Proposed where the
optimiser takes only a small part of a gradient that is clipped. A trial multiplies the bound by
the scale instead, which leaves the same gradient; where no `GradScaler` is at work, it leaves the
clipping out.

`gradient-clipping` is unsafe: it changes the dynamics of training. `unscale-first` is display-only,
an edit of the loop that a trial imitates.
"""

from __future__ import annotations

import gc
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch.amp import GradScaler

from unvanish.fix.cure import Applicability, Change, Cure, Edit, Kind, Live, NotApplicable
from unvanish.i18n import _
from unvanish.records import Diagnosis

_CLIP = 1.0


class GradientClipping(Cure):
    """Clip the gradient's norm."""

    name = "gradient-clipping"
    applicability = Applicability.UNSAFE
    kind: ClassVar[Kind] = "optimiser"
    sources = (
        "Pascanu, Mikolov & Bengio 2013, On the difficulty of training RNNs, arXiv:1211.5063",
    )
    words: ClassVar[Mapping[str, float]] = {
        "EG102": 0.8,
        "EG": 0.55,
        "UR101": 0.5,
        "DU": 0.35,
        "NF": 0.4,
    }

    def summary(self) -> str:
        return _("Clip the norm of the gradient to {norm:g} before each step.").format(norm=_CLIP)

    def apply(self, live: Live) -> Change:
        live.settings.clip_norm = _CLIP
        return Change((Edit("", _("norm of the gradient"), _("free"), f"≤ {_CLIP:g}"),))

    def code(self, live: Live, change: Change) -> str:
        return "\n".join(
            (
                "import torch",
                "",
                "",
                "def clip(*_):",
                f"    torch.nn.utils.clip_grad_norm_(model.parameters(), {_CLIP!r})",
                "",
                "",
                "optimizer.register_step_pre_hook(clip)  # " + _("before every step"),
            )
        )


class UnscaleFirst(Cure):
    """Unscale before clipping."""

    name = "unscale-first"
    applicability = Applicability.DISPLAY_ONLY
    kind: ClassVar[Kind] = "optimiser"
    sources = ("PyTorch documentation, Automatic Mixed Precision examples: gradient clipping",)
    words: ClassVar[Mapping[str, float]] = {"UR102": 0.98, "UR": 0.6}

    def summary(self) -> str:
        return _("Divide gradients by the loss scale before they are clipped.")

    def fits(self, diagnosis: Diagnosis, live: Live) -> float:
        return 1.0 if _scalers() else 0.5

    def apply(self, live: Live) -> Change:
        if live.optimizer is None:
            raise NotApplicable(_("there is no optimiser"))
        live.settings.contexts.append(_clipping_unscaled)
        note = _("Imitated here by a bound times the loss scale; in your source it is an edit.")
        return Change((Edit("", _("clipping"), _("scaled"), _("unscaled")),), note=note)

    def code(self, live: Live, change: Change) -> str:
        where = _("before torch.nn.utils.clip_grad_norm_(…):")
        return f"# {where}\n#   scaler.unscale_(optimizer)"


@contextmanager
def _clipping_unscaled() -> Iterator[None]:
    """Clip scaled gradients where the unscaled ones would be clipped."""
    scalers = _scalers()
    original = torch.nn.utils.clip_grad_norm_

    def clip(parameters: Any, max_norm: float, *args: Any, **kwargs: Any) -> Any:
        scales = [one.get_scale() if _scaled(one) else 1.0 for one in scalers]
        return original(parameters, max_norm * max(scales, default=math.inf), *args, **kwargs)

    restore = [_replace(module, original, clip) for module in _homes(original)]
    try:
        yield
    finally:
        for put_back in restore:
            put_back()


def _scalers() -> list[GradScaler]:
    return [one for one in gc.get_objects() if issubclass(type(one), GradScaler)]


def _scaled(scaler: Any) -> bool:
    """Whether gradients still carry the scale: the script has not unscaled them itself."""
    states = scaler._per_optimizer_states.values()  # torch tells it nowhere else
    return not any(state["stage"].name == "UNSCALED" for state in states)


def _homes(function: Callable[..., Any]) -> list[Any]:
    """Return the modules that know `function` by its name, the user's script among them."""
    name = function.__name__
    modules = list(sys.modules.values())
    return [one for one in modules if getattr(one, "__dict__", {}).get(name) is function]


def _replace(module: Any, old: Callable[..., Any], new: Callable[..., Any]) -> Callable[[], None]:
    setattr(module, old.__name__, new)
    return lambda: setattr(module, old.__name__, old)


CURES = (GradientClipping(), UnscaleFirst())
