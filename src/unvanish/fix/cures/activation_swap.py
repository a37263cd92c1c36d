"""Another activation in every hidden layer, with weights of the scale that it asks for.

ReLU's slope is 1 where it is on, GELU and SiLU are smooth relatives, LeakyReLU is never off, tanh
is smooth, bounded and has a second derivative. Weights are drawn anew (He's variance behind the
ReLU family, orthogonal behind tanh, variance 1/fan_in in the first and the last layer) and biases
set to 0, because an activation without its scale cures nothing. The output's own activation stays.

Proposed where the slope is to blame (sigmoid, saturation), where units are dead, where an
exponential overflows, where a loss needs a second derivative that ReLU does not have, and, weakly,
where the signal explodes or collapses.

Unsafe: with another activation the network is another function, and what its weights have learnt
is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from unvanish.fix.cure import Applicability, Change, Cure, Live, NotApplicable
from unvanish.fix.recording import Op
from unvanish.fix.structure import Structure, observe, observed
from unvanish.fix.swap import plan, swap, swap_lines
from unvanish.fix.weights import Law, redraw, redraw_lines, redrawable
from unvanish.i18n import _
from unvanish.records import Diagnosis

_HE = 2.0**0.5


class ActivationSwap(Cure):
    """Swap all hidden activations."""

    applicability = Applicability.UNSAFE
    kind = "structural"
    keeps_activation = False
    make: ClassVar[type[nn.Module]]
    arguments: ClassVar[dict[str, float]] = {}
    gain: ClassVar[float] = _HE
    law: ClassVar[Law] = "normal"

    def summary(self) -> str:
        return _(
            "Put {activation} in the place of every hidden activation, with weights to match."
        ).format(activation=self.make.__name__)

    def fits(self, diagnosis: Diagnosis, live: Live) -> float:
        return float(bool(self._hidden(observed(live))))

    def apply(self, live: Live) -> Change:
        structure = observe(live)
        chosen = plan(structure, self._hidden(structure))
        if chosen is None:
            raise NotApplicable(_("no hidden activation that could be swapped"))
        gains = {
            layer.weight: 1.0 if layer.first or layer.last else self.gain
            for layer in redrawable(structure)
        }
        rows = swap(live, chosen, self.make, self.arguments)
        drawn = redraw(live.model, gains, self.law, live.generator)
        return Change((*rows, *drawn), details={"swap": chosen, "gains": gains})

    def code(self, live: Live, change: Change) -> str:
        details: Mapping[str, Any] = change.details
        lines = swap_lines(details["swap"], self.make, self.arguments)
        return lines + "\n\n" + redraw_lines(details["gains"], self.law)

    def _hidden(self, structure: Structure) -> list[Op]:
        mine = self.make.__name__.lower()
        return [
            op
            for op in structure.activations
            if structure.hidden(op) and op.name.replace("_", "") not in (mine, "softmax")
        ]


class ReluSwap(ActivationSwap):
    """ReLU with He's weights."""

    name = "relu-swap"
    make = nn.ReLU
    sources = ("He et al. 2015, Delving Deep into Rectifiers, arXiv:1502.01852",)
    words: ClassVar[Mapping[str, float]] = {"VG101": 0.8, "VG102": 0.7, "NF": 0.55, "FS": 0.3}


class GeluSwap(ActivationSwap):
    """GELU."""

    name = "gelu-swap"
    make = nn.GELU
    gain = 1.5335304411955353  # E gelu(z)^2 = 1/gain^2
    sources = ("Hendrycks and Gimpel 2016, Gaussian Error Linear Units, arXiv:1606.08415",)
    words: ClassVar[Mapping[str, float]] = {"VG101": 0.5, "DU": 0.5}


class SiluSwap(ActivationSwap):
    """SiLU."""

    name = "silu-swap"
    make = nn.SiLU
    gain = 1.6765324703310907
    sources = ("Elfwing et al. 2018, Sigmoid-Weighted Linear Units, arXiv:1702.03118",)
    words: ClassVar[Mapping[str, float]] = {"VG101": 0.3, "VG107": 0.6}


class LeakySwap(ActivationSwap):
    """LeakyReLU, which is never off."""

    name = "leaky-relu-swap"
    make = nn.LeakyReLU
    arguments: ClassVar[dict[str, float]] = {"negative_slope": 0.1}
    gain = (2.0 / (1.0 + 0.1**2)) ** 0.5
    sources = ("Maas et al. 2013, Rectifier Nonlinearities Improve Acoustic Models, ICML",)
    words: ClassVar[Mapping[str, float]] = {"DU": 0.9}


class TanhSwap(ActivationSwap):
    """Tanh with orthogonal weights."""

    name = "tanh-swap"
    make = nn.Tanh
    gain = 1.0
    law: ClassVar[Law] = "orthogonal"
    sources = (
        "Saxe et al. 2014, Exact solutions to the nonlinear dynamics of learning, arXiv:1312.6120",
        "Raissi, Perdikaris & Karniadakis 2019, Physics-informed neural networks",
    )
    words: ClassVar[Mapping[str, float]] = {
        "VG107": 0.95,
        "NF": 0.6,
        "EG": 0.3,
        "CG": 0.3,
        "VG101": 0.25,
    }


CURES = (ReluSwap(), GeluSwap(), SiluSwap(), LeakySwap(), TanhSwap())
