"""Closed forms of Gaussian expectations, where they exist.

Everything is a function of the variance q and, for a pair of inputs, of their correlation c. They
are exact where quadrature loses digits (sin at q = 10, whose d E φ²/dq is e⁻²⁰), and instant.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

OfLength = Callable[[float], float]
OfPair = Callable[[float, float], float]


@dataclass(frozen=True, slots=True)
class ClosedForm:
    """E φ², E φ'², d E φ²/dq, and E φφ and E φ'φ' over pairs of variance q and correlation c."""

    second: OfLength
    slope_second: OfLength
    length_slope: OfLength
    product: OfPair
    slope_product: OfPair


def _arc(c: float) -> tuple[float, float]:
    """Return the angle between the two inputs, and its sine."""
    c = min(1.0, max(-1.0, c))
    return math.acos(c), math.sqrt((1.0 - c) * (1.0 + c))


def _relu_product(q: float, c: float) -> float:
    angle, sine = _arc(c)
    return q * (sine + (math.pi - angle) * c) / (2.0 * math.pi)


def two_slopes(a: float) -> ClosedForm:
    """z for z > 0, a·z below: the arc-cosine kernel of degree 1 (Cho & Saul 2009)."""
    half = 0.5 * (1.0 + a * a)
    return ClosedForm(
        second=lambda q: half * q,
        slope_second=lambda q: half,
        length_slope=lambda q: half,
        product=lambda q, c: (1.0 - a) ** 2 * _relu_product(q, c) + a * q * c,
        slope_product=lambda q, c: (1.0 - a) ** 2 * (0.5 - _arc(c)[0] / (2.0 * math.pi)) + a,
    )


def squared_relu() -> ClosedForm:
    """max(z, 0)²: the arc-cosine kernel of degree 2 (Cho & Saul 2009)."""

    def product(q: float, c: float) -> float:
        angle, sine = _arc(c)
        kernel = 3.0 * sine * c + (math.pi - angle) * (1.0 + 2.0 * c * c)
        return q * q * kernel / (2.0 * math.pi)

    return ClosedForm(
        second=lambda q: 1.5 * q * q,
        slope_second=lambda q: 2.0 * q,
        length_slope=lambda q: 3.0 * q,
        product=product,
        slope_product=lambda q, c: 4.0 * _relu_product(q, c),
    )


def erf() -> ClosedForm:
    """The error function (Williams 1997)."""

    def slope_product(q: float, c: float) -> float:
        return 4.0 / (math.pi * math.sqrt((1.0 + 2.0 * q) ** 2 - (2.0 * q * c) ** 2))

    return ClosedForm(
        second=lambda q: 2.0 / math.pi * math.asin(2.0 * q / (1.0 + 2.0 * q)),
        slope_second=lambda q: 4.0 / (math.pi * math.sqrt(1.0 + 4.0 * q)),
        length_slope=lambda q: 4.0 / (math.pi * (1.0 + 2.0 * q) * math.sqrt(1.0 + 4.0 * q)),
        product=lambda q, c: 2.0 / math.pi * math.asin(2.0 * q * c / (1.0 + 2.0 * q)),
        slope_product=slope_product,
    )


def sin(frequency: float) -> ClosedForm:
    """sin(wz): characteristic functions of z₁ ± z₂."""
    w2 = frequency * frequency

    def product(q: float, c: float) -> float:
        fall = -math.expm1(-2.0 * w2 * q * abs(c))
        return math.copysign(0.5 * math.exp(-w2 * q * (1.0 - abs(c))) * fall, c)

    def slope_product(q: float, c: float) -> float:
        return 0.5 * w2 * (math.exp(-w2 * q * (1.0 - c)) + math.exp(-w2 * q * (1.0 + c)))

    return ClosedForm(
        second=lambda q: -0.5 * math.expm1(-2.0 * w2 * q),
        slope_second=lambda q: 0.5 * w2 * (1.0 + math.exp(-2.0 * w2 * q)),
        length_slope=lambda q: w2 * math.exp(-2.0 * w2 * q),
        product=product,
        slope_product=slope_product,
    )


def gelu() -> ClosedForm:
    """z Φ(z), by Stein's identity (Tsuchida et al. 2021).

    With κ = qc, s = 1 − c², D = 1 + 2q + q²s, K = E Φ₁Φ₂ = 1/4 + asin(κ/(1+q))/2π and
    A = dK/dκ = E Φ'₁Φ'₂ = 1/(2π√D): E φφ = κK + A q² (1 + c² + qs)/(1+q), and E φ'φ' is its
    derivative in κ, K + A κ (3 + 5q + 2q²s)/((1+q)D).
    """

    def parts(q: float, c: float) -> tuple[float, float, float, float]:
        s = (1.0 - c) * (1.0 + c)
        d = 1.0 + 2.0 * q + q * q * s
        both = 0.25 + math.asin(q * c / (1.0 + q)) / (2.0 * math.pi)
        return s, d, both, 0.5 / (math.pi * math.sqrt(d))

    def product(q: float, c: float) -> float:
        s, _, both, density = parts(q, c)
        return q * c * both + density * q * q * (1.0 + c * c + q * s) / (1.0 + q)

    def slope_product(q: float, c: float) -> float:
        s, d, both, density = parts(q, c)
        return both + density * q * c * (3.0 + 5.0 * q + 2.0 * q * q * s) / ((1.0 + q) * d)

    def length_slope(q: float) -> float:
        last = q / (math.pi * (1.0 + q) * math.sqrt(1.0 + 2.0 * q))
        first = 0.25 + math.asin(q / (1.0 + q)) / (2.0 * math.pi) + 0.5 * last
        return first + last * (2.0 - q / (1.0 + q) - q / (1.0 + 2.0 * q))

    return ClosedForm(
        second=lambda q: product(q, 1.0),
        slope_second=lambda q: slope_product(q, 1.0),
        length_slope=length_slope,
        product=product,
        slope_product=slope_product,
    )
