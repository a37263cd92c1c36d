"""What mean-field theory needs to know of an activation function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unvanish.meanfield.closed import ClosedForm

Array = NDArray[np.float64]
Function = Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class Activation:
    """An element-wise function φ with its slope, as functions of float64 arrays of any shape.

    `kinks` are the places where φ is not smooth: its slope or a higher derivative jumps there, and
    quadrature splits there. `jumps` are the places where φ itself jumps; its slope is infinite
    there, and a theory of gradients has nothing to say.

    `ddf` is the second derivative away from the kinks, None where nobody wrote it down.
    `slope_supremum` is sup |φ'|, None where it is infinite or unknown. `negative_slope` is a where
    φ(z) = z for z > 0 and a·z for z < 0 (then every length scale is alike), else None. `closed`
    holds the expectations that are known in closed form.
    """

    name: str
    f: Function
    df: Function
    ddf: Function | None = None
    kinks: tuple[float, ...] = ()
    jumps: tuple[float, ...] = ()
    slope_supremum: float | None = None
    negative_slope: float | None = None
    closed: ClosedForm | None = None

    @property
    def at_zero(self) -> float:
        """Return φ(0)."""
        return float(self.f(np.zeros(1))[0])

    @property
    def vanishes_at_zero(self) -> bool:
        """Return whether φ(0) = 0 to rounding."""
        around = np.abs(self.f(np.array([-1.0, 0.0, 1.0])))
        return bool(around[1] <= 1e-15 * around.max())

    def slopes_around(self, point: float) -> tuple[float, float]:
        """Return the slopes just left and just right of `point`."""
        step = 1e-15 * max(1.0, abs(point))  # a few of the numbers next to it
        left, right = self.df(np.array([point - step, point + step]))
        return float(left), float(right)
