"""Mirrored pairs of weights, with which a network starts as a linear one.

Blocks [[O, −O], [−O, O]] of an orthogonal O in the hidden layers: of two mirrored ReLUs one is on
where the other is off, so that together they hand on what they were given, at any depth.

Proposed where weights make the signal vanish or explode, where samples collapse onto each other,
and where units are dead. Keeps the architecture and the activation.

Safe before training has begun: only values are redrawn that were drawn at random themselves. What a
trained network has learnt would be lost; freeze what is pretrained.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from unvanish.fix.cures.measured_init import MeasuredInit
from unvanish.i18n import _


class MirroredInit(MeasuredInit):
    """Mirrored pairs, which start as a linear network."""

    name = "mirrored-init"
    scheme: ClassVar[str] = "mirrored"
    sources = ("Balduzzi et al. 2017, The Shattered Gradients Problem, arXiv:1702.08591",)
    words: ClassVar[Mapping[str, float]] = {"VG103": 0.7, "EG101": 0.6, "FS": 0.6, "DU": 0.5}

    def summary(self) -> str:
        return _("Draw mirrored pairs of weights, with which the network starts as a linear one.")


CURES = (MirroredInit(),)
