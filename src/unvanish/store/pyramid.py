"""Summaries of one quantity, written as one goes: what a long run looks like from afar.

Samples are joined by fours into buckets of level 1, four of these into one of level 2, and so on.
A bucket keeps for each name the least, the mean and the greatest value, so that a spike of a single
step is seen however far away one stands. A million samples make ten levels; any view of the whole
needs one of them, and adding a sample costs 4/3 of a bucket on average.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

FAN = 4  # buckets of one level that make one of the next


@dataclass(slots=True, eq=False)  # not frozen, which makes making one three times as slow
class Bucket:
    """Some samples of one quantity as one: arrays have an entry for each of `names`.

    Nothing changes one once it is made.

    A value that is NaN counts as infinity in `high`: both say that an entry was not finite. NaN in
    `low` and `high` is a name that was not read at all.
    """

    first: int  # step
    last: int
    count: int  # samples
    names: tuple[str, ...]
    low: Floats
    high: Floats
    total: NDArray[np.float64]  # of finite values
    finite: NDArray[np.int32] | None = None  # how many these were; None: `count` of each

    @property
    def mean(self) -> Floats:
        """The mean of the finite values; NaN where there are none."""
        if self.finite is None:
            return (self.total / self.count).astype(np.float32)
        with np.errstate(invalid="ignore"):
            return (self.total / self.finite).astype(np.float32)


def of_sample(step: int, names: tuple[str, ...], values: Floats) -> Bucket:
    """Return the bucket of one sample."""
    total = values.astype(np.float64)
    finite = np.isfinite(values)
    if np.logical_and.reduce(finite):
        return Bucket(step, step, 1, names, values, values, total)
    high = np.where(np.isnan(values), np.float32(np.inf), values)
    return Bucket(
        step, step, 1, names, values, high, np.where(finite, total, 0), finite.astype(np.int32)
    )


def of_some(step: int, names: tuple[str, ...], values: Sequence[float | None]) -> Bucket:
    """Return the bucket of one sample in which the None among `values` were not read."""
    low = [math.nan if value is None else value for value in values]
    high = [
        math.nan if value is None else math.inf if math.isnan(value) else value for value in values
    ]
    finite = [math.isfinite(value) for value in low]
    total = [value if good else 0.0 for value, good in zip(low, finite, strict=True)]
    return Bucket(
        step, step, 1, names, np.array(low, np.float32), np.array(high, np.float32),
        np.array(total), None if all(finite) else np.array(finite, np.int32),
    )  # fmt: skip


def joined(buckets: Sequence[Bucket]) -> Bucket:
    """Return `buckets`, in order, as one."""
    names = buckets[0].names
    if any(one.names != names for one in buckets):
        names = tuple(dict.fromkeys(name for one in buckets for name in one.names))
        buckets = [widened(one, names) for one in buckets]
    finite = None
    if any(one.finite is not None for one in buckets):
        finite = _all(np.add, [_finite(one) for one in buckets])
    return Bucket(
        min([one.first for one in buckets]),
        max([one.last for one in buckets]),
        sum([one.count for one in buckets]),
        names,
        _all(np.fmin, [one.low for one in buckets]),
        _all(np.fmax, [one.high for one in buckets]),
        _all(np.add, [one.total for one in buckets]),
        finite,
    )


def _all(both: np.ufunc, arrays: Sequence[Any]) -> Any:
    """Return `arrays` reduced by `both`; for few short ones faster than `both.reduce`."""
    found = arrays[0].copy()
    for one in arrays[1:]:
        both(found, one, out=found)
    return found


def _finite(bucket: Bucket) -> NDArray[np.int32]:
    if bucket.finite is not None:
        return bucket.finite
    return np.full(len(bucket.names), bucket.count, np.int32)


def widened(bucket: Bucket, names: tuple[str, ...]) -> Bucket:
    """Return `bucket` with more names, which were not read in it."""
    if bucket.names == names:
        return bucket
    place = {name: position for position, name in enumerate(names)}
    where = np.array([place[name] for name in bucket.names], np.intp)
    low = np.full(len(names), np.nan, np.float32)
    high, total = low.copy(), np.zeros(len(names))
    finite = np.zeros(len(names), np.int32)
    low[where], high[where] = bucket.low, bucket.high
    total[where], finite[where] = bucket.total, _finite(bucket)
    return replace(bucket, names=names, low=low, high=high, total=total, finite=finite)


class Pyramid:
    """The buckets of one quantity that are not full yet."""

    def __init__(self) -> None:
        self._open: list[list[Bucket]] = []
        self.made: list[int] = []  # full buckets of level 1, 2, ...

    def copy(self) -> Pyramid:
        """Return a pyramid that goes on from here by itself."""
        other = Pyramid()
        other._open = [[*waiting] for waiting in self._open]
        other.made = [*self.made]
        return other

    def add(self, bucket: Bucket) -> list[tuple[int, Bucket]]:
        """Take in a sample; return the buckets that it makes full, with their levels."""
        full: list[tuple[int, Bucket]] = []
        for level in range(len(self._open) + 1):
            if level == len(self._open):
                self._open.append([])
                self.made.append(0)
            waiting = self._open[level]
            waiting.append(bucket)
            if len(waiting) < FAN:
                break
            bucket = joined(waiting)
            waiting.clear()
            self.made[level] += 1
            full.append((level + 1, bucket))
        return full
