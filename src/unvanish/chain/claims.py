"""Three claims that are made for the ReLU, tested instead of repeated.

1. Its slope is 1 where z > 0.
2. So the product of the chain rule "neither grows nor shrinks". In a chain of single neurons with
   random weights this cannot even be asked: one negative z among L kills the product, and only 1
   draw in 2^L survives. So it is asked of layers of WIDTH neurons: a random unit vector is
   propagated back through d layers, and its length is the gain.
   Theory: E[gain^2] = (s/2)^d, where s = WIDTH Var(w), exactly and at any width. For (w, b) and
   (-w, -b) are equally likely, so a unit is on for half of the weights whatever its input, and what
   comes back is isotropic again. (The backward case of He et al. 2015, section 2.2, here
   without large width; the share 2^-WIDTH of layers with no unit on at all is left out.)
3. Its derivative is cheap: the time it takes against the sigmoid's, measured side by side.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import mul

from unvanish.chain.activations import relu, relu_slope, sigmoid, sigmoid_slope
from unvanish.shown import Shown

DRAWS = 1000
WIDTH = 16
DEPTHS = (1, 2, 5, 10, 20)
SEED = 0

STEADY = 0.02  # decades a layer; a gain that drifts less is said to keep its size

# name -> WIDTH Var(w). All three draw w from an interval around 0, as PyTorch does: Linear's
# default (which draws b from the same interval), xavier_uniform_, kaiming_uniform_ for the ReLU.
SCHEMES = {"default": 1.0 / 3.0, "xavier": 1.0, "he": 2.0}


@dataclass(frozen=True, slots=True)
class SlopeClaim:
    """Slopes by central differences, at `draws` random z ~ N(0, 1)."""

    draws: int
    on_share: float  # of z > 0
    worst_on: float  # greatest |slope - 1| where z > 0
    worst_off: float  # greatest |slope| where z < 0
    sigmoid_largest: float  # the sigmoid's greatest slope at the same z

    @property
    def holds(self) -> bool:
        """The slope is 1 on one side and 0 on the other, to what differences can tell."""
        return self.worst_on < 1e-6 and self.worst_off < 1e-6


@dataclass(frozen=True, slots=True)
class Spread:
    """The gain of `depth` ReLU layers over many draws of the weights."""

    scheme: str
    depth: int
    width: int
    draws: int
    rms_log10: float  # log10 of the root of the mean of gain^2
    theory_log10: float  # the same by theory
    standard_error: float  # of the mean of gain^2, relative to it
    low_log10: float  # 5 % of the draws are below
    median_log10: float
    high_log10: float  # 5 % of the draws are above

    @property
    def steady(self) -> bool:
        """The mean gain neither grows nor shrinks."""
        return abs(self.rms_log10) < STEADY * self.depth


@dataclass(frozen=True, slots=True)
class CostClaim:
    """Time for the sigmoid's slope over time for the ReLU's, medians of interleaved rounds."""

    rounds: int
    from_z: float  # both computed from z
    from_a: float  # both from the activation that the forward pass has kept: a(1 - a), a > 0


@dataclass(frozen=True, slots=True, repr=False)
class Claims(Shown):
    """What became of the three claims."""

    slope: SlopeClaim
    spread: tuple[Spread, ...]
    cost: CostClaim

    def __repr__(self) -> str:
        steady = ", ".join(dict.fromkeys(row.scheme for row in self.spread if row.steady))
        return f"<Claims: slope {self.slope.holds}, steady {steady or None}>"


def run_claims(draws: int = DRAWS, seed: int = SEED) -> Claims:
    """Test all three."""
    spreads = tuple(row for scheme in SCHEMES for row in measure_spread(scheme, draws, seed))
    return Claims(measure_slopes(draws, seed), spreads, measure_cost())


def measure_slopes(draws: int = DRAWS, seed: int = SEED) -> SlopeClaim:
    """Measure the ReLU's slope on both sides of its kink, and the sigmoid's beside it."""
    step = 2.0**-20
    source = random.Random(seed)
    zs = [z for z in (source.gauss() for _draw in range(draws)) if abs(z) > step]
    on = [_difference(relu, z, step) for z in zs if z > 0]
    off = [_difference(relu, z, step) for z in zs if z < 0]
    return SlopeClaim(
        draws=draws,
        on_share=len(on) / len(zs),
        worst_on=max(abs(slope - 1.0) for slope in on),
        worst_off=max(abs(slope) for slope in off),
        sigmoid_largest=max(_difference(sigmoid, z, step) for z in zs),
    )


def measure_spread(
    scheme: str,
    draws: int = DRAWS,
    seed: int = SEED,
    depths: Sequence[int] = DEPTHS,
    width: int = WIDTH,
) -> list[Spread]:
    """Draw `draws` networks with the weights of `scheme`, and return their gains by depth."""
    source = random.Random(seed)
    gains = [_draw_gains(source, scheme, max(depths), width) for _draw in range(draws)]
    rows = []
    for depth in depths:
        squares = sorted(draw[depth - 1] for draw in gains)
        logs = [0.5 * math.log10(square) if square else -math.inf for square in squares]
        mean = math.fsum(squares) / draws
        rows.append(
            Spread(
                scheme=scheme,
                depth=depth,
                width=width,
                draws=draws,
                rms_log10=0.5 * math.log10(mean) if mean else -math.inf,
                theory_log10=0.5 * depth * math.log10(SCHEMES[scheme] / 2.0),
                standard_error=statistics.stdev(squares) / math.sqrt(draws) / mean,
                low_log10=logs[draws // 20],
                median_log10=logs[draws // 2],
                high_log10=logs[draws - 1 - draws // 20],
            )
        )
    return rows


def measure_cost(rounds: int = 100, size: int = 500, seed: int = SEED) -> CostClaim:
    """Time both slopes in turns on the same numbers; the ratio depends on machine and language."""
    source = random.Random(seed)
    zs = [source.gauss() for _draw in range(size)]
    kept = [sigmoid(z) for z in zs]
    return CostClaim(
        rounds=rounds,
        from_z=_ratio(sigmoid_slope, relu_slope, zs, rounds),
        from_a=_ratio(lambda a: a * (1.0 - a), lambda a: 1.0 if a > 0 else 0.0, kept, rounds),
    )


def _difference(function: Callable[[float], float], z: float, step: float) -> float:
    return (function(z + step) - function(z - step)) / (2.0 * step)


def _draw_gains(source: random.Random, scheme: str, depth: int, width: int) -> list[float]:
    """Draw one network; return gain^2 of its last 1, 2, ... `depth` layers."""
    limit = math.sqrt(3.0 * SCHEMES[scheme] / width)  # of an interval with that variance
    uniform = source.random
    h = [source.gauss() for _unit in range(width)]
    kept = []  # the rows of each layer, and which of its units are on
    for _layer in range(depth):
        rows = [[limit * (2.0 * uniform() - 1.0) for _in in h] for _out in h]
        biases = [limit * (2.0 * uniform() - 1.0) if scheme == "default" else 0.0 for _out in h]
        zs = [sum(map(mul, row, h)) + bias for row, bias in zip(rows, biases, strict=True)]
        kept.append((rows, [relu_slope(z) for z in zs]))
        h = [relu(z) for z in zs]

    v = [source.gauss() for _unit in range(width)]
    length = sum(map(mul, v, v))
    squares = []
    for rows, slopes in reversed(kept):
        v = list(map(mul, v, slopes))
        v = [sum(map(mul, column, v)) for column in zip(*rows, strict=True)]
        squares.append(sum(map(mul, v, v)) / length)
    return squares


def _ratio(
    slow: Callable[[float], float],
    fast: Callable[[float], float],
    numbers: Sequence[float],
    rounds: int,
) -> float:
    """Return the median over rounds of the time of `slow` over the time of `fast`."""
    ratios = []
    for _round in range(rounds):
        start = time.perf_counter()
        for number in numbers:
            slow(number)
        middle = time.perf_counter()
        for number in numbers:
            fast(number)
        end = time.perf_counter()
        ratios.append((middle - start) / max(end - middle, 1e-9))
    return statistics.median(ratios)
