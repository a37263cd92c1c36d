"""A run from afar: one quantity in a bounded number of buckets, read without scanning samples."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import numpy as np

from unvanish.i18n import _
from unvanish.records import Readings, Run, StepRecord
from unvanish.store.contract import STEPS, Overview
from unvanish.store.derived import numbers_of, recorded
from unvanish.store.pyramid import Bucket, Floats, joined, of_sample, of_some, widened
from unvanish.store.rows import Layouts, damaged, decoded

_Numbers = np.ndarray[tuple[int], np.dtype[Any]]
_TABLE = "buckets WHERE run = ? AND model = ? AND quantity = ? AND level = ?"


def of_step(step: StepRecord) -> Bucket:
    """Return a step record as a sample."""
    numbers = numbers_of(step)
    return of_some(step.step, tuple(numbers), tuple(numbers.values()))


def of_readings(one: Readings) -> Bucket:
    """Return readings as a sample."""
    return of_sample(one.step, one.names, np.array(one.values, np.float32))


def overview_of(quantity: str, samples: Sequence[Bucket], points: int) -> Overview:
    """Return at most `points` buckets of samples that are in order."""
    size = -(-len(samples) // points)
    if size > 1:
        samples = [joined(samples[at : at + size]) for at in range(0, len(samples), size)]
    layouts = dict.fromkeys(one.names for one in samples)  # few, and in order
    names = tuple(dict.fromkeys(name for some in layouts for name in some))
    wide = [widened(one, names) for one in samples]

    def table(columns: Sequence[Floats]) -> Floats:
        return np.array(columns, np.float32).reshape(len(wide), len(names))

    return Overview(
        quantity=quantity,
        names=names,
        first=np.array([one.first for one in wide], np.int64),
        last=np.array([one.last for one in wide], np.int64),
        count=np.array([one.count for one in wide], np.int64),
        low=table([one.low for one in wide]),
        mean=table([one.mean for one in wide]),
        high=table([one.high for one in wide]),
    )


def of_record(
    run: Run, model: int, quantity: str, points: int, first: int | None, last: int | None
) -> Overview:
    """Return the overview of a run of which there is a record and no samples."""
    found = [recorded(one, quantity, first, last) for one in run.models[model : model + 1]]
    samples = [of_readings(one) for readings in found for one in readings]
    return overview_of(quantity, samples, points)


class View:
    """One quantity of one model of a run in the database, at one moment."""

    def __init__(self, connection: sqlite3.Connection, run: int, model: int, quantity: str) -> None:
        self._execute = connection.execute
        self._key = (run, model, quantity)
        self._layouts = Layouts(connection, run)

    def overview(self, points: int, first: int | None, last: int | None) -> Overview | None:
        """Return at most `points` buckets; None where no sample of the quantity was added."""
        lowest, highest = self._ends()
        if lowest is None or highest is None:
            return None
        start = lowest if first is None else max(first, lowest)
        end = highest if last is None else min(last, highest)
        level = self._level(points, start, end)
        if level == 0:
            return overview_of(self._key[2], self._samples(start, end), points)
        found = self._buckets(level, start, end, whole=False)
        # What is newer than the last full bucket lies in finer ones, and in samples.
        tail: list[Bucket] = []
        for finer in range(level - 1, 0, -1):
            tail += self._buckets(finer, _after(tail or found, start), end, whole=True)
        tail += self._samples(_after(tail or found, start), end)
        return overview_of(self._key[2], [*found, joined(tail)] if tail else found, points)

    def _ends(self) -> tuple[int | None, int | None]:
        table, where = self._samples_table()
        (lowest,) = self._execute(f"SELECT min(step) FROM {table}", where).fetchone()
        (highest,) = self._execute(f"SELECT max(step) FROM {table}", where).fetchone()
        return lowest, highest

    def _samples_table(self) -> tuple[str, tuple[int | str, ...]]:
        if self._key[2] == STEPS:
            return "steps WHERE run = ? AND model = ?", self._key[:2]
        return "readings WHERE run = ? AND model = ? AND quantity = ?", self._key

    def _level(self, points: int, start: int, end: int) -> int:
        """Return the finest level that shows the range in at most twice `points`; 0: the samples.

        Two and two are joined then, so that not much of what `points` can show is given away.
        """
        chosen = self._one("coalesce(max(level), 0)", _TABLE.removesuffix(" AND level = ?"))
        while chosen > 0:  # the finer, the more there are, and the less far back they go
            finer = chosen - 1
            room = 2 * points - 1 if finer else 2 * points  # one more is made of what is newest
            if not self._goes_back_to(max(finer, 1), start):
                break  # (samples are thinned from where level 1 begins)
            if self._count(finer, start, end, room + 1) > room:
                break
            chosen = finer
        return chosen

    def _goes_back_to(self, level: int, start: int) -> bool:
        return bool(self._one("coalesce(min(first), 0)", _TABLE, level) <= start)

    def _count(self, level: int, start: int, end: int, most: int) -> int:
        """Return the number of buckets of a level between two steps, or `most` if it is more."""
        if level == 0:
            table, where = self._samples_table()
            table, steps = f"{table} AND step BETWEEN ? AND ?", (start, end)
        else:
            table, where, steps = f"{_TABLE} AND first BETWEEN ? AND ?", self._key, (start, end)
        levels = (level,) if level else ()
        (count,) = self._execute(
            f"SELECT count(*) FROM (SELECT 1 FROM {table} LIMIT ?)",
            (*where, *levels, *steps, most),
        ).fetchone()
        return int(count)

    def _one(self, what: str, table: str, *more: int) -> int:
        (value,) = self._execute(f"SELECT {what} FROM {table}", (*self._key, *more)).fetchone()
        return int(value)

    def _buckets(self, level: int, start: int, end: int, *, whole: bool) -> list[Bucket]:
        """Return the buckets of a level that meet the range; `whole`: that begin in it."""
        rows = self._execute(
            f'SELECT first, last, count, layout, "values", finite FROM {_TABLE}'
            f" AND first <= ? AND {'first' if whole else 'last'} >= ? ORDER BY first",
            (*self._key, level, end, start),
        )
        return [self._bucket(*row) for row in rows]

    def _bucket(
        self, first: int, last: int, count: int, layout: int, blob: bytes, finite: bytes | None
    ) -> Bucket:
        names = self._layouts.names(layout)
        low, mean, high = self._numbers(blob, "<f4", 3 * len(names)).reshape(3, len(names))
        if finite is None:
            return Bucket(first, last, count, names, low, high, mean.astype(np.float64) * count)
        counts = self._numbers(finite, "<i4", len(names)).astype(np.int32)
        total = np.where(counts > 0, mean, 0) * counts.astype(np.float64)
        return Bucket(first, last, count, names, low, high, total, counts)

    def _samples(self, start: int, end: int) -> list[Bucket]:
        table, where = self._samples_table()
        what = "record" if self._key[2] == STEPS else 'step, layout, "values"'
        rows = self._execute(
            f"SELECT {what} FROM {table} AND step BETWEEN ? AND ? ORDER BY step",
            (*where, start, end),
        )
        if self._key[2] == STEPS:
            return [of_step(decoded(record, StepRecord)) for (record,) in rows]
        return [self._sample(*row) for row in rows]

    def _sample(self, step: int, layout: int, blob: bytes) -> Bucket:
        names = self._layouts.names(layout)
        return of_sample(step, names, self._numbers(blob, "<f4", len(names)))

    def _numbers(self, blob: bytes, kind: str, count: int) -> _Numbers:
        if len(blob) != count * np.dtype(kind).itemsize:
            raise damaged(_("{count} numbers do not fit their names").format(count=len(blob) // 4))
        return np.frombuffer(blob, kind)


def _after(known: Sequence[Bucket], start: int) -> int:
    """Return the first step that is not in `known`."""
    return known[-1].last + 1 if known else start
