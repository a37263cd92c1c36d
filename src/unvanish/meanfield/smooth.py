"""Smooth activation functions: value, slope and curvature, without overflow or lost digits.

Most are `z g(z)` with a gate g that rises from 0 to 1 (GELU, SiLU, Mish), or are built from the
logistic function s(z) = 1/(1 + e⁻ᶻ). Slopes are written so that their small values in the tails are
right to full relative precision where that is cheap: 1 − tanh² is not, 4s(1 − s) is.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from unvanish.meanfield import closed
from unvanish.meanfield.activation import Activation, Array, Function

_ROOT_2 = math.sqrt(2.0)
_DENSITY_0 = 1.0 / math.sqrt(2.0 * math.pi)
# sup |φ'| where it has no closed form (the greatest slope of z g(z), by 30-digit arithmetic)
_SUP_GELU_TANH = 1.12899306865877176546
_SUP_SILU = 1.09983932012886691696
_SUP_MISH = 1.08849816125172786122


def _each(function: Callable[[float], float], z: Array) -> Array:
    # numpy has no erf; the C library's is right to the last digit, and fast enough for quadrature
    flat = np.fromiter(map(function, z.ravel().tolist()), np.float64, z.size)
    return flat.reshape(z.shape)


def erf(z: Array) -> Array:
    """Return the error function of each entry."""
    return _each(math.erf, z)


def normal_cdf(z: Array) -> Array:
    """Return P(x < z) for x ~ N(0, 1), right in the lower tail too."""
    return 0.5 * _each(math.erfc, -z / _ROOT_2)


def normal_density(z: Array) -> Array:
    """Return the density of N(0, 1)."""
    return _DENSITY_0 * np.exp(-0.5 * z * z)


def logistic(z: Array) -> Array:
    """Return 1/(1 + e⁻ᶻ), right in the lower tail too."""
    small = np.exp(-np.abs(z))
    return np.where(z >= 0.0, 1.0, small) / (1.0 + small)


def _logistic_slope(z: Array) -> Array:
    small = np.exp(-np.abs(z))
    return small / (1.0 + small) ** 2


def _logistic_curvature(z: Array) -> Array:
    return -_logistic_slope(z) * np.tanh(0.5 * z)


def softplus_of(z: Array) -> Array:
    """Return log(1 + eᶻ)."""
    return np.maximum(z, 0.0) + np.log1p(np.exp(-np.abs(z)))


def sigmoid() -> Activation:
    """Return the logistic function."""
    return Activation(
        "sigmoid", logistic, _logistic_slope, _logistic_curvature, slope_supremum=0.25
    )


def tanh() -> Activation:
    """Return the hyperbolic tangent, 2 s(2z) − 1."""

    def df(z: Array) -> Array:
        return 4.0 * _logistic_slope(2.0 * z)

    def ddf(z: Array) -> Array:
        return -2.0 * np.tanh(z) * df(z)

    return Activation("tanh", np.tanh, df, ddf, slope_supremum=1.0)


def softplus(beta: float = 1.0) -> Activation:
    """Return log(1 + exp(βz))/β. torch's `threshold` changes it by less than e⁻²⁰/β: left out."""
    return Activation(
        "softplus" if beta == 1.0 else f"softplus(beta={beta:g})",
        lambda z: softplus_of(beta * z) / beta,
        lambda z: logistic(beta * z),
        lambda z: beta * _logistic_slope(beta * z),
        slope_supremum=1.0,
    )


def logsigmoid() -> Activation:
    """Return log s(z) = −softplus(−z)."""
    return Activation(
        "logsigmoid",
        lambda z: -softplus_of(-z),
        lambda z: logistic(-z),
        lambda z: -_logistic_slope(z),
        slope_supremum=1.0,
    )


def erf_activation() -> Activation:
    """Return the error function."""
    scale = 2.0 / math.sqrt(math.pi)
    return Activation(
        "erf",
        erf,
        lambda z: scale * np.exp(-z * z),
        lambda z: -2.0 * scale * z * np.exp(-z * z),
        slope_supremum=scale,
        closed=closed.erf(),
    )


