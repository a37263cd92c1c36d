"""Expectations over two correlated inputs: what a layer does to the angle between two samples.

E φ(z₁)φ(z₂) and E φ'(z₁)φ'(z₂) for z₁, z₂ ~ N(0, q) with correlation c, three ways:

- a closed form, where there is one;
- Mehler's series Σ aₙ² cⁿ with the Hermite coefficients aₙ of φ(√q x): all aₙ² are positive, so
  what is left out is known exactly to lie between 0 and (E φ² − Σ aₙ²) |c|ᴺ;
- where that bound is too wide (kinks, and c near 1), nested quadrature of the difference
  E (φ(u+v) − φ(u−v))²/2 = E φ² − E φ(z₁)φ(z₂), with u ~ N(0, q(1+c)/2) and v ~ N(0, q(1−c)/2)
  independent, cut where u ± v meets a kink.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from unvanish.meanfield.activation import Activation, Array, Function
from unvanish.meanfield.gaussian import rule_for
from unvanish.meanfield.moments import moments

_TERMS, _FEW_TERMS = 256, 48
_TOLERANCE = 1e-13
_REACH = 12.5  # beyond, √density · φ has nothing left in double precision
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)


@lru_cache(maxsize=64)
def hermite(activation: Activation, q: float, terms: int = _TERMS) -> Array:
    """Return aₙ = E[φ(√q x) hₙ(x)], n = 0 … terms − 1, hₙ the orthonormal Hermite polynomials.

    From n = 2 on they are taken from φ'', as q (E[φ'' hₙ₋₂] + Σ jump of φ' · density · hₙ₋₂)
    / √(n(n−1)), where φ'' is known and φ does not jump: exact where φ is made of straight pieces,
    and without the cancellation that leaves ReLU6's a₃ = −1.5e-8 with half its digits.
    """
    rule = rule_for(activation, q)
    near = np.abs(rule.x) < _REACH
    x, z, weights = rule.x[near], rule.z[near], rule.weights[near]
    if activation.ddf is None or activation.jumps:
        return _project(x, activation.f(z) * weights, terms)
    head = _project(x, activation.f(z) * weights, 2)
    tail = q * _project(x, activation.ddf(z) * weights, terms - 2)
    for kink in activation.kinks:
        place = np.array([kink / np.sqrt(q)])
        if abs(place[0]) > _REACH:
            continue
        left, right = activation.slopes_around(kink)
        density = np.exp(-0.5 * place**2) / np.sqrt(2.0 * np.pi)
        tail += np.sqrt(q) * (right - left) * _project(place, density, terms - 2)
    n = np.arange(2.0, terms)
    return np.concatenate([head, tail / np.sqrt(n * (n - 1.0))])


def _project(x: Array, weighted: Array, terms: int) -> Array:
    """Return Σ weighted · hₙ(x) for n = 0 … terms − 1."""
    result = np.empty(terms)
    before, now = np.zeros_like(x), np.ones_like(x)
    for n in range(terms):
        result[n] = now @ weighted
        before, now = now, (x * now - np.sqrt(n) * before) / np.sqrt(n + 1.0)
    return result


def product(activation: Activation, q: float, c: float) -> float:
    """Return E φ(z₁)φ(z₂), q > 0 and −1 ≤ c ≤ 1."""
    if activation.closed is not None:
        return activation.closed.product(q, c)
    whole = moments(activation, q).second
    if abs(c) == 1.0:
        return _same(activation.f, activation, q, c)
    squares = hermite(activation, q) ** 2
    return _series(squares, whole, c, lambda: _nested(activation.f, activation.kinks, q, c))


def rough_product(activation: Activation, q: float, c: float) -> float:
    """Return E φ(z₁)φ(z₂) to some 1e-3 of E φ², for 0 ≤ c ≤ 1, fifty times as fast.

    A short series, and all that it leaves out as if it were its next term: exact at c = 0 and 1.
    """
    if activation.closed is not None:
        return activation.closed.product(q, c)
    squares = hermite(activation, q, _FEW_TERMS) ** 2
    left_out = moments(activation, q).second - float(squares.sum())
    return float(np.polynomial.polynomial.polyval(c, np.append(squares, left_out)))


def slope_product(activation: Activation, q: float, c: float) -> float:
    """Return E φ'(z₁)φ'(z₂), which is the derivative of `product` in the covariance qc."""
    if activation.closed is not None:
        return activation.closed.slope_product(q, c)
    whole = moments(activation, q).slope_second
    if abs(c) == 1.0:
        return _same(activation.df, activation, q, c)
    squares = np.arange(1, _TERMS) * hermite(activation, q)[1:] ** 2 / q
    return _series(squares, whole, c, lambda: _nested(activation.df, activation.kinks, q, c))


def _series(squares: Array, whole: float, c: float, half_square: Callable[[], float]) -> float:
    left_out = max(whole - float(squares.sum()), 0.0) * abs(c) ** len(squares)
    if left_out > _TOLERANCE * whole:
        return whole - half_square()
    return float(np.polynomial.polynomial.polyval(c, squares))


def _same(function: Function, activation: Activation, q: float, c: float) -> float:
    rule = rule_for(activation, q)
    return rule.mean(function(rule.z) * function(c * rule.z))


def _nested(function: Function, kinks: tuple[float, ...], q: float, c: float) -> float:
    """Return E (f(u+v) − f(u−v))²/2, over v inside and u outside."""
    wide, narrow = np.sqrt(0.5 * q * (1.0 + c)), np.sqrt(0.5 * q * (1.0 - c))
    centres = (0.0, *kinks)
    steps = np.arange(-3.0, np.ceil(np.log2(max(wide, narrow) / min(narrow, 1.0))) + 4.0)
    around = min(narrow, 1.0) * np.exp2(steps)
    outer = [np.arange(-9.0, 10.0) * wide]
    outer += [np.concatenate([k - around, [k], k + around]) for k in centres]
    cuts = np.unique(np.concatenate(outer))
    cuts = cuts[np.abs(cuts) <= 9.0 * wide]
    u, u_weights = _gauss(cuts[None], wide)
    u, u_weights = u[0], u_weights[0]
    base = np.arange(10.0) * narrow
    # where u + v or u − v meets a kink, and features of size 1 around it
    spread = np.exp2(np.arange(-1.0, np.ceil(np.log2(max(narrow, 0.5))) + 3.0))
    offsets = np.concatenate([-spread, [0.0], spread]) if narrow > 0.5 else np.zeros(1)
    meets = np.abs(u[:, None] - np.array(centres))[:, :, None] + offsets
    inner = np.concatenate([np.tile(base, (len(u), 1)), meets.reshape(len(u), -1)], axis=1)
    v, v_weights = _gauss(np.sort(np.clip(inner, 0.0, base[-1]), axis=1), narrow)
    gap = function(u[:, None] + v) - function(u[:, None] - v)
    return float(u_weights @ (v_weights * gap * gap).sum(axis=1))


def _gauss(cuts: Array, sigma: float) -> tuple[Array, Array]:
    """Return nodes and weights of N(0, sigma²) on the panels between `cuts`, row by row."""
    half = 0.5 * np.diff(cuts, axis=1)[:, :, None]
    nodes = 0.5 * (cuts[:, 1:] + cuts[:, :-1])[:, :, None] + half * _NODES
    density = np.exp(-0.5 * (nodes / sigma) ** 2) / (sigma * np.sqrt(2.0 * np.pi))
    weights = half * _WEIGHTS * density
    return nodes.reshape(len(cuts), -1), weights.reshape(len(cuts), -1)
