"""Activation functions with kinks: straight pieces, and pieces that are joined with a corner."""

from __future__ import annotations

import numpy as np

from unvanish.meanfield import closed
from unvanish.meanfield.activation import Activation, Array

_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


def _zeros(z: Array) -> Array:
    return np.zeros_like(z)


def linear() -> Activation:
    """Return the identity."""
    return Activation(
        "linear",
        lambda z: 1.0 * z,
        np.ones_like,
        _zeros,
        slope_supremum=1.0,
        negative_slope=1.0,
        closed=closed.two_slopes(1.0),
    )


def _two_slopes(name: str, negative_slope: float) -> Activation:
    """Return z for z > 0 and `negative_slope`·z below."""
    a = float(negative_slope)
    return Activation(
        name,
        lambda z: np.where(z > 0.0, z, a * z),
        lambda z: np.where(z > 0.0, 1.0, a),
        _zeros,
        kinks=(0.0,),
        slope_supremum=max(1.0, abs(a)),
        negative_slope=a,
        closed=closed.two_slopes(a),
    )


def relu() -> Activation:
    """Return max(z, 0)."""
    return _two_slopes("relu", 0.0)


def leaky_relu(negative_slope: float = 0.01) -> Activation:
    """Return z for z > 0 and `negative_slope`·z below."""
    return _two_slopes(f"leaky_relu({negative_slope:g})", negative_slope)


def prelu(negative_slope: float = 0.25) -> Activation:
    """Return a leaky ReLU with torch's initial slope of 0.25."""
    return _two_slopes(f"prelu({negative_slope:g})", negative_slope)


def rrelu(lower: float = 1.0 / 8.0, upper: float = 1.0 / 3.0) -> Activation:
    """Return the leaky ReLU that stands for a random slope a ~ U(lower, upper).

    Its slope is the root mean square of a: lengths and gradient norms, which contain E a², are
    exact, means are not.
    """
    mean_square = (lower * lower + lower * upper + upper * upper) / 3.0
    return _two_slopes(f"rrelu({lower:g}, {upper:g})", mean_square**0.5)


def _clipped(name: str, low: float, high: float) -> Activation:
    return Activation(
        name,
        lambda z: np.clip(z, low, high),
        lambda z: np.where((z > low) & (z < high), 1.0, 0.0),
        _zeros,
        kinks=(low, high),
        slope_supremum=1.0,
    )


def hardtanh(min_val: float = -1.0, max_val: float = 1.0) -> Activation:
    """Return z clipped to [min_val, max_val]."""
    low, high = float(min_val), float(max_val)
    name = "hardtanh" if (low, high) == (-1.0, 1.0) else f"hardtanh({low:g}, {high:g})"
    return _clipped(name, low, high)


def relu6() -> Activation:
    """Return z clipped to [0, 6]."""
    return _clipped("relu6", 0.0, 6.0)


def hardsigmoid() -> Activation:
    """Return (z + 3)/6 clipped to [0, 1]."""
    return Activation(
        "hardsigmoid",
        lambda z: np.clip((z + 3.0) / 6.0, 0.0, 1.0),
        lambda z: np.where(np.abs(z) < 3.0, 1.0 / 6.0, 0.0),
        _zeros,
        kinks=(-3.0, 3.0),
        slope_supremum=1.0 / 6.0,
    )


def hardswish() -> Activation:
    """Return z · hardsigmoid(z); its slope is greatest, 3/2, just below z = 3."""
    return Activation(
        "hardswish",
        lambda z: z * np.clip((z + 3.0) / 6.0, 0.0, 1.0),
        lambda z: np.where(z >= 3.0, 1.0, np.where(z > -3.0, (2.0 * z + 3.0) / 6.0, 0.0)),
        lambda z: np.where(np.abs(z) < 3.0, 1.0 / 3.0, 0.0),
        kinks=(-3.0, 3.0),
        slope_supremum=1.5,
    )


def softshrink(lambd: float = 0.5) -> Activation:
    """Return z moved toward 0 by `lambd`, and 0 in between."""
    return Activation(
        "softshrink" if lambd == 0.5 else f"softshrink({lambd:g})",
        lambda z: np.sign(z) * np.maximum(np.abs(z) - lambd, 0.0),
        lambda z: np.where(np.abs(z) > lambd, 1.0, 0.0),
        _zeros,
        kinks=(-float(lambd), float(lambd)),
        slope_supremum=1.0,
    )


def hardshrink(lambd: float = 0.5) -> Activation:
    """Return z where |z| > `lambd`, else 0: it jumps."""
    edges = (-float(lambd), float(lambd))
    return Activation(
        "hardshrink" if lambd == 0.5 else f"hardshrink({lambd:g})",
        lambda z: np.where(np.abs(z) > lambd, z, 0.0),
        lambda z: np.where(np.abs(z) > lambd, 1.0, 0.0),
        _zeros,
        kinks=edges,
        jumps=edges,
        slope_supremum=1.0,
    )


def _exponential(name: str, scale: float, alpha: float, width: float) -> Activation:
    """Return scale·z for z > 0 and scale·alpha·(exp(z/width) − 1) below."""

    def below(z: Array) -> Array:
        return scale * alpha * np.exp(np.minimum(z, 0.0) / width)

    return Activation(
        name,
        lambda z: np.where(
            z > 0.0, scale * z, scale * alpha * np.expm1(np.minimum(z, 0.0) / width)
        ),
        lambda z: np.where(z > 0.0, scale, below(z) / width),
        lambda z: np.where(z > 0.0, 0.0, below(z) / width**2),
        kinks=(0.0,),
        slope_supremum=scale * max(1.0, abs(alpha) / width),
    )


def elu(alpha: float = 1.0) -> Activation:
    """Return z for z > 0 and α(eᶻ − 1) below (Clevert et al. 2016)."""
    return _exponential("elu" if alpha == 1.0 else f"elu(alpha={alpha:g})", 1.0, alpha, 1.0)


def selu() -> Activation:
    """Return the scaled ELU of self-normalising networks (Klambauer et al. 2017)."""
    return _exponential("selu", _SELU_SCALE, _SELU_ALPHA, 1.0)


def celu(alpha: float = 1.0) -> Activation:
    """Return z for z > 0 and α(exp(z/α) − 1) below: the ELU whose slope never jumps."""
    return _exponential("celu" if alpha == 1.0 else f"celu(alpha={alpha:g})", 1.0, alpha, alpha)


def softsign() -> Activation:
    """Return z/(1 + |z|); its curvature jumps at 0."""
    return Activation(
        "softsign",
        lambda z: z / (1.0 + np.abs(z)),
        lambda z: (1.0 + np.abs(z)) ** -2.0,
        lambda z: -2.0 * np.sign(z) * (1.0 + np.abs(z)) ** -3.0,
        kinks=(0.0,),
        slope_supremum=1.0,
    )


def squared_relu() -> Activation:
    """Return max(z, 0)², whose slope has no bound (So et al. 2021)."""
    return Activation(
        "squared_relu",
        lambda z: np.maximum(z, 0.0) ** 2,
        lambda z: 2.0 * np.maximum(z, 0.0),
        lambda z: np.where(z > 0.0, 2.0, 0.0),
        kinks=(0.0,),
        closed=closed.squared_relu(),
    )
