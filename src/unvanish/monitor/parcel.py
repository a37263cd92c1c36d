"""What the ranks tell each other at one sample: one vector of float64, added up over all ranks.

A row of its own for each rank (the others add zeros there), then the parts of every parameter that
is spread over ranks: squared norms and counts, which add up to the whole parameter's. Parameters
that every rank has whole (DistributedDataParallel) need no parts: each rank knows them, and they
count once.

Squared norms keep the range: float64 holds the square of every float32, so one number does. Where
parameters are float64, three numbers do, for small, usual and large norms, scaled apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields

from unvanish.measure.reduce import join_log10, log10

WELL, FAILED = 1.0, 2.0
_NUMBER = 8  # bytes
_BAND = 100.0  # decades about 1 in which a norm is "usual" where parameters are float64
_APART = 200.0  # decades by which small and large norms are moved toward 1
_NORMS = ("gradient", "weight", "change")
_COUNTS = ("zeros", "subnormals", "nonfinite", "with_gradient")


@dataclass(frozen=True, slots=True)
class Row:
    """What one rank says of itself. Unknown numbers are nan."""

    step: float  # the sampled step
    state: float = WELL  # or FAILED: its monitor does no more than keep step
    seconds: float = math.nan  # from the end of a step to its backward: data and forward
    loss: float = math.nan
    level: float = math.nan  # log10 of the backward signal where the trunk begins
    copies: float = math.nan  # log10 of the joint norm of the parameters it has whole
    cost: float = 0.0  # seconds that a sampled look takes
    bare: float = 0.0  # seconds of a step without one
    spent: float = 0.0  # seconds of all sampled looks
    elapsed: float = 0.0  # seconds since the start
    messages: float = 0.0  # that it has posted so far


ROW = len(fields(Row))


@dataclass(slots=True)
class Part:
    """This rank's part in one parameter, or the sum of all: log10 of norms, and counts."""

    gradient: float = -math.inf
    weight: float = -math.inf
    change: float = -math.inf
    zeros: float = 0.0
    subnormals: float = 0.0
    nonfinite: float = 0.0
    with_gradient: float = 0.0


@dataclass(frozen=True, slots=True)
class Layout:
    """What lies where in the vector: the same on all ranks."""

    ranks: int
    names: tuple[str, ...]  # of the parameters that are spread over ranks
    wide: bool = False  # three numbers for each norm: some parameters are float64

    @property
    def size(self) -> int:
        """How many numbers the vector has."""
        width = len(_NORMS) * self._lanes + len(_COUNTS)
        return self.ranks * ROW + len(self.names) * width

    @property
    def bytes(self) -> int:
        """How many bytes a rank gives at each sample."""
        return self.size * _NUMBER

    @property
    def _lanes(self) -> int:
        return 3 if self.wide else 1

    def pack(self, rank: int, row: Row, parts: Mapping[str, Part]) -> list[float]:
        """Return the numbers that `rank` adds; it has no part in names that are missing."""
        numbers = [0.0] * (self.ranks * ROW)
        numbers[rank * ROW : (rank + 1) * ROW] = map(float, astuple(row))
        nothing = Part()
        for name in self.names:
            part = parts.get(name, nothing)
            for norm in _NORMS:
                numbers += self._squares(getattr(part, norm))
            numbers += [getattr(part, count) for count in _COUNTS]
        return numbers

    def unpack(self, numbers: Sequence[float]) -> tuple[list[Row], dict[str, Part]]:
        """Return the rows of all ranks, and the sums of their parts."""
        rows = [Row(*numbers[rank * ROW : (rank + 1) * ROW]) for rank in range(self.ranks)]
        rest = iter(numbers[self.ranks * ROW :])
        return rows, {name: self._part(rest) for name in self.names}

    def _part(self, numbers: Iterator[float]) -> Part:
        norms = [self._norm([next(numbers) for _lane in range(self._lanes)]) for _norm in _NORMS]
        return Part(*norms, *(next(numbers) for _count in _COUNTS))

    def _squares(self, norm: float) -> list[float]:
        if not self.wide:
            return [_square(norm)]
        if norm < -_BAND:
            return [_square(norm + _APART), 0.0, 0.0]
        if norm > _BAND and math.isfinite(norm):
            return [0.0, 0.0, _square(norm - _APART)]
        return [0.0, _square(norm), 0.0]

    def _norm(self, squares: Sequence[float]) -> float:
        logs = [0.5 * log10(square) for square in squares]
        if not self.wide:
            return logs[0]
        small, usual, large = logs
        return join_log10([small - _APART, usual, large + _APART])


def _square(norm_log10: float) -> float:
    """Return the square of a norm: 0 for nothing; inf and nan stay what they are."""
    if not math.isfinite(norm_log10):
        return norm_log10 if norm_log10 != -math.inf else 0.0
    return float(10.0 ** (2.0 * norm_log10))
