"""Expectations over z ~ N(0, q) by composite Gauss–Legendre quadrature, split at the kinks.

Plain Gauss–Hermite is off by 5 % for a saturated tanh: its nodes are spaced by √q, and the function
changes within |z| < 1. Here the axis is cut at the kinks, at distances 2ʲ around them and around 0
(so that a feature of size 1 is seen at √q = 1000), and every panel is halved until halving changes
no expectation by more than 1e-13 of its scale. The relative error of each expectation, against
that of the absolute value, is below 1e-12 for √q from 1e-3 to 1e3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from unvanish.errors import UsageError
from unvanish.i18n import _
from unvanish.meanfield.activation import Activation, Array

# |x| beyond which the density of N(0, 1) underflows. Far, because a kink twelve standard deviations
# out (ReLU6 at √q = 1/2) decides what its critical bias is.
REACH = 38.5
_BASE = np.array([0.0, 1.5, 3.0, 4.5, 6.0, 7.5, 9.0, 13.0, 20.0, 29.0, REACH])
_BEYOND = np.array([1.0, 2.0, 4.0, 6.0, 8.0])  # panels behind a kink that lies in the tail
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)
_TOLERANCE = 1e-13
_HALVINGS = 40
_MANY_PANELS, _MOST_PANELS = 1_000, 10_000
_ROUNDING = 1e-6  # the greatest change that may be rounding noise


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """Quadrature for N(0, q): E f = Σ weights · f(z) with z = √q · x, all of one length n."""

    q: float
    x: Array
    weights: Array

    @property
    def z(self) -> Array:
        """Return the nodes as pre-activations."""
        z: Array = np.sqrt(self.q) * self.x
        return z

    def mean(self, values: Array) -> float:
        """Return the expectation of a function given by its `values` at the nodes."""
        return float(self.weights @ values)


def edges(q: float, centres: Iterable[float]) -> Array:
    """Return where to cut the axis of x = z/√q: around 0 and around each of the `centres`."""
    sigma = np.sqrt(q)
    distances = np.exp2(np.arange(-4.0, np.ceil(np.log2(max(sigma, 2.0**-4))))) / sigma
    cuts = [_BASE, -_BASE]
    for centre in {0.0, *centres}:
        place = centre / sigma
        cuts += [place + distances, place - distances, np.array([place])]
        if abs(place) > 6.0:
            cuts.append(place + np.sign(place) * _BEYOND)
    joined: Array = np.unique(np.concatenate(cuts))
    return joined[np.abs(joined) <= REACH]


def adaptive_rule(
    integrands: Callable[[Array], Array], q: float, centres: Iterable[float] = ()
) -> Rule:
    """Return a rule that resolves every row of `integrands`.

    `integrands(z)` takes nodes of shape (n,) and returns values of shape (m, n). Panels stop being
    halved when they fall below 2⁻⁴⁰ of their width, where a function no rule resolves (a jump that
    was not declared) has been confined to nothing, and when so many are left with so small
    a change that it can only be the rounding of `integrands` itself.

    Raises UsageError if the function oscillates too fast to be resolved at this q.
    """
    cuts = edges(q, centres)
    # what overflows is left to the caller to notice
    with np.errstate(over="ignore", invalid="ignore"):
        done = list(_refine(integrands, q, cuts[:-1], cuts[1:]))
    x, weights = zip(*done, strict=True)
    return Rule(q, np.concatenate(x), np.concatenate(weights))


def _refine(
    integrands: Callable[[Array], Array], q: float, low: Array, high: Array
) -> Iterator[tuple[Array, Array]]:
    """Yield nodes and weights of the panels that are fine enough, halving the others."""
    sums, scale = _integrate(integrands, q, low, high)[:2]
    for halving in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = np.stack([low, middle], 1).ravel(), np.stack([middle, high], 1).ravel()
        halves, seen, x, weights = _integrate(integrands, q, low, high)
        scale = np.maximum(scale, seen)
        change = np.abs(halves.reshape(len(scale), -1, 2).sum(axis=2) - sums)
        rough = np.repeat((change > _TOLERANCE * scale[:, None]).any(axis=0), 2)
        only_noise = (change.sum(axis=1) < _ROUNDING * scale).all()
        if halving == _HALVINGS - 1 or (rough.sum() > _MANY_PANELS and only_noise):
            rough[:] = False
        yield x[~rough].ravel(), weights[~rough].ravel()
        if not rough.any():
            return
        if rough.sum() > _MOST_PANELS:
            raise UsageError(
                _("the function oscillates too fast to be averaged over N(0, {q:g})").format(q=q),
                _("Use a smaller q, or a function whose features are wider."),
            )
        low, high, sums = low[rough], high[rough], halves[:, rough]


def _integrate(
    integrands: Callable[[Array], Array], q: float, low: Array, high: Array
) -> tuple[Array, Array, Array, Array]:
    """Return integrals by row and panel, those of |·| by row, and nodes and weights by panel."""
    half = 0.5 * (high - low)[:, None]
    x = 0.5 * (high + low)[:, None] + half * _NODES
    weights = half * _WEIGHTS * np.exp(-0.5 * x * x) / np.sqrt(2.0 * np.pi)
    values = integrands(np.sqrt(q) * x.ravel())
    values = values.reshape(len(values), *x.shape)
    sums: Array = np.einsum("mpn,pn->mp", values, weights)
    return sums, np.einsum("mpn,pn->m", np.abs(values), weights), x, weights


def expectation(function: Callable[[Array], Array], q: float, kinks: Iterable[float] = ()) -> float:
    """Return E f(z) for z ~ N(0, q), q > 0, f taking and returning arrays of shape (n,)."""
    rule = adaptive_rule(lambda z: function(z)[None], q, kinks)
    return rule.mean(function(rule.z))


@lru_cache(maxsize=16)
def rule_for(activation: Activation, q: float) -> Rule:
    """Return a rule that resolves φ, φ', their squares, z φ φ' and φ'⁴."""

    def integrands(z: Array) -> Array:
        f, df = activation.f(z), activation.df(z)
        return np.stack([f, f * f, df, df * df, z * f * df, df**4])

    return adaptive_rule(integrands, q, activation.kinks)
