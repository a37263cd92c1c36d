"""From one layer to many: predicted lengths and gradients layer by layer, and how far off they are.

The theory is of infinite width, for the mean of the squared gain. At width n the log of the squared
gain has a variance (`log_variances`), and its median lies below the log of the mean, by half the
variance that the weights give it. Where χ∥ > 1 a length that is a little off is soon far off: ∏ χ∥
says by what factor, and far above 1 nothing is predicted any more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from unvanish.errors import UsageError
from unvanish.meanfield.maps import EXPLODED, VANISHED, Layer
from unvanish.meanfield.moments import moments


@dataclass(frozen=True, slots=True)
class Profile:
    """A plain network's prediction, one entry for each layer from the first to the last.

    `lengths` are the variances of the pre-activations; `gains_log10` the log10 of the gain of the
    gradient's norm (root mean square over networks) from the layer's output to its input, and
    `gain_log10` their sum. `amplification_log10` is that of ∏ χ∥. With a width, `median_log10` is
    the log10 of the gain of the median network, and `spread_log10` its standard deviation over
    networks.
    """

    lengths: tuple[float, ...]
    gains_log10: tuple[float, ...]
    gain_log10: float
    amplification_log10: float
    median_log10: float | None
    spread_log10: float | None


def propagate(layer: Layer, depth: int, start: float = 1.0, width: int | None = None) -> Profile:
    """Return the prediction for `depth` equal layers; `start` is the first pre-activations' length.

    Lengths are held within [1e-14, 1e14]. For inputs of mean square s, `start` is σ_w² s + σ_b².
    """
    if depth < 1:
        raise UsageError(f"a network of {depth} layers has no gain", "Give a depth of at least 1.")
    lengths = [min(max(start, VANISHED), EXPLODED)]
    while len(lengths) < depth:
        lengths.append(min(max(layer.length(lengths[-1]), VANISHED), EXPLODED))
    gains = tuple(_half_log10(layer.gradient_growth(q)) for q in lengths)
    total = math.fsum(gains)
    median, spread = None, None
    if width is not None:
        by_weights, by_lengths = log_variances(layer, lengths, [width] * depth)
        spread = 0.5 * math.sqrt(by_weights + by_lengths) / math.log(10.0)
        median = total - 0.25 * by_weights / math.log(10.0)
    return Profile(
        lengths=tuple(lengths),
        gains_log10=gains,
        gain_log10=total,
        amplification_log10=2.0 * sum(_half_log10(abs(layer.length_slope(q))) for q in lengths),
        median_log10=median,
        spread_log10=spread,
    )


def log_variances(
    layer: Layer, lengths: Sequence[float], widths: Sequence[int]
) -> tuple[float, float]:
    """Return the variance of ln ‖J‖² over random weights, for layers of these lengths and widths.

    In two parts. What weights and slopes give directly is Σ (3κ − 1)/n with κ = E φ'⁴/(E φ'²)²: 2/n
    a linear layer, 5/n a ReLU layer (Hanin & Nica 2020). What comes by way of the lengths, whose
    own fluctuations χ∥ carries on and which change later slopes, is to first order (delta method)
    nothing for the ReLU family, and as much again for GELU.
    """
    by_weights, by_lengths, adjoint = 0.0, 0.0, 0.0  # adjoint: d ln ∏ later χ₁ / d next length
    scale = layer.sigma_w**2 / layer.keep
    for q, n in reversed(list(zip(lengths, widths, strict=True))):
        m = moments(layer.activation, q)
        if m.slope_second <= 0.0:
            return math.nan, math.nan
        of_length = scale**2 * (m.fourth - m.second**2)
        of_both = scale * (m.mixed_fourth / m.slope_second - m.second)
        by_weights += (3.0 * m.kurtosis - 1.0) / n
        by_lengths += adjoint * (adjoint * of_length + 2.0 * of_both) / n
        adjoint = m.slope_second_slope / m.slope_second + layer.length_slope(q) * adjoint
    return by_weights, by_lengths


def _half_log10(square: float) -> float:
    return 0.5 * math.log10(square) if square > 0.0 else -math.inf
