"""Shaped activations: φ̂(x) = γ (φ(αx + β) + δ), with which plain nets of a given depth train.

Deep kernel shaping (DKS, Martens et al. 2021) and tailored activation transformations (TAT, Zhang,
Botev & Martens 2022) choose the four numbers such that lengths stay 1 and the correlation map of
the whole network, the `depth`-fold composition C ∘ … ∘ C of a layer's, does not degenerate. Both
assume weights of variance 1/fan_in (orthogonal ones, say), no biases, inputs of mean square 1, and
depth counted in activations in a row.

A shaping can be used as it is, or be folded into weights and biases, so that the network's own
activation stays (`fold`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from unvanish.errors import UsageError
from unvanish.i18n import _
from unvanish.meanfield.activation import Activation, Array
from unvanish.meanfield.closed import two_slopes
from unvanish.meanfield.moments import curvature_mean_square, moments
from unvanish.meanfield.roots import bracketed_root

Quantity = Callable[[Activation], float]

_SHIFTS = np.linspace(-4.0, 4.0, 33).tolist()  # β tried
_SCALES = np.linspace(-7.0, 3.0, 11).tolist()  # log α tried
_FAR = 1e3  # a drift beyond it is a pole, not a root


@dataclass(frozen=True, slots=True)
class Shaping:
    """The four numbers of φ̂(x) = γ (φ(αx + β) + δ)."""

    alpha: float = 1.0
    beta: float = 0.0
    gamma: float = 1.0
    delta: float = 0.0

    def apply(self, activation: Activation) -> Activation:
        """Return the shaped activation."""
        a, b, c, d = self.alpha, self.beta, self.gamma, self.delta
        f, df, ddf = activation.f, activation.df, activation.ddf
        supremum = activation.slope_supremum
        return Activation(
            f"shaped {activation.name}",
            lambda z: c * (f(a * z + b) + d),
            lambda z: c * a * df(a * z + b),
            None if ddf is None else lambda z: c * a * a * ddf(a * z + b),
            kinks=tuple((kink - b) / a for kink in activation.kinks),
            jumps=tuple((jump - b) / a for jump in activation.jumps),
            slope_supremum=None if supremum is None else abs(c * a) * supremum,
        )


def fold(
    weight: Array, bias: Array | None, *, before: Shaping | None, after: Shaping | None
) -> tuple[Array, Array]:
    """Return weight and bias with which the unshaped activation does what the shaped one did.

    `weight` is (out, in), `bias` (out,) or None. `before` is the shaping of the activation whose
    output this layer takes, `after` that of the one it feeds; None where there is none:

        W' = α γ W,   b' = α (b + γ δ W 1) + β,   with γ, δ of `before` and α, β of `after`.
    """
    source, sink = before or Shaping(), after or Shaping()
    offset = np.zeros(len(weight)) if bias is None else bias
    offset = offset + source.gamma * source.delta * weight.sum(axis=1)
    return sink.alpha * source.gamma * weight, sink.alpha * offset + sink.beta


def dks(activation: Activation, depth: int, slope: float = 1.5) -> Shaping:
    """Return the shaping for which Q(1) = 1, Q'(1) = 1, C(0) = 0 and C'(1)^depth = `slope`.

    The network then maps correlations nearly linearly (`slope` 1 would be a linear network).

    Raises UsageError where no α > 0 and |β| ≤ 4 do it, and for a depth below 1 or a slope ≤ 1.
    """
    target = _per_layer(math.log(slope) if slope > 0.0 else 0.0, depth)

    def size(inner: Activation) -> float:  # log C'(1)
        m = moments(inner, 1.0)
        return math.log1p(m.centred_surplus / m.variance) / target

    def drift(inner: Activation) -> float:  # Q'(1) − 1
        m = moments(inner, 1.0)
        return (m.centred_length_slope / m.variance - 1.0) / target

    shaping = _solve(activation, size, drift)
    if shaping is None:
        raise _out_of_reach(activation)
    m = moments(shaping.apply(activation), 1.0)
    return replace(shaping, gamma=m.variance**-0.5, delta=-m.mean)


def tat(activation: Activation, depth: int, curvature: float = 0.3) -> Shaping:
    """Return the shaping for which Q(1) = Q'(1) = C'(1) = 1 and depth · C''(1) = `curvature`.

    For smooth activations; `tailored_relu` is for ReLU. Correlations come near 1, slowly, where
    deep kernel shaping lets them part.

    Raises UsageError where φ'' is not known or the slope jumps, where no α > 0 and |β| ≤ 4 do it,
    and for a depth below 1 or a curvature ≤ 0.
    """
    target = _per_layer(curvature, depth)
    if curvature_mean_square(activation, 1.0) in (None, math.inf):
        raise UsageError(
            _("{name} has no second derivative to shape").format(name=activation.name),
            _("Use tailored_relu, or deep kernel shaping (dks)."),
        )

    def size(inner: Activation) -> float:  # C''(1) where C'(1) = 1
        bend = curvature_mean_square(inner, 1.0) or 0.0
        return bend / moments(inner, 1.0).slope_second / target

    found = []
    for side in (1.0, -1.0):  # of E φ̂ = ±√(1 − Var φ̂): either may reach Q'(1) = 1

        def drift(inner: Activation, side: float = side) -> float:  # Q'(1) − 1
            m = moments(inner, 1.0)
            mean = side * math.sqrt(max(m.centred_surplus, 0.0))
            slope = m.centred_length_slope + mean * m.curvature_mean
            return (slope / m.slope_second - 1.0) / target

        shaping = _solve(activation, size, drift)
        if shaping is None:
            continue
        m = moments(shaping.apply(activation), 1.0)
        mean = side * math.sqrt(max(m.centred_surplus, 0.0))
        found.append(replace(shaping, gamma=m.slope_second**-0.5, delta=mean - m.mean))
    if not found:
        raise _out_of_reach(activation)
    return min(found, key=lambda shaping: abs(shaping.beta))


def tailored_relu(depth: int, correlation: float = 0.9) -> tuple[float, float]:
    """Return (a, gain) of TReLU: gain · LeakyReLU(a), by which 0 goes to `correlation` in all.

    The gain √(2/(1 + a²)) keeps lengths; the slope a in [0, 1) is chosen such that two inputs
    without correlation end with `correlation` after `depth` layers.

    Raises UsageError where even ReLU (a = 0) stays below it: the net is too shallow to need it.
    """
    _per_layer(1.0, depth)

    def excess(a: float) -> float:
        form, c = two_slopes(a), 0.0
        for _layer in range(depth):
            c = form.product(1.0, c) / form.second(1.0)
        return c - correlation

    if not 0.0 < correlation < 1.0 or excess(0.0) < 0.0:
        raise UsageError(
            _("{depth} layers of ReLU do not bring correlations up to {correlation:g}").format(
                depth=depth, correlation=correlation
            ),
            _("Use plain ReLU, or a smaller correlation above 0."),
        )
    a = bracketed_root(excess, 0.0, 1.0)
    return a, math.sqrt(2.0 / (1.0 + a * a))


def _per_layer(whole: float, depth: int) -> float:
    if depth < 1 or not 0.0 < whole < math.inf:
        raise UsageError(
            _("no shaping for {depth} layers bends by this much").format(depth=depth),
            _("Give a depth of at least 1, a slope above 1 or a curvature above 0."),
        )
    return whole / depth


def _out_of_reach(activation: Activation) -> UsageError:
    return UsageError(
        _("no shift and scale within reach shape {name}").format(name=activation.name),
        _("Use a smooth activation that bends both ways near 0, such as gelu or tanh."),
    )


def _solve(activation: Activation, size: Quantity, drift: Quantity) -> Shaping | None:
    """Return α and β with size = 1 and drift = 0 for φ(αx + β), of several those of least |β|.

    Size grows with α from 0 (at α = 0 every function is a straight line), so it fixes an α for
    each β; along these, drift is followed to where it changes sign.
    """

    def along(beta: float) -> float:
        alpha = _scale(activation, size, beta)
        return math.nan if alpha is None else drift(Shaping(alpha, beta).apply(activation))

    tried = [(beta, along(beta)) for beta in _SHIFTS]
    found = [
        beta if here == 0.0 else bracketed_root(along, beta, after)
        for (beta, here), (after, there) in pairwise(tried)
        if here * there <= 0.0 and max(abs(here), abs(there)) < _FAR
    ]
    for beta in sorted(found, key=abs):
        alpha = _scale(activation, size, beta)
        if alpha is not None:
            return Shaping(alpha, beta)
    return None


def _scale(activation: Activation, size: Quantity, beta: float) -> float | None:
    """Return α with size = 1 at this β, None where there is none."""

    def short(log_alpha: float) -> float:
        try:
            return math.log(size(Shaping(math.exp(log_alpha), beta).apply(activation)))
        except (UsageError, ValueError, ZeroDivisionError):  # flat there, or growing too fast
            return math.nan

    values = [(log_alpha, short(log_alpha)) for log_alpha in _SCALES]
    for (low, before), (high, after) in pairwise(values):
        if before < 0.0 <= after:
            return math.exp(bracketed_root(short, low, high))
    return None
