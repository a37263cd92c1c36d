"""A float whose exponent has no end, for products of thousands of factors.

A plain product of 2,000 slopes passes through 0 and stays there, even where later factors would
have brought it back into range.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_LOG10_2 = math.log10(2.0)


@dataclass(frozen=True, slots=True)
class Wide:
    """mantissa * 2**exponent, with 0.5 <= |mantissa| < 1 (or 0, infinite, NaN)."""

    mantissa: float
    exponent: int = 0

    @staticmethod
    def of(value: float) -> Wide:
        """Return a float as it is."""
        return Wide(*math.frexp(value))

    @staticmethod
    def from_log10(log10: float) -> Wide:
        """Return 10**log10, to the digits that the logarithm has."""
        log2 = log10 / _LOG10_2
        if not math.isfinite(log2):
            return Wide(0.0 if log2 < 0 else log2)
        exponent = math.ceil(log2)
        return Wide(math.exp2(log2 - exponent), exponent)

    def __mul__(self, other: Wide | float) -> Wide:
        """Multiply; each product rounds once, as a product of floats does."""
        if not isinstance(other, Wide):
            other = Wide.of(other)
        mantissa, shift = math.frexp(self.mantissa * other.mantissa)
        return Wide(mantissa, self.exponent + other.exponent + shift)

    @property
    def value(self) -> float:
        """The nearest float: 0 or infinite beyond the range of floats."""
        try:
            return math.ldexp(self.mantissa, self.exponent)
        except OverflowError:
            return math.copysign(math.inf, self.mantissa)

    @property
    def log10(self) -> float:
        """log10 of the absolute value: -inf for 0, NaN for NaN."""
        if self.mantissa == 0:
            return -math.inf
        if -1000 < self.exponent < 1000:
            return math.log10(abs(self.value))
        try:
            return math.log10(abs(self.mantissa)) + self.exponent * _LOG10_2
        except OverflowError:  # the exponent itself is beyond floats
            return math.inf if self.exponent > 0 else -math.inf
