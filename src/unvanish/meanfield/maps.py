"""How a wide random layer maps lengths, angles and gradients, and where that settles.

One layer is z' = W φ(z) + b with W_ij ~ N(0, σ_w²/fan_in), b_i ~ N(0, σ_b²), all independent, and
in the limit of infinite width every z is Gaussian (Poole et al. 2016; Schoenholz et al. 2017):

- length map: q' = σ_w² E φ² + σ_b², of slope χ∥ = σ_w² d E φ²/dq;
- correlation map of two inputs of length q: c' = (σ_w² E φ(z₁)φ(z₂) + σ_b²)/q';
- growth of the squared norm of the gradient: χ₁ = σ_w² E φ'², whatever the fan-out (in mean square
  per element: times fan_out/fan_in).

Biases add only σ_b². Dropout that keeps a share p of the units and divides by p multiplies E φ² and
χ₁ by 1/p, but not E φ(z₁)φ(z₂): its masks differ, so no two inputs stay alike (Schoenholz et al.
2017, section 5).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from numpy.polynomial import polynomial

from unvanish.errors import UsageError
from unvanish.i18n import _
from unvanish.meanfield import pairs
from unvanish.meanfield.activation import Activation
from unvanish.meanfield.moments import mean_square, mean_square_slope, slope_mean_square
from unvanish.meanfield.roots import bracketed_root

Phase = Literal["ordered", "critical", "chaotic"]

# q* below or above which a length counts as having gone to 0 or to infinity
VANISHED, EXPLODED = 1e-14, 1e14
# |log χ₁| below which a layer counts as critical: a depth scale of a million layers
_CRITICAL = 1e-6
_STEPS = 100


@dataclass(frozen=True, slots=True)
class Layer:
    """A plain layer; `keep` is the share of units that dropout keeps."""

    activation: Activation
    sigma_w: float
    sigma_b: float = 0.0
    keep: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what is no layer."""
        weights, biases = 0.0 < self.sigma_w < math.inf, 0.0 <= self.sigma_b < math.inf
        if not (weights and biases and 0.0 < self.keep <= 1.0):
            raise UsageError(
                _("no layer has σ_w = {w:g}, σ_b = {b:g} and keeps a share of {keep:g}").format(
                    w=self.sigma_w, b=self.sigma_b, keep=self.keep
                ),
                _("Give σ_w > 0, σ_b ≥ 0 and 0 < keep ≤ 1."),
            )

    def length(self, q: float) -> float:
        """Return q' = σ_w² E φ²/keep + σ_b²."""
        second = self.activation.at_zero**2 if q <= 0.0 else mean_square(self.activation, q)
        return self.sigma_w**2 / self.keep * second + self.sigma_b**2

    def length_slope(self, q: float) -> float:
        """Return χ∥ = dq'/dq."""
        if q <= 0.0:
            return self.gradient_growth(0.0)  # for φ(0) = 0, the only way for q = 0 to be fixed
        return self.sigma_w**2 / self.keep * mean_square_slope(self.activation, q)

    def gradient_growth(self, q: float) -> float:
        """Return χ₁, the factor of E‖∂L/∂z‖² from a layer's output to its input."""
        if q <= 0.0:
            left, right = self.activation.slopes_around(0.0)
            second = 0.5 * (left * left + right * right)
        else:
            second = slope_mean_square(self.activation, q)
        return self.sigma_w**2 / self.keep * second

    def correlation(self, q: float, c: float, *, rough: bool = False) -> float:
        """Return c', for two inputs of length q > 0 and correlation c; `rough` to 1e-3."""
        of_pair = pairs.rough_product if rough else pairs.product
        product = of_pair(self.activation, q, c)
        length = self.length(q)
        return (self.sigma_w**2 * product + self.sigma_b**2) / length if length > 0.0 else 1.0

    def correlation_slope(self, q: float, c: float) -> float:
        """Return dc'/dc."""
        return self.covariance_slope(q, c) * q / self.length(q)

    def covariance_slope(self, q: float, c: float) -> float:
        """Return the growth of a small difference between inputs: σ_w² E φ'(z₁)φ'(z₂)."""
        if q <= 0.0:
            return self.keep * self.gradient_growth(0.0)
        return self.sigma_w**2 * pairs.slope_product(self.activation, q, c)


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """Where the maps settle, from inputs of a given length.

    ξ_q = −1/log χ∥ and ξ_c = −1/log(correlation_slope) are the numbers of layers in which a length
    or a correlation comes e times nearer to its fixed point.

    `q` is 0 where lengths vanish and infinite where they explode. χ₁, χ∥ and the correlation are
    then those of the last length within [1e-14, 1e14], and the depth scale is that of the signal
    itself: ξ_c = 1/|log χ₁|.
    """

    q: float
    chi_1: float
    chi_parallel: float
    correlation: float
    correlation_slope: float
    phase: Phase
    stable: bool  # |χ∥| ≤ 1: lengths next to q come nearer to it
    xi_q: float
    xi_c: float
    trainable_depth: float  # 6 ξ_c, the greatest depth found to train (Schoenholz et al. 2017)


