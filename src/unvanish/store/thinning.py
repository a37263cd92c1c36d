"""What is kept of a long run: the newest samples each, older ones ever more seldom.

Of the newest `retention` samples of a quantity each is kept, before them every fourth up to four
times that age, before them every sixteenth, and so on: the count grows with the logarithm of the
run's length. What lies between is in the buckets (`pyramid`), which are thinned alike: of each
level the newest quarter of `retention` is kept. Alarms and incidents are never thinned.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from unvanish.errors import UsageError
from unvanish.i18n import _
from unvanish.store.contract import STEPS
from unvanish.store.pyramid import FAN, Bucket, Pyramid

_LEAST = 64
_AT_ONCE = 32  # buckets that are taken out together
_TRACES = 32  # the newest traces that are all kept
Key = tuple[int, str]  # model, quantity


def check_retention(retention: int | None) -> None:
    """Raise UsageError for a retention that cannot be."""
    if retention is not None and retention < _LEAST:
        raise UsageError(
            _("retention must be at least {least}, and is {retention}").format(
                least=_LEAST, retention=retention
            ),
            _("Give the number of recent samples to keep, or None to keep all."),
        )


class Summaries:
    """Writes the buckets of one run, and takes out what has become too old for its density."""

    def __init__(self, connection: sqlite3.Connection, run: int, retention: int | None) -> None:
        self._execute: Callable[..., Any] = connection.execute
        self._run = run
        self._keep = None if retention is None else -(-retention // FAN)  # buckets of a level
        self._pyramids: dict[Key, Pyramid] = {}

    def copies(self, keys: Collection[Key]) -> dict[Key, Pyramid]:
        """Return the state of some quantities, for `restore`."""
        return {key: self._pyramids[key].copy() for key in keys if key in self._pyramids}

    def restore(self, keys: Collection[Key], copies: dict[Key, Pyramid]) -> None:
        """Go back to `copies`: what was written since has been rolled back."""
        for key in keys:
            self._pyramids.pop(key, None)
        self._pyramids |= copies

    def add(self, key: Key, bucket: Bucket, layout: Callable[[tuple[str, ...]], int]) -> None:
        """Take in a sample; `layout` numbers a list of names."""
        pyramid = self._pyramids.setdefault(key, Pyramid())
        for level, full in pyramid.add(bucket):
            blob = np.concatenate((full.low, full.mean, full.high)).astype("<f4").tobytes()
            finite = None if full.finite is None else full.finite.astype("<i4").tobytes()
            self._execute(
                "INSERT OR REPLACE INTO buckets VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (self._run, *key, level, full.first, full.last, full.count, layout(full.names),
                 blob, finite),
            )  # fmt: skip
            if self._keep is not None:
                excess = pyramid.made[level - 1] - self._keep
                # Many at once: rows that were written together share pages.
                if excess >= _AT_ONCE and excess % _AT_ONCE == 0:
                    self._age(key, level)

    def _age(self, key: Key, level: int) -> None:
        """Take out the oldest buckets of a level, and the samples in them but their first ones."""
        oldest = (
            "FROM buckets WHERE run = ? AND model = ? AND quantity = ? AND level = ?"
            " ORDER BY first LIMIT ?"
        )
        where = (self._run, *key, level, _AT_ONCE)
        start, end = self._execute(
            f"SELECT min(first), max(last) FROM (SELECT first, last {oldest})", where
        ).fetchone()
        samples, which = "readings", "run = ? AND model = ? AND quantity = ?"
        those: tuple[int | str, ...] = (self._run, *key)
        if key[1] == STEPS:
            samples, which, those = "steps", "run = ? AND model = ?", (self._run, key[0])
        self._execute(
            f"DELETE FROM {samples} WHERE {which} AND step BETWEEN ? AND ?"
            f" AND step NOT IN (SELECT first {oldest})",
            (*those, start, end, *where),
        )
        self._execute(f"DELETE FROM buckets WHERE rowid IN (SELECT rowid {oldest})", where)


class Ordinals:
    """Which of numbered rows are kept: the newest `dense`, every fourth before them, and so on."""

    def __init__(self, dense: int = _TRACES) -> None:
        self._dense = dense
        self._count = 0
        self._rows: dict[int, int] = {}  # ordinal -> row

    def copy(self) -> Ordinals:
        """Return a copy that goes on from here by itself."""
        other = Ordinals(self._dense)
        other._count, other._rows = self._count, dict(self._rows)
        return other

    def add(self, row: int) -> list[int]:
        """Take in the next row; return those that are to go. The very first stays."""
        self._rows[self._count] = row
        gone, stride = [], 1
        while (old := self._count - self._dense * stride) > 0:
            if old % stride == 0 and old % (FAN * stride) != 0:
                gone.append(self._rows.pop(old))
            stride *= FAN
        self._count += 1
        return gone
