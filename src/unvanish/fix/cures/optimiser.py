"""The step: its size, its start, its numerics.

- `gradient-clipping` bounds the norm of the whole gradient, so that one cliff does not throw the
  weights away (Pascanu et al. 2013). Proposed where the signal explodes, numbers overflow, units
  die or steps are too large.
- `lower-learning-rate` and `much-lower-learning-rate` divide the rate by 10 and by 100, `warm-up`
  begins with a small one. Proposed where steps are too large, diverge, or kill units; the first
  and the last also where a normalisation is to blame for vanishing.
- `adam-eps` takes an eps that the parameters' type can hold: 1e-8 is 0 in float16. Proposed where
  numbers are not finite or steps are of the wrong size.
- `loss-scaling` multiplies the loss so that float16 gradients do not flush to 0. Its trial suits
  optimisers that divide by the gradient's size (Adam); before any other's step the scale has to be
  divided out again. `float32` trains in float32. Proposed where parameters are in float16 and
  gradients too small for it; the latter also where numbers are not finite.
- `zero-grad` clears gradients after every step. Proposed where steps do not follow from the
  gradient, as they do not when gradients add up.
- `unscale-first` divides gradients by the loss scale before they are clipped. Proposed where the
  optimiser takes only a small part of the gradient.

`zero-grad` and `unscale-first` are display-only: edits of the loop that a trial imitates. All
others are unsafe: they change the dynamics of training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from unvanish.fix.cure import Applicability, Change, Cure, Edit, Kind, Live, NotApplicable
from unvanish.i18n import _
from unvanish.monitor.optimizers import facts_of
from unvanish.records import Diagnosis

_CLIP = 1.0
_EPS = 1e-4
_SCALE = 65536.0


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


class LowerRate(Cure):
    """A tenth of the learning rate."""

    name = "lower-learning-rate"
    applicability = Applicability.UNSAFE
    kind: ClassVar[Kind] = "optimiser"
    factor: ClassVar[float] = 0.1
    sources = (
        "Bengio 2012, Practical Recommendations for Gradient-Based Training, arXiv:1206.5533",
    )
    words: ClassVar[Mapping[str, float]] = {
        "UR101": 0.95,
        "UR": 0.6,
        "DU": 0.8,
        "EG": 0.4,
        "NF": 0.35,
        "VG102": 0.3,
        "VG105": 0.6,
    }

    def summary(self) -> str:
        return _("Multiply the learning rate by {factor:g}.").format(factor=self.factor)

    def apply(self, live: Live) -> Change:
        live.settings.lr_factor *= self.factor
        rate = facts_of(live.optimizer).lr[:1] if live.optimizer is not None else ()
        before = f"{rate[0]:.3g}" if rate else "1"
        after = f"{rate[0] * self.factor:.3g}" if rate else f"{self.factor:g}"
        return Change((Edit("", _("learning rate"), before, after),))

    def code(self, live: Live, change: Change) -> str:
        return f"for group in optimizer.param_groups:\n    group['lr'] *= {self.factor!r}"


class MuchLowerRate(LowerRate):
    """A hundredth of the learning rate."""

    name = "much-lower-learning-rate"
    factor: ClassVar[float] = 0.01
    words: ClassVar[Mapping[str, float]] = {"UR101": 0.85, "DU": 0.75, "EG": 0.35, "NF": 0.3}


class WarmUp(Cure):
    """A learning rate that grows over the first steps."""

    name = "warm-up"
    applicability = Applicability.UNSAFE
    kind: ClassVar[Kind] = "optimiser"
    steps: ClassVar[int] = 50
    sources = ("Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762, section 5.3",)
    words: ClassVar[Mapping[str, float]] = {"VG105": 0.5, "UR101": 0.4, "DU": 0.3}

    def summary(self) -> str:
        return _("Let the learning rate grow over the first {steps} steps.").format(
            steps=self.steps
        )

    def apply(self, live: Live) -> Change:
        live.settings.warmup_steps = self.steps
        return Change((Edit("", _("warm-up"), "0", str(self.steps)),))

    def code(self, live: Live, change: Change) -> str:
        return "\n".join(
            (
                "import torch",
                "",
                "warmup = torch.optim.lr_scheduler.LambdaLR(",
                f"    optimizer, lambda step: min(1.0, (step + 1) / {self.steps})",
                ")  # " + _("and warmup.step() after every optimizer.step()"),
            )
        )


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


class UnscaleFirst(Cure):
    """Unscale before clipping."""

    name = "unscale-first"
    applicability = Applicability.DISPLAY_ONLY
    kind: ClassVar[Kind] = "optimiser"
    sources = ("PyTorch documentation, Automatic Mixed Precision examples: gradient clipping",)
    words: ClassVar[Mapping[str, float]] = {"UR102": 0.9, "UR": 0.6}

    def summary(self) -> str:
        return _("Divide gradients by the loss scale before they are clipped.")

    def apply(self, live: Live) -> Change:
        if live.optimizer is None:
            raise NotApplicable(_("there is no optimiser"))
        live.settings.unscale_before_clip = True
        live.settings.contexts.append(_clipping_later)
        note = _("Imitated here by leaving the clipping out; in your source it is an edit.")
        return Change((Edit("", _("clipping"), _("scaled"), _("unscaled")),), note=note)

    def code(self, live: Live, change: Change) -> str:
        where = _("before torch.nn.utils.clip_grad_norm_(…):")
        return f"# {where}\n#   scaler.unscale_(optimizer)"


@contextmanager
def _clipping_later() -> Iterator[None]:
    """Leave out the clipping of gradients that a scale has made large."""
    utils = torch.nn.utils
    original = utils.clip_grad_norm_

    def unclipped(parameters: Any, max_norm: float, *args: Any, **kwargs: Any) -> Any:
        return original(parameters, float("inf"), *args, **kwargs)

    utils.clip_grad_norm_ = unclipped
    utils.clip_grad.clip_grad_norm_ = unclipped
    try:
        yield
    finally:
        utils.clip_grad_norm_ = original
        utils.clip_grad.clip_grad_norm_ = original


CURES = (
    GradientClipping(),
    LowerRate(),
    MuchLowerRate(),
    WarmUp(),
    AdamEps(),
    LossScaling(),
    Float32(),
    ZeroGrad(),
    UnscaleFirst(),
)
