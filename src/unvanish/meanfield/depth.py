"""From one layer to many: predicted lengths and gradients layer by layer, and how far off they are.

Two things set the error. At finite width the log of a Jacobian's squared norm has a spread of
√Σ (3κ − 1)/n (Hanin & Nica 2020: 2/n for linear layers, 5/n for ReLU). And where χ∥ > 1 a length
that is a little off is soon far off: ∏ χ∥ says by what factor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from unvanish.errors import UsageError
from unvanish.meanfield.activation import Activation
from unvanish.meanfield.maps import EXPLODED, VANISHED, Layer
from unvanish.meanfield.moments import moments


@dataclass(frozen=True, slots=True)
class Profile:
    """A plain network's prediction, one entry for each layer from the first to the last.

    `lengths` are the variances of the pre-activations; `gains_log10` the log10 of the gain of the
    gradient's norm from the layer's output to its input, and `gain_log10` their sum.
    `amplification_log10` is that of ∏ χ∥, the factor by which an error in the first length has
    grown at the end: far above 0 the prediction is not to be trusted. `spread_log10` is the
    standard deviation of the log10 of the gain at the given width, None without one.
    """

    lengths: tuple[float, ...]
    gains_log10: tuple[float, ...]
    gain_log10: float
    amplification_log10: float
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
    spread = None
    if width is not None:
        spread = 0.5 * norm_spread(layer.activation, lengths, [width] * depth) / math.log(10.0)
    return Profile(
        tuple(lengths),
        gains,
        math.fsum(gains),
        2.0 * sum(_half_log10(abs(layer.length_slope(q))) for q in lengths),
        spread,
    )


def norm_spread(activation: Activation, lengths: Sequence[float], widths: Sequence[int]) -> float:
    """Return sd of ln ‖J‖² over random weights, for layers of these lengths and widths.

    √Σ (3κ − 1)/n with κ = E φ'⁴/(E φ'²)² (Hanin & Nica 2020); ln ‖J‖ has half of it.
    """
    each = (
        (3.0 * moments(activation, q).kurtosis - 1.0) / n
        for q, n in zip(lengths, widths, strict=True)
    )
    return math.sqrt(sum(each))


def _half_log10(square: float) -> float:
    return 0.5 * math.log10(square) if square > 0.0 else -math.inf
