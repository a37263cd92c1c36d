"""A traced network's gradient, predicted from its weights' sizes: stage by stage, with error bars.

Lengths and correlations go forward through the stages (`stages`), from a measured start; where a
stage is not known to theory they start again from the next measurement. Then the variance over
random weights is added up from the network's output back to its input, as in `depth.log_variances`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from unvanish.meanfield.stages import Effect, Signal, Stage

NORMAL_90 = 1.6448536269514722  # standard deviations to either side that hold 90 %


@dataclass(frozen=True, slots=True)
class Step:
    """A stage, and the signal measured behind it (None: not measured)."""

    stage: Stage
    measured: Signal | None = None


@dataclass(frozen=True, slots=True)
class Predicted:
    """One stage's gain, and that from the network's output through it, as log10 of norms.

    The gain is that of the median network. NaN where theory has nothing to say; `total` and the
    spreads are then NaN from there to the input. `amplification` is log10 of the factor by which
    a small relative error of the first length has grown behind this stage (∏ χ∥ q/q').
    """

    gain: float
    spread: float
    total: float
    total_spread: float
    amplification: float
    reason: str | None


def predict(
    steps: Sequence[Step], *, own: float = 1.0, alike: float = 1.0, start: Signal | None = None
) -> list[Predicted]:
    """Return a prediction for each of the `steps`, all in forward order.

    `own` and `alike` describe the gradient at the network's output as in `Effect.variance`; 1 and 1
    are those of a single sample. `start` is the signal before the first step.
    """
    effects, amplified = _forward(steps, start)
    found: list[Predicted] = []
    total = variance = adjoint = 0.0  # adjoint: d log of all gains above / d log length here
    for effect, amplification in zip(reversed(effects), reversed(amplified), strict=True):
        direct = effect.variance(own, alike)
        pairs = _between(own, effect)
        by_length = adjoint * (adjoint * effect.injected + 2.0 * effect.along) * pairs
        # Of a logarithm, median and mean lie half the variance below the logarithm of the mean.
        gain = effect.log_gain - 0.5 * direct
        total += gain
        variance += max(direct + by_length, 0.0)
        found.append(
            Predicted(
                gain=_half(gain),
                spread=_half(math.sqrt(direct)),
                total=_half(total),
                total_spread=_half(math.sqrt(variance)),
                amplification=_half(2.0 * amplification),
                reason=effect.reason,
            )
        )
        adjoint = effect.of_length + effect.passes * adjoint
        alike = own + max(alike - own, 0.0) * effect.decay**2
    return found[::-1]


def _forward(steps: Sequence[Step], start: Signal | None) -> tuple[list[Effect], list[float]]:
    signal, amplified = start, 0.0
    effects, along = [], []
    for step in steps:
        known = signal is not None
        effect, signal = step.stage.through(signal)
        if signal is None:
            signal, amplified = step.measured, 0.0
        elif known:
            amplified += math.log(max(abs(effect.passes), 1e-30))
        effects.append(effect)
        along.append(amplified)
    return effects, along


def _between(own: float, effect: Effect) -> float:
    """Return the share of a length's fluctuation that all samples of a batch have in common."""
    if effect.kurtosis <= 1.0:
        return 1.0
    return own + (1.0 - own) * (effect.pair_kurtosis - 1.0) / (effect.kurtosis - 1.0)


def _half(natural: float) -> float:
    """Return log10 of a norm, from the natural logarithm of its square."""
    return 0.5 * natural / math.log(10.0)
