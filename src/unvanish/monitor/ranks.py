"""The ranks of a distributed training, in a process group of our own.

The group is gloo's, on the CPU, beside whatever the training uses: our numbers never wait for its
collectives, nor its for ours. It is not registered with torch.distributed, so that names and order
of the user's own groups stay as they are. Ranks find each other through the store of the default
group. Alarms are texts of any length: they are put into the store too, for the others to fetch.
"""

from __future__ import annotations

import datetime
import hashlib
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, distributed

from unvanish.i18n import _

_PAUSE = 0.02  # seconds between two looks at the store while the ranks come together
_assumed: Place | None = None
_joined = 0  # how often this process joined: ranks run the same program, so it is their common name


class RanksError(Exception):
    """The ranks do not come together, or one does not answer; the message says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which of the processes this is."""

    rank: int
    ranks: int


def assume(place: Place) -> None:
    """Take this for the process's place until torch.distributed knows better."""
    global _assumed
    _assumed = place


def place() -> Place:
    """Return this process's place: as torch.distributed knows it, else as torchrun says."""
    if distributed.is_available() and distributed.is_initialized():
        return Place(distributed.get_rank(), distributed.get_world_size())
    if _assumed is not None:
        return _assumed
    try:
        return Place(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
    except ValueError:
        return Place(0, 1)


class Sum(Protocol):
    """A sum over ranks under way."""

    def values(self, timeout: float) -> list[float]:
        """Return the sums, after waiting at most `timeout` seconds. Raises RanksError."""


class Ranks:
    """All ranks, once they are together. Every method but `post` and `fetch` is quick."""

    def __init__(self, place: Place, group: Any, store: Any) -> None:
        self.place = place
        self._group = group
        self._store = store

    @classmethod
    def join(cls, layout: Sequence[object], patience: float, timeout: float) -> Ranks | None:
        """Come together with the other ranks; None if the training is not distributed.

        `layout` is what all ranks must agree on. Raises RanksError if they do not, or if one does
        not come within `patience` seconds. A sum may take `timeout` seconds.
        """
        global _joined
        if not (distributed.is_available() and distributed.is_initialized()):
            return None
        here = place()
        if here.ranks == 1:
            return None
        name, _joined = f"unvanish/{_joined}", _joined + 1
        try:
            store = _within(_default_store(), name)
            digest = hashlib.sha256(repr([here.ranks, *layout]).encode()).hexdigest()
            _call_roll(store, digest, here.ranks, patience)
            group = distributed.ProcessGroupGloo(
                _within(store, "group"),
                here.rank,
                here.ranks,
                datetime.timedelta(seconds=timeout),
            )
        except RanksError:
            raise
        except Exception as error:  # of c10d: they have no common class
            raise RanksError(_reason(error)) from error
        return cls(here, group, store)

    def add_up(self, vector: Tensor) -> Sum:
        """Begin to add up `vector` (float64, on the CPU) over all ranks: the one collective.

        Raises RanksError.
        """
        try:
            work = self._group.allreduce([vector], distributed.AllreduceOptions())
        except Exception as error:
            raise RanksError(_reason(error)) from error
        return _Sum(work, vector)

    def post(self, number: int, message: bytes) -> None:
        """Leave a message for all ranks under its number, counted from 0 by each rank.

        Raises RanksError.
        """
        try:
            self._store.set(f"message/{self.place.rank}/{number}", message)
        except Exception as error:
            raise RanksError(_reason(error)) from error

    def fetch(self, rank: int, number: int) -> bytes:
        """Return a message that `rank` has posted. Raises RanksError."""
        try:
            message: bytes = self._store.get(f"message/{rank}/{number}")
        except Exception as error:
            raise RanksError(_reason(error)) from error
        return message

    def leave(self) -> None:
        """Close the connections; ranks that wait for us are told at once."""
        self._group = None


class _Sum:
    def __init__(self, work: Any, vector: Tensor) -> None:
        self._work = work
        self._vector = vector

    def values(self, timeout: float) -> list[float]:
        """See `Sum`."""
        try:
            self._work.wait(datetime.timedelta(seconds=max(timeout, 0.001)))
        except Exception as error:
            raise RanksError(_reason(error)) from error
        numbers: list[float] = self._vector.tolist()
        return numbers


def _default_store() -> Any:
    from torch.distributed.distributed_c10d import _get_default_store

    return _get_default_store()


def _within(store: Any, name: str) -> Any:
    from torch.distributed.distributed_c10d import PrefixStore

    return PrefixStore(name, store)


def _call_roll(store: Any, digest: str, ranks: int, patience: float) -> None:
    """Wait until all ranks have come with the same digest.

    Each rank adds to two counters and the last one to come says the result, so that the work at
    the store grows with the number of ranks and not with its square.
    """
    store.add(f"alike/{digest}", 1)
    if store.add("come", 1) == ranks:
        alike = store.add(f"alike/{digest}", 0)
        store.set("result", "alike" if alike == ranks else "apart")
    deadline = time.monotonic() + patience
    while not store.check(["result"]):
        if time.monotonic() > deadline:
            come = store.add("come", 0)
            raise RanksError(_("{come} of {ranks} ranks came").format(come=come, ranks=ranks))
        time.sleep(_PAUSE * min(8.0, max(1.0, math.log2(ranks))))
    if store.get("result") != b"alike":
        raise RanksError(_("they have different parameters"))


def _reason(error: Exception) -> str:
    """Return in words what c10d raises; it has no classes for it."""
    text = str(error).strip()
    if "timed out" in text.lower():
        return _("a rank did not answer in time")
    if "closed" in text.lower() or "reset" in text.lower():
        return _("a rank is gone")
    return text.splitlines()[0] if text else type(error).__name__
