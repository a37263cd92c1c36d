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

_NOTHING = 1e-30  # of an error that a norm, or a measurement, has wiped out
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
    `by_lengths` is the part of the total's variance (of the natural logarithm of its square) that
    finite width brings about by moving lengths: to first order, so no longer right where large.
    """

    gain: float
    spread: float
    total: float
    total_spread: float
    amplification: float
    by_lengths: float
    reason: str | None


def predict(
    steps: Sequence[Step],
    *,
    own: float = 1.0,
    alike: float = 1.0,
    start: Signal | None = None,
    unlike: float = 0.0,
) -> list[Predicted]:
    """Return a prediction for each of the `steps`, all in forward order.

    `own` and `alike` describe the gradient at the network's output as in `Effect.variance`; 1 and 1
    are those of a single sample. `start` is the signal before the first step, and `unlike` the
    relative variance of its samples' lengths: the joint gradient is that of the longest samples
    where gains grow with length.
    """
    passages = _forward(steps, start)
    found: list[Predicted] = []
    total = variance = lengths = adjoint = (
        0.0  # adjoint: d log of all gains above / d log length here
    )
    for effect, grown in reversed(passages):
        direct = effect.variance(own, alike)
        common = own + (1.0 - own) * effect.between
        by_length = adjoint * (adjoint * effect.injected + 2.0 * effect.along) * common
        # Of a logarithm, median and mean lie half the variance below the logarithm of the mean.
        gain = effect.log_gain + effect.median * direct
        total += gain
        variance += max(direct + by_length, 0.0)
        lengths += abs(by_length)
        adjoint = effect.of_length + effect.passes * adjoint
        found.append(
            Predicted(
                gain=_half(gain),
                spread=_half(math.sqrt(direct)),
                total=_half(total + _over_samples(unlike * grown**2, adjoint)),
                total_spread=_half(math.sqrt(variance)),
                amplification=math.log10(max(grown * abs(effect.passes), _NOTHING)),
                by_lengths=lengths,
                reason=effect.reason,
            )
        )
        # Two unlike gradients stay as unlike as chance lets them be: ρ² is 1/n behind n units.
        chance = (1.0 - own) * effect.fresh
        alike = min(1.0, own + max(alike - own, 0.0) * effect.decay**2 + chance)
    return found[::-1]


def _forward(steps: Sequence[Step], start: Signal | None) -> list[tuple[Effect, float]]:
    """Return each stage's effect, and how far a relative error of the start has grown before it."""
    signal, grown = _finite(start), 1.0
    found = []
    for step in steps:
        effect, after = step.stage.through(signal)
        after = _finite(after)  # weights that are NaN leave nothing to predict from
        found.append((effect, grown))
        if after is None:
            signal, grown = step.measured, _NOTHING
        else:
            grown = max(grown * abs(effect.passes), _NOTHING) if signal is not None else _NOTHING
            signal = after
    return found


def _finite(signal: Signal | None) -> Signal | None:
    return signal if signal is not None and math.isfinite(signal.second) else None


def _over_samples(variance: float, adjoint: float) -> float:
    """Return what samples of unlike length add to the logarithm of the mean squared gain.

    With log q spread by `variance` around a mean that lies half of it below log E q, and gains that
    go like qᵃ, a being `adjoint`: ½ a (a − 1) · variance. Held below 1, where it is no correction.
    """
    return min(1.0, 0.5 * variance * adjoint * (adjoint - 1.0))


def _half(natural: float) -> float:
    """Return log10 of a norm, from the natural logarithm of its square."""
    return 0.5 * natural / math.log(10.0)