def _depth_scale(slope: float) -> float:
    if not 0.0 < slope < math.inf:
        return 0.0
    rate = abs(math.log(slope))
    return 1.0 / rate if rate > 1e-12 else math.inf


def phase_of(chi_1: float) -> Phase:
    """Return which side of χ₁ = 1 this is."""
    if chi_1 > 0.0 and abs(math.log(chi_1)) <= _CRITICAL:
        return "critical"
    return "ordered" if chi_1 < 1.0 else "chaotic"


def fixed_point(layer: Layer, start: float = 1.0) -> FixedPoint:
    """Return where the maps settle from pre-activations of length `start`.

    The length goes to the nearest fixed point in the direction of its first step, which is where
    iteration ends wherever the length map increases.
    """
    q = length_fixed_point(layer, start)
    inside = min(max(q, VANISHED), EXPLODED)
    at = min(q, EXPLODED)
    chi_1, chi_parallel = layer.gradient_growth(at), layer.length_slope(at)
    c = correlation_fixed_point(layer, inside)
    slope = layer.covariance_slope(q, c) if q == inside else chi_1
    xi_c = _depth_scale(slope)
    return FixedPoint(
        q=q,
        chi_1=chi_1,
        chi_parallel=chi_parallel,
        correlation=c,
        correlation_slope=slope,
        phase=phase_of(chi_1),
        stable=abs(chi_parallel) <= 1.0 + _CRITICAL,
        xi_q=_depth_scale(abs(chi_parallel)),
        xi_c=xi_c,
        trainable_depth=6.0 * xi_c,
    )


def length_fixed_points(layer: Layer) -> tuple[float, ...]:
    """Return every q* = Q(q*) between 1e-6 and 1e6 where the length map crosses the diagonal.

    Two that lie within a factor 4 of each other are missed. A stable one attracts what starts
    between its unstable neighbours.
    """
    grid = [4.0**k for k in range(-10, 11)]
    excess = [_excess(layer, q) for q in grid]
    return tuple(
        bracketed_root(lambda q: _excess(layer, q), grid[k], grid[k + 1])
        for k in range(len(grid) - 1)
        if excess[k] * excess[k + 1] < 0.0
    )


def _excess(layer: Layer, q: float) -> float:
    return layer.length(q) / q - 1.0


def length_fixed_point(layer: Layer, start: float = 1.0) -> float:
    """Return q* = Q(q*) reached from `start`: 0 if lengths vanish, inf if they explode."""
    here = _excess(layer, start)
    if abs(here) <= 1e-14:
        return start
    q = start
    while True:
        step = 2.0 if 0.01 < q < 100.0 else 16.0
        further = q * step if here > 0.0 else q / step
        if not VANISHED < further < EXPLODED:
            return math.inf if here > 0.0 else 0.0
        if _excess(layer, further) * here <= 0.0:
            return bracketed_root(lambda q: _excess(layer, q), *sorted((q, further)))
        q = further


def correlation_fixed_point(layer: Layer, q: float) -> float:
    """Return the stable c* of the correlation map of inputs of length q > 0.

    The map has only positive derivatives (Mehler), so it is convex on [0, 1], starts above the
    diagonal, and ends on or below it: c* = 1 if its slope there is at most 1, else the one fixed
    point below, which Newton's method reaches from 0 without ever overshooting. A truncated series
    lies below the map, and so does its fixed point: it serves for the first steps.
    """
    length = layer.length(q)
    slope_at_1 = layer.covariance_slope(q, 1.0) * q
    if layer.keep == 1.0 and slope_at_1 <= (1.0 + _CRITICAL) * length:
        return 1.0
    c = 0.0
    if layer.activation.closed is None:
        series = layer.sigma_w**2 / length * pairs.hermite(layer.activation, q) ** 2
        series[0] += layer.sigma_b**2 / length
        slopes = polynomial.polyder(series)
        c = _newton(
            c,
            lambda c: float(polynomial.polyval(c, series)),
            lambda c: float(polynomial.polyval(c, slopes)),
        )
    return _newton(c, lambda c: layer.correlation(q, c), lambda c: layer.correlation_slope(q, c))


def _newton(c: float, value: Callable[[float], float], slope: Callable[[float], float]) -> float:
    for _step in range(_STEPS):
        step = (value(c) - c) / (1.0 - slope(c))
        c += step
        if abs(step) <= 1e-13:
            break
    return c
