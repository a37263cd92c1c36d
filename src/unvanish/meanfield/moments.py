"""The Gaussian moments of an activation from which every gain and critical point is made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from unvanish.errors import UsageError
from unvanish.meanfield.activation import Activation, Array
from unvanish.meanfield.gaussian import rule_for


@dataclass(frozen=True, slots=True)
class Moments:
    """Expectations over z ~ N(0, q).

    `length_slope` is d E φ²/dq = E[z φ φ']/q (Stein's identity; needs no φ''), and `surplus`
    q E φ'² − E φ²: a critical point at this q has bias variance surplus / E φ'². Surpluses are sums
    of squares, not differences, where they can be (see `moments`). `centred_` is the same of
    φ − E φ.
    """

    q: float
    mean: float  # E φ
    second: float  # E φ²
    variance: float  # E (φ − E φ)²
    slope_mean: float  # E φ'
    slope_second: float  # E φ'²
    slope_fourth: float  # E φ'⁴
    fourth: float  # E φ⁴
    mixed_fourth: float  # E φ² φ'²
    slope_second_slope: float  # d E φ'²/dq
    length_slope: float
    centred_length_slope: float
    surplus: float
    centred_surplus: float

    @property
    def kurtosis(self) -> float:
        """Return κ = E φ'⁴/(E φ'²)², which sets the spread of gradients at finite width.

        NaN where every slope is 0.
        """
        square = self.slope_second**2
        return self.slope_fourth / square if square > 0.0 else math.nan

    @property
    def squared_mean_cosine(self) -> float:
        """Return (E φ)²/E φ²: the correlation of two outputs whose inputs are uncorrelated."""
        return self.mean**2 / self.second


@lru_cache(maxsize=512)
def moments(activation: Activation, q: float) -> Moments:
    """Return the moments of φ over z ~ N(0, q), q > 0.

    q E φ'² − E φ² loses every digit for tanh at q = 1e-6. Integration by parts of E[z² h²] with
    φ = φ(0) + z h turns it, for φ(0) = 0 and φ continuous, into q E[(φ' − φ/z)²] ≥ 0: such an
    activation has a critical point at *every* q, with bias variance 0 only where φ' = φ/z almost
    everywhere (the ReLU family). Centred, in Hermite coefficients aₙ of φ(√q x), it is
    Σ (n − 1) aₙ² over n ≥ 2, that is q Var φ' − Var(φ − z E φ').

    Raises UsageError for q ≤ 0, and where an expectation is not finite.
    """
    if not q > 0.0:
        raise UsageError(f"the variance q = {q:g} is not positive", "Give q > 0.")
    rule = rule_for(activation, float(q))
    z, form = rule.z, activation.closed
    with np.errstate(over="ignore", invalid="ignore"):
        f, df = activation.f(z), activation.df(z)
        mean, slope_mean = rule.mean(f), rule.mean(df)
        variance = rule.mean((f - mean) ** 2)
        second = form.second(q) if form else rule.mean(f * f)
        slope_second = form.slope_second(q) if form else rule.mean(df * df)
        length_slope = form.length_slope(q) if form else rule.mean(z * f * df) / q
        rest = rule.mean((f - mean - slope_mean * z) ** 2)
        centred_surplus = q * rule.mean((df - slope_mean) ** 2) - rest
        if activation.negative_slope is not None:
            surplus = 0.0
        elif activation.vanishes_at_zero and not activation.jumps:
            surplus = q * rule.mean((df - _over_z(f, z, df)) ** 2)
        else:
            surplus = centred_surplus - mean * mean
        result = Moments(
            q=float(q),
            mean=mean,
            second=second,
            variance=variance,
            slope_mean=slope_mean,
            slope_second=slope_second,
            slope_fourth=rule.mean(df**4),
            fourth=rule.mean(f**4),
            mixed_fourth=rule.mean((f * df) ** 2),
            slope_second_slope=rule.mean(df * df * (rule.x**2 - 1.0)) / (2.0 * q),
            length_slope=length_slope,
            centred_length_slope=length_slope - mean * rule.mean(z * df) / q,
            surplus=surplus,
            centred_surplus=centred_surplus,
        )
    if not (np.isfinite(result.second) and np.isfinite(result.slope_second)):
        raise UsageError(
            f"{activation.name} grows too fast: its moments over N(0, {q:g}) are not finite",
            "Use a smaller q or an activation that grows like a power.",
        )
    return result


def mean_square(activation: Activation, q: float) -> float:
    """Return E φ² alone, at once where it has a closed form."""
    form = activation.closed
    return form.second(q) if form else moments(activation, q).second


def mean_square_slope(activation: Activation, q: float) -> float:
    """Return d E φ²/dq alone, at once where it has a closed form."""
    form = activation.closed
    return form.length_slope(q) if form else moments(activation, q).length_slope


def slope_mean_square(activation: Activation, q: float) -> float:
    """Return E φ'² alone, at once where it has a closed form."""
    form = activation.closed
    return form.slope_second(q) if form else moments(activation, q).slope_second


def _over_z(f: Array, z: Array, df: Array) -> Array:
    return np.divide(f, z, out=df.copy(), where=z != 0.0)


def curvature_mean_square(activation: Activation, q: float) -> float | None:
    """Return E φ''²: infinite where the slope jumps, None where φ'' is not known.

    At χ₁ = 1 and q fixed, two inputs' correlation comes near 1 like 1 − c ≈ κ/l over l layers, with
    κ = 2 E φ'²/(q E φ''²) (Hayou et al. 2019).
    """
    if activation.ddf is None:
        return None
    for kink in activation.kinks:
        left, right = activation.slopes_around(kink)
        if abs(right - left) > 1e-6 * max(1.0, abs(left), abs(right)):
            return math.inf
    rule = rule_for(activation, float(q))
    return rule.mean(activation.ddf(rule.z) ** 2)
