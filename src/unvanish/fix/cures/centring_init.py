"""Orthogonal weights, and biases that take the activations' means away.

A sigmoid's outputs are all positive: their mean adds up layer by layer until all samples look the
same. A bias b = −m·W·1 with m = E φ makes each layer act on φ − m; a sigmoid net with weights of 4
times an orthogonal matrix is then a tanh net, unit for unit. Each layer is corrected on one batch
until its gains are 1.

Proposed where the slope is to blame for vanishing (sigmoid), and where samples collapse onto each
other. Keeps the architecture and the activation.

Safe before training has begun: only values are redrawn that were drawn at random themselves. What a
trained network has learnt would be lost; freeze what is pretrained.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from unvanish.fix.cures.measured_init import MeasuredInit
from unvanish.i18n import _


class CentringInit(MeasuredInit):
    """Orthogonal weights, and biases that take the activations' means away."""

    name = "centring-init"
    scheme: ClassVar[str] = "orthogonal"
    sources = (
        "Xiao et al. 2018, Dynamical Isometry and a Mean Field Theory of CNNs, arXiv:1806.05393",
        "LeCun, Bottou, Orr & Müller 1998, Efficient BackProp, section 4.4",
    )
    words: ClassVar[Mapping[str, float]] = {"VG101": 0.6, "FS": 0.5}

    def summary(self) -> str:
        return _("Draw orthogonal weights, and biases that centre what each activation hands on.")


CURES = (CentringInit(),)
