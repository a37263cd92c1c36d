"""Weights drawn with the variance that keeps the signal.

Every trainable linear and convolution layer gets weights of variance σ_w²/fan_in and zero biases,
with the σ_w that its incoming activation asks for (in the first layer: the one behind it): √2 at
ReLU (He), 1 at tanh and linear layers, the exact number at GELU, SiLU, ELU. `orthogonal-init` draws
orthogonal matrices of the same scale, which keep not only the average but every direction.

Proposed where weights are blamed for vanishing or exploding, where samples collapse onto each
other, and, weakly, where an activation is. Does not fit networks of sigmoids or softplus: these
have a mean, and need `centring-init`.

Safe before training has begun: only values are redrawn that were drawn at random themselves. What a
trained network has learnt would be lost.
"""

from __future__ import annotations

from typing import ClassVar

from unvanish.fix.cure import Applicability, Change, Cure, Live, NotApplicable
from unvanish.fix.structure import Structure, observe, observed
from unvanish.fix.weights import Law, redraw, redraw_lines, redrawable, signal_gain
from unvanish.i18n import _
from unvanish.records import Diagnosis


class CriticalInit(Cure):
    """Independent normal weights."""

    name = "critical-init"
    applicability = Applicability.SAFE
    kind = "structural"
    sources = (
        "He et al. 2015, Delving Deep into Rectifiers, arXiv:1502.01852",
        "Schoenholz et al. 2017, Deep Information Propagation, arXiv:1611.01232",
    )
    law: ClassVar[Law] = "normal"
    words = {"VG103": 0.8, "EG101": 0.8, "FS": 0.6, "EG": 0.5, "VG": 0.45, "DU": 0.4, "NF": 0.35}

    def summary(self) -> str:
        return _("Draw the weights with the variance that keeps the signal, biases at 0.")

    def fits(self, diagnosis: Diagnosis, live: Live) -> float:
        return float(gains_of(observed(live)) is not None)

    def apply(self, live: Live) -> Change:
        gains = gains_of(observe(live))
        if gains is None:
            raise NotApplicable(
                _("no layer of weights whose activations have a usable critical point")
            )
        return Change(redraw(live.model, gains, self.law, live.generator), details={"gains": gains})

    def code(self, live: Live, change: Change) -> str:
        return redraw_lines(change.details["gains"], self.law)


class OrthogonalInit(CriticalInit):
    """Orthogonal weights of the same scale."""

    name = "orthogonal-init"
    sources = (
        "Saxe et al. 2014, Exact solutions to the nonlinear dynamics of learning, arXiv:1312.6120",
        "Pennington et al. 2017, Resurrecting the sigmoid, arXiv:1711.04735",
    )
    law: ClassVar[Law] = "orthogonal"
    words = {"VG103": 0.85, "EG101": 0.85, "FS": 0.7, "EG": 0.5, "VG": 0.5, "DU": 0.35, "NF": 0.3}

    def summary(self) -> str:
        return _("Draw orthogonal weights of the scale that keeps the signal, biases at 0.")


def gains_of(structure: Structure) -> dict[str, float] | None:
    """The gain of each weight by name; None where there is no layer, or one has no gain."""
    gains: dict[str, float] = {}
    for layer in redrawable(structure):
        gain = signal_gain(structure.activation(layer.after if layer.first else layer.before))
        if gain is None or (layer.before is not None and layer.before.name == "exp"):
            return None
        gains[layer.weight] = gain
    return gains or None


CURES = (CriticalInit(), OrthogonalInit())
