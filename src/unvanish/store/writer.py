"""Writing one run into the database while it goes on."""

from __future__ import annotations

import os
import time
from array import array
from pathlib import Path

import msgspec
import numpy as np

from unvanish.records import Readings, Run, StepRecord, Trace
from unvanish.store.contract import STEPS, Batch
from unvanish.store.overview import of_step
from unvanish.store.pyramid import of_sample
from unvanish.store.rows import insert, little_endian, set_record
from unvanish.store.schema import connect, storage_errors, transaction
from unvanish.store.thinning import Ordinals, Summaries, check_retention

_WAL_PAGES = 4096  # of 4 KiB, after which the log is written back: the disk is waited for then
_STAMP = 1.0  # seconds between two notes of when the run was last written to


class DatabaseWriter:
    """A `RunWriter` with a connection of its own, which a forked child must not use."""

    def __init__(self, file: Path, patience: float, run: Run, retention: int | None) -> None:
        """Open `file` and put down that `run` has begun. Raises StorageError."""
        check_retention(retention)
        self.file = file
        self._process = os.getpid()
        self._thins = retention is not None
        self._layouts: dict[tuple[str, ...], int] = {}
        self._traces: dict[int, Ordinals] = {}  # by model
        self._number = 0  # of the last addition
        self._stamped = 0.0
        self._connection = connect(file, patience=patience, write=True)
        try:
            self._connection.execute(f"PRAGMA wal_autocheckpoint={_WAL_PAGES}")
            with storage_errors(file), transaction(self._connection):
                self._run = insert(self._connection, run)
            self._summaries = Summaries(self._connection, self._run, retention)
        except BaseException:
            self._connection.close()
            raise

    def add(self, batch: Batch) -> None:
        """Keep `batch`. See `RunWriter.add`."""
        if os.getpid() != self._process:
            return
        keys = {(batch.model, reading.quantity) for reading in batch.readings}
        if batch.steps:
            keys.add((batch.model, STEPS))
        layouts, number, stamped = dict(self._layouts), self._number, self._stamped
        traces = {model: rows.copy() for model, rows in self._traces.items() if batch.traces}
        summaries = self._summaries.copies(keys)
        try:
            with storage_errors(self.file), transaction(self._connection):
                self._write(batch)
        except BaseException:
            # What was rolled back is not in the file.
            self._layouts, self._number, self._stamped = layouts, number, stamped
            self._summaries.restore(keys, summaries)
            if batch.traces:
                self._traces = traces
            raise

    def finish(self, run: Run) -> None:
        """Keep the finished record. See `RunWriter.finish`."""
        if os.getpid() != self._process:
            return
        with storage_errors(self.file), transaction(self._connection):
            set_record(self._connection, self._run, run)

    def close(self) -> None:
        """Close the connection. See `RunWriter.close`."""
        if os.getpid() == self._process:
            self._connection.close()

    def _write(self, batch: Batch) -> None:
        execute, model = self._connection.execute, batch.model
        if batch.facts is not None:
            execute(
                "INSERT OR REPLACE INTO models VALUES (?, ?, ?)",
                (self._run, model, msgspec.msgpack.encode(batch.facts)),
            )
        for kind, records in (("alarm", batch.alarms), ("incident", batch.incidents)):
            for record in records:
                self._write_addition(model, kind, record)
        for trace in batch.traces:
            self._write_trace(model, trace)
        for step in batch.steps:
            self._write_step(model, step)
        for reading in batch.readings:
            self._write_reading(model, reading)
        now = time.time()
        if abs(now - self._stamped) > _STAMP:
            self._stamped = now
            execute("UPDATE runs SET written = ? WHERE number = ?", (now, self._run))

    def _write_addition(self, model: int, kind: str, record: object) -> int:
        self._number += 1
        self._connection.execute(
            "INSERT INTO additions VALUES (?, ?, ?, ?, ?)",
            (self._run, self._number, model, kind, msgspec.msgpack.encode(record)),
        )
        return self._number

    def _write_step(self, model: int, step: StepRecord) -> None:
        self._number += 1
        self._connection.execute(
            "INSERT OR REPLACE INTO steps VALUES (?, ?, ?, ?, ?)",
            (self._run, model, step.step, self._number, msgspec.msgpack.encode(step)),
        )
        self._summaries.add((model, STEPS), of_step(step), self._layout)

    def _write_reading(self, model: int, reading: Readings) -> None:
        values = array("f", reading.values)
        self._connection.execute(
            "INSERT OR REPLACE INTO readings VALUES (?, ?, ?, ?, ?, ?)",
            (self._run, model, reading.quantity, reading.step, self._layout(reading.names),
             little_endian(values)),
        )  # fmt: skip
        numbers = np.frombuffer(values, np.float32)
        bucket = of_sample(reading.step, reading.names, numbers)
        self._summaries.add((model, reading.quantity), bucket, self._layout)

    def _write_trace(self, model: int, trace: Trace) -> None:
        number = self._write_addition(model, "trace", trace)
        # Where a trace saw an op go wrong, it stays.
        if self._thins and trace.nonfinite is None:
            for old in self._traces.setdefault(model, Ordinals()).add(number):
                self._connection.execute(
                    "DELETE FROM additions WHERE run = ? AND number = ?", (self._run, old)
                )

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
