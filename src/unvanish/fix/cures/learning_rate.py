"""A smaller learning rate, or one that begins small.

`lower-learning-rate` and `much-lower-learning-rate` divide the rate by 10 and by 100, `warm-up`
begins with a small one and grows to it. The lines of `warm-up` change the rate for the length of
one step only, so that a scheduler of your own sees its own numbers.

Proposed where steps are too large, diverge, or kill units; the first and the last also where a
normalisation is to blame for vanishing.

Unsafe: they change the dynamics of training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from unvanish.fix.cure import Applicability, Change, Cure, Edit, Kind, Live
from unvanish.i18n import _
from unvanish.monitor.optimizers import facts_of

_WARM_UP = 50  # steps


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
    sources = ("Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762, section 5.3",)
    words: ClassVar[Mapping[str, float]] = {"VG105": 0.5, "UR101": 0.4, "DU": 0.3}

    def summary(self) -> str:
        return _("Let the learning rate grow over the first {steps} steps.").format(steps=_WARM_UP)

    def apply(self, live: Live) -> Change:
        live.settings.warmup_steps = _WARM_UP
        return Change((Edit("", _("warm-up"), "0", str(_WARM_UP)),))

    def code(self, live: Live, change: Change) -> str:
        return "\n".join(
            (
                "warm_up = {'done': 0, 'rates': []}",
                "",
                "",
                "def slower(optimizer, *_):",
                "    warm_up['done'] += 1",
                "    warm_up['rates'] = [group['lr'] for group in optimizer.param_groups]",
                "    for group in optimizer.param_groups:",
                f"        group['lr'] = group['lr'] * min(1.0, warm_up['done'] / {_WARM_UP})",
                "",
                "",
                "def own_rate(optimizer, *_):",
                "    for group, rate in zip(optimizer.param_groups, warm_up['rates']):",
                "        group['lr'] = rate",
                "",
                "",
                "optimizer.register_step_pre_hook(slower)",
                "optimizer.register_step_post_hook(own_rate)",
            )
        )


CURES = (LowerRate(), MuchLowerRate(), WarmUp())
