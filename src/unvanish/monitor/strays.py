"""Ranks that stray from the others: in loss, in the level of the backward signal, in time.

At each sample a rank's distance is the one from the median of all ranks, which a straying minority
does not move. How far is too far is argued from the spread that is usual between ranks: 1.4826
times the median of the distances over the last samples (without the one rank that *is* the median,
and the lower median, so that of three ranks one may stray from the start), which estimates a
standard deviation. A distance beyond six of them has a chance below 1e-8 where the noise is
Gaussian, and batches are somewhat heavier-tailed than that; and it must matter: a loss that differs
from the others' by half, a level by half a decade, a time longer by half.
Hysteresis: a rank is named after two samples in a row, and again only after four without.

Of two ranks neither is the odd one by numbers alone. Then it is the one that is farther from what
both were like at the earlier samples, so that only a change is named. Of times only the slower is:
it is the one waited for; and of two ranks, where it is so from the start, the spread is that of
their difference over time.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, median_low
from typing import Literal

Quantity = Literal["loss", "level", "seconds"]

_SPREADS = 6.0
_SAMPLES = 16  # that say what is usual
_ENOUGH = 4  # samples before a judgement, except on what is not finite
_NAME_AFTER = 2
_CLEAR_AFTER = 4
_HALF = 0.5


@dataclass(frozen=True, slots=True)
class Stray:
    """One rank that left the others, as `value` against the median of theirs."""

    rank: int
    quantity: Quantity
    value: float
    others: float


@dataclass(slots=True)
class _Seen:
    beyond: int = 0  # samples in a row
    within: int = 0
    named: bool = False


class Strays:
    """Judges one quantity from sample to sample."""

    def __init__(self, quantity: Quantity) -> None:
        self._quantity: Quantity = quantity
        self._distances: deque[list[float]] = deque(maxlen=_SAMPLES)
        self._before: deque[float] = deque(maxlen=_SAMPLES)  # middles of earlier samples
        self._differences: deque[float] = deque(maxlen=_SAMPLES)  # of two ranks, with their sign
        self._seen: dict[int, _Seen] = {}

    def judge(self, values: Sequence[float]) -> list[Stray]:
        """Take in one sample, a value for each rank (nan: unknown); return who is newly named."""
        named = []
        beyond = self._beyond(values)
        for rank in range(len(values)):
            seen = self._seen.setdefault(rank, _Seen())
            if rank not in beyond:
                seen.beyond, seen.within = 0, seen.within + 1
                seen.named = seen.named and seen.within < _CLEAR_AFTER
                continue
            seen.beyond, seen.within = seen.beyond + 1, 0
            if seen.beyond >= _NAME_AFTER and not seen.named:
                seen.named = True
                named.append(Stray(rank, self._quantity, values[rank], beyond[rank]))
        return named

    def _beyond(self, values: Sequence[float]) -> dict[int, float]:
        """Return, by rank that is too far from the others, the median of theirs."""
        known = {rank: value for rank, value in enumerate(values) if math.isfinite(value)}
        if len(known) < 2:
            return {}
        spread = self._spread()
        middle = median(known.values())
        found: dict[int, float] = {}
        for rank, value in known.items():
            others = median(other for at, other in known.items() if at != rank)
            far = spread is not None and abs(value - middle) > _SPREADS * spread
            if far and self._matters(value, others):
                found[rank] = others
        if len(found) == len(known) and self._before:  # of two: the one that has moved
            usual = median(self._before)
            del found[min(found, key=lambda rank: abs(known[rank] - usual))]
        self._remember(list(known.values()), middle)
        return found

    def _remember(self, values: Sequence[float], middle: float) -> None:
        distances = sorted(abs(value - middle) for value in values)
        self._distances.append(distances[len(values) % 2 :])
        self._before.append(middle)
        if len(values) == 2:
            self._differences.append(values[0] - values[1])

    def _spread(self) -> float | None:
        """Return the usual spread between ranks; None where too little is known."""
        if len(self._distances) < _ENOUGH:
            return None
        if self._quantity == "seconds" and len(self._differences) == len(self._distances):
            usual = median(self._differences)
            return 1.4826 * median(abs(item - usual) for item in self._differences) / 2
        return 1.4826 * median_low(item for sample in self._distances for item in sample)

    def _matters(self, value: float, others: float) -> bool:
        distance = value - others
        if self._quantity == "seconds":
            return distance > _HALF * others
        least = _HALF * abs(others) if self._quantity == "loss" else _HALF
        return abs(distance) > least
