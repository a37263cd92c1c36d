"""The phase diagram of an activation: the gain of a layer at its fixed point, over σ_w and σ_b."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from unvanish.errors import UsageError
from unvanish.meanfield.activation import Activation, Array
from unvanish.meanfield.critical import CriticalPoint, critical_line
from unvanish.meanfield.moments import mean_square, slope_mean_square

# Lengths between which fixed points are looked for, eight to a decade: between two of them log E φ²
# is near enough to straight for a picture (1 % in q).
_LENGTHS = 10.0 ** (np.arange(-48.0, 33.0) / 8.0)
_START = 48  # q = 1
_SAME = 1e-9


@dataclass(frozen=True, slots=True)
class Diagram:
    """½ log10 χ₁ at the fixed point, by σ_b (rows) and σ_w (columns), and the critical line.

    0 is critical; below, gradients vanish (ordered); above, they grow (chaotic). Where lengths
    vanish or explode it is the value at q = 1e-6 or 1e4.
    """

    sigma_w: tuple[float, ...]
    sigma_b: tuple[float, ...]
    gain_log10: tuple[tuple[float, ...], ...]
    line: tuple[CriticalPoint, ...]  # in order of length


def diagram(activation: Activation, sigma_w: Sequence[float], sigma_b: Sequence[float]) -> Diagram:
    """Return the phase diagram over a grid, from networks that start at q = 1."""
    lengths, second, slopes = _table(activation)
    start = min(_START, len(lengths) - 1)
    rows = [tuple(_gain(w, b, lengths, second, slopes, start) for w in sigma_w) for b in sigma_b]
    return Diagram(tuple(sigma_w), tuple(sigma_b), tuple(rows), tuple(_line(activation)))


def _table(activation: Activation) -> tuple[Array, Array, Array]:
    """Return lengths, E φ² and E φ'², up to where the activation can be averaged."""
    rows = []
    for q in _LENGTHS.tolist():
        try:
            rows.append((q, mean_square(activation, q), slope_mean_square(activation, q)))
        except UsageError:
            break
    lengths, second, slopes = np.array(rows).T
    return lengths, second, slopes


def _gain(
    sigma_w: float, sigma_b: float, lengths: Array, second: Array, slopes: Array, start: int
) -> float:
    excess = (sigma_w**2 * second + sigma_b**2) / lengths - 1.0
    here = excess[start]
    if abs(here) <= _SAME:
        return _half_log10(sigma_w**2 * slopes[start])
    upward = here > 0.0
    side = excess[start:] if upward else excess[start::-1]
    crossed = np.flatnonzero(side * here <= 0.0)
    if not len(crossed):
        return _half_log10(sigma_w**2 * slopes[-1 if upward else 0])
    after = start + crossed[0] * (1 if upward else -1)
    before = after - (1 if upward else -1)
    share = excess[before] / (excess[before] - excess[after])
    return _half_log10(sigma_w**2 * (slopes[before] + share * (slopes[after] - slopes[before])))


def _line(activation: Activation) -> Iterator[CriticalPoint]:
    for q in _LENGTHS[::2].tolist():
        try:
            point = critical_line(activation, q)
        except UsageError:
            continue
        if point.sigma_b2 >= 0.0:
            yield point


def _half_log10(square: float) -> float:
    return 0.5 * float(np.log10(square)) if square > 0.0 else -np.inf