def sin(frequency: float = 1.0) -> Activation:
    """Return sin(frequency · z)."""
    w = frequency
    return Activation(
        "sin" if w == 1.0 else f"sin(frequency={w:g})",
        lambda z: np.sin(w * z),
        lambda z: w * np.cos(w * z),
        lambda z: -w * w * np.sin(w * z),
        slope_supremum=abs(w),
        closed=closed.sin(w),
    )


def tanhshrink() -> Activation:
    """Return z − tanh(z), near 0 as (z cosh z − sinh z)/cosh z = (z³/3 + z⁵/30 + …)/cosh z."""
    inner = tanh()
    powers = [0.0] + [2.0 * k / math.factorial(2 * k + 1) for k in range(1, 9)]

    def f(z: Array) -> Array:
        small = np.clip(z, -0.5, 0.5)
        series = small * np.polynomial.polynomial.polyval(small * small, powers) / np.cosh(small)
        return np.where(np.abs(z) < 0.5, series, z - np.tanh(z))

    return Activation(
        "tanhshrink",
        f,
        lambda z: np.tanh(z) ** 2,
        lambda z: 2.0 * np.tanh(z) * inner.df(z),
        slope_supremum=1.0,
    )


def _gated(
    name: str,
    gate: Function,
    first: Function,
    second: Function,
    greatest: float,
    form: closed.ClosedForm | None = None,
) -> Activation:
    """Return z g(z) from the gate g, its first two derivatives and the greatest slope."""
    return Activation(
        name,
        lambda z: z * gate(z),
        lambda z: gate(z) + z * first(z),
        lambda z: 2.0 * first(z) + z * second(z),
        slope_supremum=greatest,
        closed=form,
    )


def gelu() -> Activation:
    """Return z Φ(z); its slope is greatest at z = √2 (Hendrycks & Gimpel 2016)."""
    greatest = 0.5 * math.erfc(-1.0) + _ROOT_2 * _DENSITY_0 * math.exp(-1.0)

    def second(z: Array) -> Array:
        return -z * normal_density(z)

    return _gated("gelu", normal_cdf, normal_density, second, greatest, closed.gelu())


def gelu_tanh() -> Activation:
    """Return torch's `GELU(approximate="tanh")`: z s(2t), t = √(2/π) (z + 0.044715 z³)."""
    a = 2.0 * math.sqrt(2.0 / math.pi)
    b = 0.044715

    def inner(z: Array) -> Array:
        return a * z * (1.0 + b * z * z)

    def inner_slope(z: Array) -> Array:
        return a * (1.0 + 3.0 * b * z * z)

    def first(z: Array) -> Array:
        return _logistic_slope(inner(z)) * inner_slope(z)

    def second(z: Array) -> Array:
        curved = _logistic_curvature(inner(z)) * inner_slope(z) ** 2
        return curved + _logistic_slope(inner(z)) * 6.0 * a * b * z

    return _gated("gelu_tanh", lambda z: logistic(inner(z)), first, second, _SUP_GELU_TANH)


def silu(beta: float = 1.0) -> Activation:
    """Return z s(βz) (SiLU, Swish)."""
    return _gated(
        "silu" if beta == 1.0 else f"silu(beta={beta:g})",
        lambda z: logistic(beta * z),
        lambda z: beta * _logistic_slope(beta * z),
        lambda z: beta * beta * _logistic_curvature(beta * z),
        _SUP_SILU,
    )


def quick_gelu() -> Activation:
    """Return z s(1.702 z), the GELU of CLIP."""
    inner = silu(1.702)
    return Activation("quick_gelu", inner.f, inner.df, inner.ddf, slope_supremum=_SUP_SILU)


def mish() -> Activation:
    """Return z tanh(softplus(z)) (Misra 2019)."""

    def first(z: Array) -> Array:
        return _sech2(softplus_of(z)) * logistic(z)

    def second(z: Array) -> Array:
        p = softplus_of(z)
        return _sech2(p) * (_logistic_slope(z) - 2.0 * np.tanh(p) * logistic(z) ** 2)

    return _gated("mish", lambda z: np.tanh(softplus_of(z)), first, second, _SUP_MISH)


def _sech2(z: Array) -> Array:
    return 4.0 * _logistic_slope(2.0 * z)
