"""BatchNorm before an activation makes gradients grow, the more the smaller the batch.

A batch of B pre-activations of one unit, centred and scaled, is a point on the sphere of radius √B
in the B − 1 dimensions whose entries sum to 0. If all samples are alike in length and equally
correlated the point is uniform on it, whatever came before; the covariance of gradients over the
batch settles on a multiple of the projection G = I − 11ᵀ/B, and one layer (W, BatchNorm, φ)
multiplies it by (Yang, Pennington, Rao, Sohl-Dickstein & Schoenholz 2019)

    B E tr[P (D − dᵀd/B)] / ((B − 3)(B − 1)(E φ² − E φφ'))

with d = φ'(y), D = diag d², P = G − yyᵀ/B, and E φφ' over two entries. Entries y₁, y₂ are
√(B−1) times the projections of a uniform unit vector on two directions at cosine −1/(B − 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from unvanish.errors import UsageError
from unvanish.i18n import _
from unvanish.meanfield.activation import Activation, Array
from unvanish.meanfield.layers import Rate
from unvanish.meanfield.moments import moments

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_LEAST_BATCH = 5  # the variance of 1/‖z‖² needs more than 4 samples
_STABLE = 1.0 + 1e-3


def batch_norm(activation: Activation, batch: int | None = None) -> Rate:
    """Return W, then BatchNorm (gain 1, no bias), then φ; `batch` None is the limit of many.

    For many samples the rate is E φ'²/Var φ at q = 1: relu π/(π − 1) = 1.467.

    Raises UsageError for fewer than 5 samples, where the expected square of a gradient is ruled by
    batches that happen to be nearly constant.
    """
    if batch is not None and batch < _LEAST_BATCH:
        raise UsageError(
            _("BatchNorm over {batch} samples has no mean-field rate").format(batch=batch),
            _("Give a batch of at least {least}.").format(least=_LEAST_BATCH),
        )
    m = moments(activation, 1.0)
    rate = m.slope_second / m.variance if batch is None else _finite(activation, batch)
    return Rate(
        f"BatchNorm → {activation.name}" + (f" (batch {batch})" if batch else ""),
        1.0,
        rate,
        rate,
        _("training mode; samples alike in length and equally correlated; infinite width"),
        "Yang et al. 2019",
        _lengths_part(activation),
    )


def _lengths_part(activation: Activation) -> str | None:
    """Return why theory fails where samples of unlike length become more so from layer to layer.

    BatchNorm fixes the mean of the lengths over the batch, not each: a difference is multiplied by
    d Var φ/dq : Var φ at q = 1. Above 1 (GELU 1.06, SiLU 1.10, softplus 1.06) the gradient grows
    faster than the formula says, by 5 to 20 % a layer in its square.
    """
    m = moments(activation, 1.0)
    growth = m.centred_length_slope / m.variance
    if growth <= _STABLE:
        return None
    return _(
        "with {name} the lengths of the samples part (by ×{growth:.2f} a layer):"
        " measure, do not predict"
    ).format(name=activation.name, growth=growth)


def _finite(activation: Activation, batch: int) -> float:
    b = float(batch)
    same, pair = _over_batches(activation, batch)
    slopes = (b - 2.0) * same.slope + (same.slope + (b - 1.0) * pair.slope) / b
    along = same.lever - (same.lever + (b - 1.0) * pair.lever) / b
    return b * (slopes - along) / ((b - 3.0) * (b - 1.0) * (same.value - pair.value))


@dataclass(frozen=True, slots=True)
class _Products:
    """E φφ, E φ'φ' and E yφ'yφ' over two entries of a batch, or one entry twice."""

    value: float
    slope: float
    lever: float


def _over_batches(activation: Activation, batch: int) -> tuple[_Products, _Products]:
    """Return the products of one entry with itself, and of two entries.

    Polar coordinates in the plane of the two directions: the radius r of a unit vector projected on
    it has density ∝ r (1 − r²)^((B − 5)/2).
    """
    scale = math.sqrt(batch - 1.0)
    radii, weights = _radial(activation, batch, scale)
    shift = math.acos(-1.0 / (batch - 1.0))
    base = np.linspace(0.0, 2.0 * math.pi, 17)
    cuts = [np.tile(base, (len(radii), 1))]
    for kink in (0.0, *activation.kinks):
        angle = np.arccos(np.clip(kink / radii, -1.0, 1.0))
        turned = (angle, -angle, shift + angle, shift - angle)
        cuts.extend((turn % (2.0 * math.pi))[:, None] for turn in turned)
    edges = np.sort(np.concatenate(cuts, axis=1), axis=1)
    half = 0.5 * np.diff(edges, axis=1)[:, :, None]
    angles = 0.5 * (edges[:, 1:] + edges[:, :-1])[:, :, None] + half * _NODES
    measure = weights[:, None, None] * half * _WEIGHTS / (2.0 * math.pi)
    y, other = (radii[:, None, None] * np.cos(angles - turn) for turn in (0.0, shift))
    f, g = activation.f(y), activation.f(other)
    df, dg = activation.df(y), activation.df(other)

    def mean(values: Array) -> float:
        return float((measure * values).sum())

    return (
        _Products(mean(f * f), mean(df * df), mean((y * df) ** 2)),
        _Products(mean(f * g), mean(df * dg), mean(y * df * other * dg)),
    )


def _radial(activation: Activation, batch: int, scale: float) -> tuple[Array, Array]:
    """Return nodes of the radius √(B−1) r and their weights, cut finely where a kink begins."""
    reach = min(scale, 12.0)
    cuts = [np.linspace(0.0, reach, 13)]
    near = np.exp2(-np.arange(1.0, 20.0))
    for kink in map(abs, activation.kinks):
        cuts += [kink * (1.0 + near), kink * (1.0 - near), np.array([kink])]
    # the density has a power of a half at r = 1 for small batches
    cuts.append(scale * (1.0 - near))
    edges = np.unique(np.clip(np.concatenate(cuts), 0.0, reach))
    half = 0.5 * np.diff(edges)[:, None]
    radii = (0.5 * (edges[1:] + edges[:-1])[:, None] + half * _NODES).ravel()
    inside = np.maximum(1.0 - (radii / scale) ** 2, 0.0)
    weights = (half * _WEIGHTS).ravel() * radii * inside ** (0.5 * (batch - 5.0))
    return radii, weights / weights.sum()
