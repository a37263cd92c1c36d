"""Runs in one SQLite file: the store that is used unless another is given."""

from __future__ import annotations

import datetime
import os
import platform
import sqlite3
import sys
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from unvanish import codec
from unvanish.errors import NotOurFileError, UnknownNameError
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
from unvanish.store.contract import Batch, Progress, RunSummary, State
from unvanish.store.schema import connect, storage_errors, transaction

NAME = "runs.db"
PATIENCE = 5.0  # seconds to wait for another process that writes
_QUIET = 600.0  # seconds without an addition after which a run on another machine is given up
T = TypeVar("T")


class Database:
    """A `RunStore` in the file `runs.db` of `directory`, which must exist."""

    def __init__(self, directory: Path, patience: float = PATIENCE) -> None:
        """Nothing is opened yet. `patience`: seconds to wait for another process that writes."""
        self.file = directory / NAME
        self._patience = patience

    def begin(self, run: Run) -> DatabaseWriter:
        """Start to record a run. See `RunStore.begin`."""
        return DatabaseWriter(self.file, self._patience, run)

    def save(self, run: Run) -> None:
        """Keep a finished run. See `RunStore.save`."""
        connection = connect(self.file, patience=self._patience, write=True)
        try:
            with storage_errors(self.file), transaction(connection):
                # What was read while it ran stays beside its record.
                known = connection.execute("SELECT number FROM runs WHERE id = ?", (run.id,))
                row = known.fetchone()
                number = _insert(connection, run) if row is None else int(row[0])
                _set_record(connection, number, run)
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
            _decoded(head, Run),
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
        """Return one quantity at every step. See `RunStore.series`."""
        with self._reading() as connection:
            (number,) = _row(connection, identity, "number")
            rows = connection.execute(
                'SELECT step, names, "values" FROM readings JOIN layouts'
                " ON layout = layouts.number WHERE readings.run = ? AND model = ?"
                " AND quantity = ? ORDER BY step",
                (number, model, quantity),
            )
            return [_readings(quantity, step, names, blob) for step, names, blob in rows]

    def progress(self, identity: str, mark: int = 0) -> Progress:
        """Return what was added after `mark`. See `RunStore.progress`."""
        with self._reading() as connection:
            number, head = _row(connection, identity, "number, head")
            chunks = _added(connection, number, "steps", tuple[StepRecord, ...], mark)
            alarms = _added(connection, number, "alarm", Finding, mark)
            incidents = _added(connection, number, "incident", Incident, mark)
            (newest,) = connection.execute(
                "SELECT coalesce(max(number), ?) FROM additions WHERE run = ?", (mark, number)
            ).fetchone()
            return Progress(
                id=identity,
                state=_state(connection, number),
                mark=newest,
                command=_decoded(head, Run).command,
                models=tuple(facts.name for facts in _facts(connection, number).values()),
                steps=tuple((model, step) for _number, model, steps in chunks for step in steps),
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
                run = replace(_decoded(head, Run), models=_models(connection, number))
                (written,) = _row(connection, identity, "written")
            except NotOurFileError as error:
                size = len(record or head)
                return RunSummary(identity, self.file, size, damaged=error.problem, state=state)
        seconds = max(0.0, written - _started(run))
        ending: Ending = "running" if state == "running" else "killed"
        known = codec.decode_head(codec.encode_run(replace(run, ending=ending, seconds=seconds)))
        return RunSummary(identity, self.file, len(head), head=known, state=state)


class DatabaseWriter:
    """A `RunWriter` with a connection of its own, which a forked child must not use."""

    def __init__(self, file: Path, patience: float, run: Run) -> None:
        """Open `file` and put down that `run` has begun. Raises StorageError."""
        self.file = file
        self._process = os.getpid()
        self._layouts: dict[tuple[str, ...], int] = {}
        self._connection = connect(file, patience=patience, write=True)
        try:
            with storage_errors(file), transaction(self._connection):
                self._run = _insert(self._connection, run)
        except BaseException:
            self._connection.close()
            raise

    def add(self, batch: Batch) -> None:
        """Keep `batch`. See `RunWriter.add`."""
        if os.getpid() != self._process:
            return
        known = dict(self._layouts)
        try:
            with storage_errors(self.file), transaction(self._connection):
                self._write(batch)
        except BaseException:
            self._layouts = known  # those that were rolled back are not in the file
            raise

    def finish(self, run: Run) -> None:
        """Keep the finished record. See `RunWriter.finish`."""
        if os.getpid() != self._process:
            return
        with storage_errors(self.file), transaction(self._connection):
            _set_record(self._connection, self._run, run)

    def close(self) -> None:
        """Close the connection. See `RunWriter.close`."""
        if os.getpid() == self._process:
            self._connection.close()

    def _write(self, batch: Batch) -> None:
        execute = self._connection.execute
        if batch.facts is not None:
            execute(
                "INSERT OR REPLACE INTO models VALUES (?, ?, ?)",
                (self._run, batch.model, msgspec.msgpack.encode(batch.facts)),
            )
        additions: list[tuple[str, Any]] = [("steps", batch.steps)] if batch.steps else []
        additions += [("trace", trace) for trace in batch.traces]
        additions += [("alarm", alarm) for alarm in batch.alarms]
        additions += [("incident", incident) for incident in batch.incidents]
        self._connection.executemany(
            "INSERT INTO additions (run, model, kind, record) VALUES (?, ?, ?, ?)",
            [
                (self._run, batch.model, kind, msgspec.msgpack.encode(record))
                for kind, record in additions
            ],
        )
        for reading in batch.readings:
            execute(
                "INSERT OR REPLACE INTO readings VALUES (?, ?, ?, ?, ?, ?)",
                (
                    self._run,
                    batch.model,
                    reading.quantity,
                    reading.step,
                    self._layout(reading.names),
                    _blob(reading.values),
                ),
            )
        execute("UPDATE runs SET written = ? WHERE number = ?", (time.time(), self._run))

    def _layout(self, names: tuple[str, ...]) -> int:
        """Return the number of a list of names, which is written once a run."""
        number = self._layouts.get(names)
        if number is None:
            found = self._connection.execute(
                "INSERT INTO layouts (run, names) VALUES (?, ?) RETURNING number",
                (self._run, msgspec.msgpack.encode(names)),
            ).fetchone()
            number = self._layouts[names] = int(found[0])
        return number


def _insert(connection: sqlite3.Connection, run: Run) -> int:
    """Add the row of `run`, without a record; return its number."""
    head = msgspec.msgpack.encode(replace(run, models=(), alarms=(), incidents=()))
    found = connection.execute(
        "INSERT INTO runs (id, head, host, process, written) VALUES (?, ?, ?, ?, ?)"
        " RETURNING number",
        (run.id, head, platform.node(), os.getpid(), time.time()),
    ).fetchone()
    return int(found[0])


def _set_record(connection: sqlite3.Connection, number: int, run: Run) -> None:
    connection.execute(
        "UPDATE runs SET record = ?, written = ? WHERE number = ?",
        (codec.encode_run(run), time.time(), number),
    )
    # The record holds the traces; the readings of every step and the order of additions stay.
    connection.execute("DELETE FROM additions WHERE run = ? AND kind = 'trace'", (number,))


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
    return {model: _decoded(facts, ModelRun) for model, facts in rows}


def _models(connection: sqlite3.Connection, number: int) -> tuple[ModelRun, ...]:
    """Return the models of a run without an end, as far as it came."""
    traces = _added(connection, number, "trace", Trace)
    chunks = _added(connection, number, "steps", tuple[StepRecord, ...])
    return tuple(
        replace(
            facts,
            traces=tuple(trace for _n, owner, trace in traces if owner == model),
            steps=tuple(step for _n, owner, steps in chunks if owner == model for step in steps),
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
    return [(position, model, _decoded(record, kind)) for position, model, record in rows]


def _newest_readings(
    connection: sqlite3.Connection, number: int
) -> tuple[tuple[int, Readings], ...]:
    rows = connection.execute(
        'SELECT model, quantity, max(step), names, "values" FROM readings JOIN layouts'
        " ON layout = layouts.number WHERE readings.run = ? GROUP BY model, quantity",
        (number,),
    )
    return tuple(
        (model, _readings(quantity, step, names, blob))
        for model, quantity, step, names, blob in rows
    )


def _decoded(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotOurFileError(
            _("a record in the database is damaged ({error})").format(error=error),
            _("Run again; other runs in the file can still be read."),
        ) from error


def _readings(quantity: str, step: int, names: bytes, blob: bytes) -> Readings:
    values = array("f", blob)
    if sys.byteorder == "big":
        values.byteswap()
    return Readings(quantity, step, _decoded(names, tuple[str, ...]), tuple(values))


def _blob(values: Sequence[float]) -> bytes:
    numbers = array("f", values)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def _started(run: Run) -> float:
    try:
        return datetime.datetime.fromisoformat(run.created).timestamp()
    except ValueError:
        return 0.0
