"""What a store of runs promises, as Protocols; `docs/store.md` says it in prose.

`unvanish.testing.conformance.StoreConformance` tests every sentence of it on any implementation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from unvanish.codec import RunHead
from unvanish.records import Finding, Incident, ModelRun, Readings, Run, StepRecord, Trace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RETENTION = 4096  # samples of each quantity that are kept at full density
STEPS = "steps"  # the quantity that the numbers of step records make
State = Literal["running", "finished", "killed"]


@dataclass(frozen=True, slots=True)
class Batch:
    """What one look at one model adds to a run that goes on. It is written whole or not at all."""

    model: int = 0  # position among the run's models
    steps: tuple[StepRecord, ...] = ()
    readings: tuple[Readings, ...] = ()
    traces: tuple[Trace, ...] = ()
    facts: ModelRun | None = None  # the model as it is known by now, without traces and steps
    alarms: tuple[Finding, ...] = ()
    incidents: tuple[Incident, ...] = ()


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One saved run, as a list shows it. Of a damaged one only `id`, `path` and `bytes` hold."""

    id: str
    path: Path  # the file that holds it
    bytes: int  # of its record
    damaged: str | None = None  # why it cannot be read
    head: RunHead | None = None
    state: State = "finished"


@dataclass(frozen=True, slots=True)
class Progress:
    """What a run has added since a reader last asked. Ask again with `mark`."""

    id: str
    state: State
    mark: int
    command: tuple[str, ...] = ()
    models: tuple[str, ...] = ()  # names
    steps: tuple[tuple[int, StepRecord], ...] = ()  # (model, step), in the order of writing
    readings: tuple[tuple[int, Readings], ...] = ()  # (model, the newest of each quantity)
    alarms: tuple[Finding, ...] = ()
    incidents: tuple[Incident, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Overview:
    """One quantity of one model from afar: buckets of neighbouring samples, in order of steps.

    `first` and `last` are the steps at the ends of each bucket, `count` its samples, all of shape
    (buckets,) and int64. `low`, `mean` and `high`, of shape (buckets, names) and float32, are the
    least and the greatest value of each name and the mean of its finite ones. A NaN that was read
    counts as infinity in `high`; NaN in `high` says that the name was not read in that bucket.
    """

    quantity: str
    names: tuple[str, ...]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    count: NDArray[np.int64]
    low: NDArray[np.float32]
    mean: NDArray[np.float32]
    high: NDArray[np.float32]


class RunWriter(Protocol):
    """Adds to one run. Used by one thread at a time."""

    def add(self, batch: Batch) -> None:
        """Keep `batch`, atomically: once this returns, killing the process does not lose it.

        Raises StorageError; then nothing of `batch` was kept and the writer can be used again.
        """

    def finish(self, run: Run) -> None:
        """Keep the finished record, which stands for all that was added. Raises StorageError."""

    def close(self) -> None:
        """Let go of the store. A run that is closed and not finished counts as killed."""


class RunStore(Protocol):
    """Runs in one place; any number of processes may read and write at the same time."""

    def begin(self, run: Run, *, retention: int | None = RETENTION) -> RunWriter:
        """Start to record a run: all that `run` says but its models. Raises StorageError.

        `retention` is how many of the newest samples of each quantity are kept at full density (at
        least 64); older ones are thinned out, and alarms and incidents are not. None: all are kept.
        """

    def save(self, run: Run) -> None:
        """Keep a finished run, in place of one with the same id. Raises StorageError."""

    def load(self, identity: str) -> Run:
        """Return a run: as it was saved, or all that a run without an end has added so far.

        Raises UnknownNameError, NotOurFileError (damaged, newer) or StorageError.
        """

    def runs(self) -> Sequence[RunSummary]:
        """Return all runs, the oldest first."""

    def series(self, identity: str, quantity: str, model: int = 0) -> Sequence[Readings]:
        """Return one quantity at every step that was read and is kept, in order of steps."""

    def overview(
        self,
        identity: str,
        quantity: str,
        model: int = 0,
        *,
        points: int = 1000,
        first: int | None = None,
        last: int | None = None,
    ) -> Overview:
        """Return one quantity between two steps in at most `points` buckets.

        The quantity "steps" has the numbers of step records: "loss" as it is, "gradient" (all
        parameters together) and "clip" as log10, "lr/0", ... A bucket that meets the range is given
        whole. The time it takes grows with `points` and not with the length of the run.
        """

    def quantities(self, identity: str) -> Sequence[tuple[int, str]]:
        """Return what can be asked for: (model, quantity), "steps" first of each model."""

    def progress(self, identity: str, mark: int = 0) -> Progress:
        """Return what was added after `mark`, and the new mark."""
