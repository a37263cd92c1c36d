"""What a store of runs promises, as Protocols; `docs/store.md` says it in prose.

`unvanish.testing.conformance.StoreConformance` tests every sentence of it on any implementation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from unvanish.codec import RunHead
from unvanish.records import Finding, Incident, ModelRun, Readings, Run, StepRecord, Trace

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

    def begin(self, run: Run) -> RunWriter:
        """Start to record a run: all that `run` says but its models. Raises StorageError."""

    def save(self, run: Run) -> None:
        """Keep a finished run, in place of one with the same id. Raises StorageError."""

    def load(self, identity: str) -> Run:
        """Return a run: as it was saved, or all that a run without an end has added so far.

        Raises UnknownNameError, NotOurFileError (damaged, newer) or StorageError.
        """

    def runs(self) -> Sequence[RunSummary]:
        """Return all runs, the oldest first."""

    def series(self, identity: str, quantity: str, model: int = 0) -> Sequence[Readings]:
        """Return one quantity at every step where it was read, in order of steps."""

    def progress(self, identity: str, mark: int = 0) -> Progress:
        """Return what was added after `mark`, and the new mark."""
