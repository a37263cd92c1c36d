"""The band: the inputs x of a sigmoid neuron for which its factor is 1 or more.

|w sigma'(w x + b)| >= 1 asks for sigma(1 - sigma) >= 1/|w|, a quadratic in sigma with the roots
(1 +- r)/2, where r = sqrt(1 - 4/|w|). So |z| <= log((1 + r)/(1 - r)), and the band is

    x = (z - b)/w,   width = 2 log((1 + r)/(1 - r)) / |w|.

It is empty for |w| < 4, for sigma' is at most 1/4. Great weights do not widen it: the width is
(1 - r^2) atanh(r), which is greatest where 2 r atanh(r) = 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Band:
    """The inputs from `low` to `high`."""

    low: float
    high: float

    @property
    def width(self) -> float:
        """How wide it is."""
        return self.high - self.low

    def __contains__(self, x: float) -> bool:
        return self.low <= x <= self.high


def band(weight: float, bias: float = 0.0) -> Band | None:
    """Return the inputs x with |w sigma'(w x + b)| >= 1, or None where there are none."""
    if abs(weight) < 4.0:
        return None
    reach = _reach(abs(weight))
    low, high = sorted(((-reach - bias) / weight, (reach - bias) / weight))
    return Band(low, high)


def band_width(weight: float) -> float:
    """Return the width of the band, 0 where it is empty; it does not depend on the bias."""
    return 0.0 if abs(weight) < 4.0 else 2.0 * _reach(abs(weight)) / abs(weight)


def widest_band() -> tuple[float, float]:
    """Return the weight |w| of the widest band, and that width."""
    low, high = 0.0, 1.0  # bisection of 2 r atanh(r) = 1, whose left side only grows
    for _step in range(60):
        r = (low + high) / 2.0
        low, high = (r, high) if 2.0 * r * math.atanh(r) < 1.0 else (low, r)
    weight = 4.0 / (1.0 - low * low)
    return weight, band_width(weight)


def _reach(weight: float) -> float:
    """log((1 + r)/(1 - r)), written without 1 - r, which is lost to rounding for large weights."""
    r = math.sqrt(1.0 - 4.0 / weight)
    return 2.0 * math.log1p(r) + math.log(weight / 4.0)
