"""Mirrored pairs of units: what two copies of an activation, fed u and −u, do together.

A pair with a bias β in common and opposite signs behind it is ψ(u) = φ(β + u) − φ(β − u): odd,
whatever φ is, so that its mean is 0 and no bias has to remove it. For ReLU, GELU, SiLU and softplus
ψ(u) = u exactly at β = 0 (Balduzzi et al. 2017, "looks linear"; of x·g(x) and softplus with
g(x) + g(−x) = 1 alike). For others β is moved to where φ is straightest, φ'''(β) = 0: for the
sigmoid β = −1.317, where ψ is linear up to u⁵. A network of such pairs starts as a linear one, with
weights and biases alone; orthogonal weights then keep every length and every gradient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from unvanish.errors import UsageError
from unvanish.i18n import _
from unvanish.meanfield.activation import Activation, Array
from unvanish.meanfield.gaussian import adaptive_rule

_SHIFTS = np.linspace(-2.5, 2.5, 41).tolist()  # β tried
_STEP = 0.125
_GOLDEN = 0.5 * (math.sqrt(5.0) - 1.0)
_EXACT = 1e-12  # a residual below it is none
_PRICE_OF_MEAN = 1e-3


@dataclass(frozen=True, slots=True)
class Pair:
    """ψ(u) = φ(β + u) − φ(β − u) for u ~ N(0, q).

    `slope` is the best linear one, E[u ψ]/q, `gain` √(E ψ²/q), and `residual` the share of ψ's
    mean square that is not linear, 1 − slope²/gain²: of the order of q, or 0 where ψ is linear.
    """

    offset: float
    q: float
    slope: float
    gain: float
    residual: float
    mean: float  # E φ(β + u), which a pair cancels


def pair(activation: Activation, offset: float, q: float) -> Pair:
    """Return what a pair of units with bias `offset` does to u ~ N(0, q)."""

    def psi(u: Array) -> Array:
        return activation.f(offset + u) - activation.f(offset - u)

    kinks = [side * (kink - offset) for kink in activation.kinks for side in (1.0, -1.0)]
    rule = adaptive_rule(lambda u: np.stack([u * psi(u), activation.f(offset + u)]), q, kinks)
    u, values = rule.z, psi(rule.z)
    slope = rule.mean(u * values) / q
    # as a mean square of what is left, not as a difference of mean squares
    rest = rule.mean((values - slope * u) ** 2) / q
    second = slope * slope + rest
    return Pair(
        offset,
        q,
        slope,
        math.sqrt(second),
        rest / second if second > 0.0 else math.inf,
        rule.mean(activation.f(offset + u)),
    )


@lru_cache(maxsize=128)
def straightest_pair(activation: Activation, q: float) -> Pair:
    """Return the best pair with |β| ≤ 2.5: β = 0 where that is linear, else of least cost.

    Cost is the residual, plus a little for the mean of one unit's output against its slope: a mean
    adds nothing to the signal and much to how fast biases learn. It tells the sigmoid's −1.3 from
    its 1.3, and keeps ELU from a place where it is nothing but the identity.

    Raises UsageError where φ is flat on all of them.
    """
    plain = pair(activation, 0.0, q)
    if plain.residual < _EXACT:
        return plain
    tried = [pair(activation, shift, q) for shift in _SHIFTS]
    usable = [one for one in tried if abs(one.slope) > 1e-3 * max(abs(t.slope) for t in tried)]
    if not usable:
        raise UsageError(
            _("{name} is flat around 0").format(name=activation.name),
            _("Choose another activation, or another scheme."),
        )
    best = min(usable, key=_cost)
    low, high = max(_SHIFTS[0], best.offset - _STEP), min(_SHIFTS[-1], best.offset + _STEP)
    for _section in range(16):
        one, two = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if _cost(pair(activation, one, q)) < _cost(pair(activation, two, q)):
            high = two
        else:
            low = one
    return min(best, pair(activation, 0.5 * (low + high), q), key=_cost)


def _cost(one: Pair) -> float:
    ratio = 2.0 * one.mean / one.slope if one.slope else math.inf
    return one.residual + _PRICE_OF_MEAN * ratio * ratio
