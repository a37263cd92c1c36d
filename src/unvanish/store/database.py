"""Runs in one SQLite file: the store that is used unless another is given."""

from __future__ import annotations

import datetime
import itertools
import os
import platform
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from unvanish import codec
from unvanish.errors import NotOurFileError, UnknownNameError, UsageError
from unvanish.i18n import _
from unvanish.records import (
    Ending,
    Finding,
    Incident,
    ModelRun,
    Readings,
    Run,
    StepRecord,
    Trace,
)
from unvanish.store.contract import RETENTION, STEPS, Overview, Progress, RunSummary, State
from unvanish.store.derived import of_step, quantities_in
from unvanish.store.rows import Layouts, decoded, insert, readings, set_record
from unvanish.store.schema import connect, storage_errors, transaction

if TYPE_CHECKING:
    from unvanish.store.writer import DatabaseWriter

NAME = "runs.db"
PATIENCE = 5.0  # seconds to wait for another process that writes
_QUIET = 600.0  # seconds without an addition after which a run on another machine is given up
_FIRST, _LAST = -(2**63), 2**63 - 1  # of all steps that SQLite can hold
T = TypeVar("T")


class Database:
    """A `RunStore` in the file `runs.db` of `directory`, which must exist."""

    def __init__(self, directory: Path, patience: float = PATIENCE) -> None:
        """Nothing is opened yet. `patience`: seconds to wait for another process that writes."""
        self.file = directory / NAME
        self._patience = patience

    def begin(self, run: Run, *, retention: int | None = RETENTION) -> DatabaseWriter:
        """Start to record a run. See `RunStore.begin`."""
        from unvanish.store.writer import DatabaseWriter

        return DatabaseWriter(self.file, self._patience, run, retention)

    def save(self, run: Run) -> None:
        """Keep a finished run. See `RunStore.save`."""
        connection = connect(self.file, patience=self._patience, write=True)
        try:
            with storage_errors(self.file), transaction(connection):
                # What was read while it ran stays beside its record.
                known = connection.execute("SELECT number FROM runs WHERE id = ?", (run.id,))
                row = known.fetchone()
                number = insert(connection, run) if row is None else int(row[0])
                set_record(connection, number, run)
        finally:
            connection.close()

    def load(self, identity: str) -> Run:
        """Return a run. See `RunStore.load`."""
        with self._reading() as connection:
            number, head, record = _row(connection, identity, "number, head, record")
            if record is not None:
                return codec.decode_run(record)
            state = _state(connection, number)
            models = _models(connection, number)
            alarms = _added(connection, number, "alarm", Finding)
            incidents = _added(connection, number, "incident", Incident)
        return replace(
            decoded(head, Run),
            models=models,
            ending="running" if state == "running" else "killed",
            alarms=tuple(alarm for _number, _model, alarm in alarms),
            incidents=tuple(incident for _number, _model, incident in incidents),
        )

    def ids(self) -> list[str]:
        """Return the ids of all runs, the oldest first."""
        if not self.file.exists():
            return []
        with self._reading() as connection:
            return [name for (name,) in connection.execute("SELECT id FROM runs ORDER BY id")]

    def runs(self) -> Sequence[RunSummary]:
        """Return all runs, the oldest first. See `RunStore.runs`."""
        return [self._summary(identity) for identity in self.ids()]

    def series(self, identity: str, quantity: str, model: int = 0) -> list[Readings]:
        """Return one quantity at every step that is kept. See `RunStore.series`."""
        return [*self.samples(identity, quantity, model)]

    def samples(
        self,
        identity: str,
        quantity: str,
        model: int = 0,
        *,
        first: int | None = None,
        last: int | None = None,
    ) -> Iterator[Readings]:
        """Yield one quantity between two steps, in order, "steps" too; memory stays flat."""
        with self._reading() as connection:
            (number,) = _row(connection, identity, "number")
            between = (_FIRST if first is None else first, _LAST if last is None else last)
            if quantity == STEPS:
                rows = connection.execute(
                    "SELECT record FROM steps WHERE run = ? AND model = ?"
                    " AND step BETWEEN ? AND ? ORDER BY step",
                    (number, model, *between),
                )
                for (record,) in rows:
                    yield of_step(decoded(record, StepRecord))
                return
            layouts = Layouts(connection, number)
            rows = connection.execute(
                'SELECT step, layout, "values" FROM readings WHERE run = ? AND model = ?'
                " AND quantity = ? AND step BETWEEN ? AND ? ORDER BY step",
                (number, model, quantity, *between),
            )
            for step, layout, blob in rows:
                yield readings(quantity, step, layouts.names(layout), blob)

    def has_samples(self, identity: str) -> bool:
        """Whether there is more of a run than a finished record."""
        with self._reading() as connection:
            (number,) = _row(connection, identity, "number")
            return bool(quantities_of(connection, number) or [*_stepped(connection, number)])

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
        """Return one quantity in at most `points` buckets. See `RunStore.overview`.

        Raises UsageError for `points` below 1.
        """
        from unvanish.store.overview import View, of_record

        if points < 1:
            raise UsageError(
                _("points must be at least 1, and is {points}").format(points=points),
                _("Give the number of buckets that a plot can show."),
            )
        with self._reading() as connection:
            (number,) = _row(connection, identity, "number")
            found = View(connection, number, model, quantity).overview(points, first, last)
        if found is not None:
            return found
        return of_record(self.load(identity), model, quantity, points, first, last)

    def quantities(self, identity: str) -> list[tuple[int, str]]:
        """Return what can be asked for. See `RunStore.quantities`."""
        with self._reading() as connection:
            (number,) = _row(connection, identity, "number")
            found = quantities_of(connection, number)
            found += [(model, STEPS) for model in _stepped(connection, number)]
        if not any(quantity == STEPS for _model, quantity in found):  # only a record is there
            found = [*{*found, *quantities_in(self.load(identity))}]
        return sorted(found, key=lambda one: (one[0], one[1] != STEPS, one[1]))

    def progress(self, identity: str, mark: int = 0) -> Progress:
        """Return what was added after `mark`. See `RunStore.progress`."""
        with self._reading() as connection:
            number, head = _row(connection, identity, "number, head")
            steps = _steps(connection, number, mark)
            alarms = _added(connection, number, "alarm", Finding, mark)
            incidents = _added(connection, number, "incident", Incident, mark)
            numbers = [position for position, *_rest in (*steps, *alarms, *incidents)]
            return Progress(
                id=identity,
                state=_state(connection, number),
                mark=max(numbers, default=mark),
                command=decoded(head, Run).command,
                models=tuple(facts.name for facts in _facts(connection, number).values()),
                steps=tuple((model, step) for _number, model, step in steps),
                readings=_newest_readings(connection, number),
                alarms=tuple(alarm for _number, _model, alarm in alarms),
                incidents=tuple(incident for _number, _model, incident in incidents),
            )

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Open the file for reading: what is read in the block is of one moment."""
        if not self.file.exists():
            raise UnknownNameError(_("run"), "", (), _("No run is saved here yet."))
        connection = connect(self.file, patience=self._patience, write=False)
        try:
            with storage_errors(self.file):
                connection.execute("BEGIN")
                yield connection
        finally:
            connection.close()

    def _summary(self, identity: str) -> RunSummary:
        with self._reading() as connection:
            number, head, record = _row(connection, identity, "number, head, record")
            state = _state(connection, number)
            try:
                if record is not None:
                    known = codec.decode_head(record)
                    return RunSummary(identity, self.file, len(record), head=known, state=state)
                run = replace(decoded(head, Run), models=_models(connection, number))
                (written,) = _row(connection, identity, "written")
            except NotOurFileError as error:
                size = len(record or head)
                return RunSummary(identity, self.file, size, damaged=error.problem, state=state)
        seconds = max(0.0, written - _started(run))
        ending: Ending = "running" if state == "running" else "killed"
        known = codec.decode_head(codec.encode_run(replace(run, ending=ending, seconds=seconds)))
        return RunSummary(identity, self.file, len(head), head=known, state=state)


def _row(connection: sqlite3.Connection, identity: str, columns: str) -> Any:
    found = connection.execute(f"SELECT {columns} FROM runs WHERE id = ?", (identity,)).fetchone()
    if found is None:
        raise UnknownNameError(_("run"), identity, (), _("`unvanish runs` lists them."))
    return found


def _state(connection: sqlite3.Connection, number: int) -> State:
    host, process, written, ended = connection.execute(
        "SELECT host, process, written, record IS NOT NULL FROM runs WHERE number = ?", (number,)
    ).fetchone()
    if ended:
        return "finished"
    if host != platform.node():
        return "running" if time.time() - written < _QUIET else "killed"
    return "running" if _is_alive(process) else "killed"


def _is_alive(process: int) -> bool:
    """Whether a process of this machine runs. (Its number may have been given to another.)"""
    if sys.platform == "win32":
        return True  # cannot be asked without ending it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _facts(connection: sqlite3.Connection, number: int) -> dict[int, ModelRun]:
    rows = connection.execute(
        "SELECT model, facts FROM models WHERE run = ? ORDER BY model", (number,)
    )
    return {model: decoded(facts, ModelRun) for model, facts in rows}


def _models(connection: sqlite3.Connection, number: int) -> tuple[ModelRun, ...]:
    """Return the models of a run without an end, as far as it came."""
    traces = _added(connection, number, "trace", Trace)
    steps = _steps(connection, number)
    return tuple(
        replace(
            facts,
            traces=tuple(trace for _n, owner, trace in traces if owner == model),
            steps=tuple(step for _n, owner, step in steps if owner == model),
        )
        for model, facts in _facts(connection, number).items()
    )


def _added(
    connection: sqlite3.Connection, number: int, what: str, kind: type[T], mark: int = 0
) -> list[tuple[int, int, T]]:
    """Return what was added of one kind after `mark`: its number, its model, the record."""
    rows = connection.execute(
        "SELECT number, model, record FROM additions WHERE run = ? AND kind = ? AND number > ?"
        " ORDER BY number",
        (number, what, mark),
    )
    return [(position, model, decoded(record, kind)) for position, model, record in rows]


def _steps(
    connection: sqlite3.Connection, number: int, mark: int = 0
) -> list[tuple[int, int, StepRecord]]:
    """Return the steps added after `mark`: the number of the addition, the model, the record."""
    # Schema 1 kept those of one addition in one row.
    chunks = _added(connection, number, "steps", tuple[StepRecord, ...], mark)
    found = [(position, model, step) for position, model, steps in chunks for step in steps]
    for model in _stepped(connection, number):
        rows = connection.execute(
            "SELECT number, record FROM steps WHERE run = ? AND model = ? ORDER BY step DESC",
            (number, model),
        )  # the newest first, until they are known
        fresh = itertools.takewhile(lambda row: row[0] > mark, rows)
        found += [(position, model, decoded(record, StepRecord)) for position, record in fresh]
    return sorted(found, key=lambda one: (one[0], one[2].step))


def _stepped(connection: sqlite3.Connection, number: int) -> Iterator[int]:
    """Yield the models that have steps. Each costs one look into the table."""
    model = -1
    while model is not None:
        (model,) = connection.execute(
            "SELECT min(model) FROM steps WHERE run = ? AND model > ?", (number, model)
        ).fetchone()
        if model is not None:
            yield model


def quantities_of(connection: sqlite3.Connection, number: int) -> list[tuple[int, str]]:
    """Return what was read: (model, quantity), in order. Each costs one look into the index."""
    found: list[tuple[int, str]] = []
    while True:
        row = connection.execute(
            "SELECT model, quantity FROM readings WHERE run = ? AND (model, quantity) > (?, ?)"
            " ORDER BY model, quantity LIMIT 1",
            (number, *(found[-1] if found else (-1, ""))),
        ).fetchone()
        if row is None:
            return found
        found.append(row)


def _newest_readings(
    connection: sqlite3.Connection, number: int
) -> tuple[tuple[int, Readings], ...]:
    newest, layouts = [], Layouts(connection, number)
    for model, quantity in quantities_of(connection, number):
        step, layout, blob = connection.execute(
            'SELECT step, layout, "values" FROM readings WHERE run = ? AND model = ?'
            " AND quantity = ? ORDER BY step DESC LIMIT 1",
            (number, model, quantity),
        ).fetchone()
        newest.append((model, readings(quantity, step, layouts.names(layout), blob)))
    return tuple(newest)


def _started(run: Run) -> float:
    try:
        return datetime.datetime.fromisoformat(run.created).timestamp()
    except ValueError:
        return 0.0
