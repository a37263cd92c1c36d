"""Bringing runs that were copied from elsewhere into the store of this directory.

A source is never opened: it is copied first, with its log, and the copy is brought up to date. Each
run is taken over in one transaction. A run that is here already is left as it is, unless the copy
came further: a copy has more of the same run or less of it, for each run has one writer.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unvanish import codec
from unvanish.errors import NotOurFileError, StorageError, UnvanishError, UsageError
from unvanish.i18n import _
from unvanish.records import Finding, Incident, ModelRun, Run, StepRecord, Trace
from unvanish.store import files
from unvanish.store.database import NAME, PATIENCE
from unvanish.store.directory import make
from unvanish.store.rows import Layouts, damaged, decoded, insert, set_record
from unvanish.store.schema import APPLICATION, connect, storage_errors, transaction

Outcome = Literal["added", "updated", "unchanged", "damaged"]
_KINDS: dict[str, type] = {
    "steps": tuple[StepRecord, ...],
    "trace": Trace,
    "alarm": Finding,
    "incident": Incident,
}
_ATTEMPTS = 3  # to copy a file that does not change meanwhile


@dataclass(frozen=True, slots=True)
class Merged:
    """What became of one run of a source."""

    id: str
    source: Path
    outcome: Outcome
    why: str = ""  # it is damaged


def merge(source: Path, directory: Path) -> Iterator[Merged]:
    """Take the runs of `source` over into `directory`, and yield what became of each.

    `source` is a database, a `.run` file, or a directory with either (or with `.unvanish` in it).
    Raises NotOurFileError if it is damaged, of another program or of a newer version, UsageError if
    it is the store itself, StorageError if it cannot be read or the store cannot be written. A
    damaged run in a sound database is yielded as such, and the others are taken over.
    """
    make(directory)
    target = directory / NAME
    for file in _files(source):
        if target.exists() and file.exists() and file.samefile(target):
            raise UsageError(
                _("{path} is the store of this directory").format(path=file),
                _("Give the copy that is to be merged into it."),
            )
        with contextlib.closing(connect(target, patience=PATIENCE, write=True)) as connection:
            if file.suffix == files.SUFFIX:
                run = files.read(file)
                with storage_errors(target), transaction(connection):
                    outcome = _take_record(connection, run)
                yield Merged(run.id, file, outcome)
                continue
            with _copied(file, directory) as copy, storage_errors(target):
                connection.execute("ATTACH ? AS other", (str(copy),))
                known = connection.execute("SELECT number, id FROM other.runs ORDER BY id")
                for number, identity in known.fetchall():
                    yield _take_run(connection, number, identity, file)
                connection.execute("DETACH other")


def _files(source: Path) -> list[Path]:
    """Return the files of runs in `source`."""
    if not source.is_dir():
        return [source]
    inner = source / ".unvanish"
    place = inner if inner.is_dir() else source
    found = [path for path in [place / NAME] if path.exists()] + files.found(place)
    if not found:
        raise UsageError(
            _("no runs are saved in {directory}").format(directory=source),
            _("Give a database (runs.db), a .run file, or the directory that holds them."),
        )
    return found


# --- a run in a file of its own ------------------------------------------------------------------


def _take_record(connection: sqlite3.Connection, run: Run) -> Outcome:
    files.check_id(run.id)
    known = connection.execute("SELECT number, record FROM runs WHERE id = ?", (run.id,)).fetchone()
    if known is None:
        set_record(connection, insert(connection, run), run)
        return "added"
    number, record = known
    if record is not None and _seconds(record) >= run.seconds:
        return "unchanged"
    set_record(connection, number, run)
    return "updated"


# --- a database ----------------------------------------------------------------------------------


@contextlib.contextmanager
def _copied(file: Path, directory: Path) -> Iterator[Path]:
    """Yield a sound copy of the database `file`, up to date; `file` itself is only read."""
    with tempfile.TemporaryDirectory(dir=directory, prefix=".merge-") as place:
        copy = Path(place) / "copy.db"
        with storage_errors(file):
            _copy(file, copy)
        try:
            _check(copy)
            connect(copy, patience=PATIENCE, write=True).close()
        except NotOurFileError as error:
            problem = error.problem.replace(str(copy), str(file))
            raise NotOurFileError(problem, _("Nothing of it was merged.")) from error
        except StorageError as error:
            raise _not_ours(file, error.problem) from error
        except sqlite3.DatabaseError as error:
            raise _not_ours(file, str(error)) from error
        yield copy


def _copy(file: Path, copy: Path) -> None:
    parts = [(file, copy), (Path(f"{file}-wal"), Path(f"{copy}-wal"))]
    for _attempt in range(_ATTEMPTS):
        before = [_stamp(path) for path, _target in parts]
        for path, target in parts:
            target.unlink(missing_ok=True)
            if path is file or path.exists():
                shutil.copyfile(path, target)
        if before == [_stamp(path) for path, _target in parts]:
            return
        time.sleep(0.1)
    raise StorageError(
        _("{file} is being written to").format(file=file),
        _("Merge it when its run is over, or make a copy with: sqlite3 FILE '.backup COPY'"),
    )


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def _check(copy: Path) -> None:
    """Raise NotOurFileError or DatabaseError unless `copy` is a sound database of ours."""
    with contextlib.closing(sqlite3.connect(copy)) as connection:
        connection.execute("PRAGMA trusted_schema=OFF")  # it may come from anyone
        if connection.execute("PRAGMA application_id").fetchone() != (APPLICATION,):
            raise _not_ours(copy, _("it is of another program"))
        (first,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if first != "ok":
            raise _not_ours(copy, first)


def _not_ours(file: Path, why: str) -> NotOurFileError:
    return NotOurFileError(
        _("{file} is no sound database of unvanish ({why})").format(file=file, why=why),
        _("Nothing of it was merged."),
    )


def _take_run(connection: sqlite3.Connection, number: int, identity: str, file: Path) -> Merged:
    try:
        files.check_id(identity)
        _verify(connection, number)
    except UnvanishError as error:
        return Merged(identity, file, "damaged", error.problem)
    with transaction(connection):
        known = connection.execute("SELECT number FROM runs WHERE id = ?", (identity,)).fetchone()
        if known is None:
            _insert_run(connection, number)
            return Merged(identity, file, "added")
        outcome: Outcome = "unchanged"
        (record,) = _record(connection, "other", number)
        (ours,) = _record(connection, "main", known[0])
        if _extent(connection, "other", number) > _extent(connection, "main", known[0]):
            connection.execute("DELETE FROM runs WHERE number = ?", known)
            known = (_insert_run(connection, number),)
            record, ours, outcome = ours, record, "updated"
        if record is not None and (ours is None or _seconds(record) > _seconds(ours)):
            set_record(connection, known[0], codec.decode_run(record))
            outcome = "updated"
    return Merged(identity, file, outcome)


def _record(connection: sqlite3.Connection, where: str, number: int) -> tuple[bytes | None]:
    found: tuple[bytes | None] = connection.execute(
        f"SELECT record FROM {where}.runs WHERE number = ?", (number,)
    ).fetchone()
    return found


def _seconds(record: bytes) -> float:
    """Return how long the run of a record was; less than nothing for a damaged one."""
    try:
        return codec.decode_head(record).seconds
    except NotOurFileError:
        return -1.0


def _extent(connection: sqlite3.Connection, where: str, number: int) -> tuple[int, int]:
    """Return how far a run came: its last step, and the number of its last addition."""
    ends: list[int] = []
    for table, column in (("steps", "step"), ("readings", "step"), ("additions", "number")):
        (last,) = connection.execute(
            f"SELECT coalesce(max({column}), -1) FROM {where}.{table} WHERE run = ?", (number,)
        ).fetchone()
        ends.append(last)
    return max(ends[:2]), ends[2]


def _verify(connection: sqlite3.Connection, number: int) -> None:
    """Raise NotOurFileError unless all that the copy has of a run makes sense."""
    head, record = connection.execute(
        "SELECT head, record FROM other.runs WHERE number = ?", (number,)
    ).fetchone()
    decoded(head, Run)
    if record is not None:
        codec.decode_run(record)
    rows = connection.execute("SELECT facts FROM other.models WHERE run = ?", (number,))
    for (facts,) in rows:
        decoded(facts, ModelRun)
    for (step,) in connection.execute("SELECT record FROM other.steps WHERE run = ?", (number,)):
        decoded(step, StepRecord)
    rows = connection.execute("SELECT kind, record FROM other.additions WHERE run = ?", (number,))
    for kind, addition in rows:
        if kind not in _KINDS:
            raise damaged(_("{kind!r} is no kind of addition").format(kind=kind))
        decoded(addition, _KINDS[kind])
    layouts = Layouts(connection, number, "other")
    for table, each in (("readings", 4), ("buckets", 12)):
        lengths = connection.execute(
            f'SELECT layout, min(length("values")), max(length("values")) FROM other.{table}'
            " WHERE run = ? GROUP BY layout",
            (number,),
        )
        for layout, least, most in lengths.fetchall():
            count = len(layouts.names(layout))
            if (least, most) != (each * count, each * count):
                raise damaged(_("{count} numbers do not fit their names").format(count=most // 4))


def _insert_run(connection: sqlite3.Connection, number: int) -> int:
    """Add a run of the copy as it is there; return its number here."""
    execute = connection.execute
    run = execute(
        "INSERT INTO runs (id, head, host, process, written, record)"
        " SELECT id, head, host, process, written, record FROM other.runs WHERE number = ?",
        (number,),
    ).lastrowid
    assert run is not None  # the row is there
    execute("CREATE TEMP TABLE IF NOT EXISTS renumbered (old INTEGER PRIMARY KEY, new INTEGER)")
    execute("DELETE FROM renumbered")
    layouts = execute("SELECT number, names FROM other.layouts WHERE run = ?", (number,))
    for old, names in layouts.fetchall():
        added = execute("INSERT INTO layouts (run, names) VALUES (?, ?)", (run, names))
        execute("INSERT INTO renumbered VALUES (?, ?)", (old, added.lastrowid))
    for table, columns in (
        ("models", "model, facts"),
        ("steps", "model, step, number, record"),
        ("additions", "number, model, kind, record"),
    ):
        execute(
            f"INSERT INTO {table} (run, {columns})"
            f" SELECT ?, {columns} FROM other.{table} WHERE run = ?",
            (run, number),
        )
    for table, columns in (
        ("readings", 'model, quantity, step, "values"'),
        ("buckets", 'model, quantity, level, first, last, count, "values", finite'),
    ):
        execute(
            f"INSERT INTO {table} (run, layout, {columns}) SELECT ?, new, {columns}"
            f" FROM other.{table} JOIN renumbered ON layout = old WHERE run = ?",
            (run, number),
        )
    return run
