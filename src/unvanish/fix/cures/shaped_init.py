"""Activations shaped for the depth of their network, folded into weights and biases.

Deep kernel shaping (DKS) scales and shifts what goes into each activation and what comes out of it,
so that through all layers together samples neither collapse nor spread. Here the scales and shifts
are folded into the weights and biases around the activation, which stays what it is. For leaky
ReLU, tailored transformations (TAT) choose the slope alone: `unvanish.init_` with the scheme "tat".

Proposed where the slope is to blame for vanishing, and where samples collapse onto each other.
Keeps the architecture and the activation.

Safe before training has begun: only values are redrawn that were drawn at random themselves. What a
trained network has learnt would be lost; freeze what is pretrained.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from unvanish.fix.cures.measured_init import MeasuredInit
from unvanish.i18n import _


class ShapedInit(MeasuredInit):
    """DKS folded into weights and biases."""

    name = "shaped-init"
    scheme: ClassVar[str] = "dks"
    sources = (
        "Martens et al. 2021, Rapid Training of Deep Neural Networks without Skip Connections,"
        " arXiv:2110.01765",
        "Zhang, Botev and Martens 2022, Deep Learning without Shortcuts, arXiv:2203.08120",
    )
    words: ClassVar[Mapping[str, float]] = {"VG101": 0.5, "FS": 0.55}

    def summary(self) -> str:
        return _("Shape the activation for this depth (DKS), folded into weights and biases.")


CURES = (ShapedInit(),)
