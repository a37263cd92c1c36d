"""The database: its tables, how it is opened, and how an older one is brought up to date.

`MIGRATIONS[n]` takes a database from schema n to n + 1; `PRAGMA user_version` holds the schema.
A step that is released is never changed: a new one is appended. `docs/store.md` describes the
tables for readers in other languages.
"""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from unvanish.errors import NotOurFileError, StorageError
from unvanish.i18n import _

APPLICATION = 0x756E7661  # "unva", in the file's header

_FIRST = (
    """
    CREATE TABLE runs (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        head BLOB NOT NULL,            -- MessagePack of a Run without its models
        host TEXT NOT NULL,
        process INTEGER NOT NULL,
        written REAL NOT NULL,         -- Unix time of the last addition
        record BLOB                    -- the finished run, as in a .run file; NULL without an end
    ) STRICT
    """,
    """
    CREATE TABLE models (
        run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
        model INTEGER NOT NULL,
        facts BLOB NOT NULL,           -- MessagePack of a ModelRun without traces and steps
        PRIMARY KEY (run, model)
    ) STRICT
    """,
    """
    CREATE TABLE layouts (
        number INTEGER PRIMARY KEY,
        run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
        names BLOB NOT NULL,           -- MessagePack list of strings
        UNIQUE (run, names)
    ) STRICT
    """,
    """
    CREATE TABLE readings (
        run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
        model INTEGER NOT NULL,
        quantity TEXT NOT NULL,
        step INTEGER NOT NULL,
        layout INTEGER NOT NULL REFERENCES layouts,
        "values" BLOB NOT NULL,        -- float32 log10, little-endian, one for each name
        PRIMARY KEY (run, model, quantity, step)
    ) STRICT
    """,
    """
    CREATE TABLE additions (           -- of no fixed width, in the order of their numbers
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
        model INTEGER NOT NULL,
        kind TEXT NOT NULL,            -- 'steps', 'trace', 'alarm', 'incident'
        record BLOB NOT NULL           -- MessagePack: StepRecords, a Trace, a Finding, ...
    ) STRICT
    """,
    "CREATE INDEX additions_of_run ON additions (run, number)",
)
_SECOND = (
    # A step has a row of its own, so that old ones can be thinned out.
    """
    CREATE TABLE steps (
        run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
        model INTEGER NOT NULL,
        step INTEGER NOT NULL,
        number INTEGER NOT NULL,       -- of one sequence with those of additions
        record BLOB NOT NULL,          -- MessagePack of a StepRecord
        PRIMARY KEY (run, model, step)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE added (               -- of no fixed width, in the order of their numbers
        run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
        number INTEGER NOT NULL,       -- grows with every addition to the run
        model INTEGER NOT NULL,
        kind TEXT NOT NULL,            -- 'trace', 'alarm', 'incident'; of schema 1 also 'steps'
        record BLOB NOT NULL,          -- MessagePack: a Trace, a Finding, ...
        PRIMARY KEY (run, number)
    ) STRICT
    """,
    "INSERT INTO added SELECT run, number, model, kind, record FROM additions",
    "DROP TABLE additions",
    "ALTER TABLE added RENAME TO additions",
    """
    CREATE TABLE buckets (             -- several samples as one; see pyramid.py
        run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
        model INTEGER NOT NULL,
        quantity TEXT NOT NULL,        -- as of readings, or 'steps'
        level INTEGER NOT NULL,        -- 4^level samples, from 1
        first INTEGER NOT NULL,        -- step
        last INTEGER NOT NULL,
        count INTEGER NOT NULL,        -- samples
        layout INTEGER NOT NULL REFERENCES layouts,
        "values" BLOB NOT NULL,        -- float32: least, mean, greatest, each for each name
        finite BLOB,                   -- int32 for each name: finite values; NULL: `count` of each
        PRIMARY KEY (run, model, quantity, level, first)
    ) STRICT
    """,
)
MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST, _SECOND)

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def connect(file: Path, *, patience: float, write: bool) -> sqlite3.Connection:
    """Open the database, up to date and in WAL mode; it is made where it is missing.

    `patience` is how long, in seconds, to wait for another process that writes. A reader without
    permission to write opens it read-only. Raises StorageError or NotOurFileError.
    """
    with storage_errors(file):
        connection = _open(file, patience, write)
    try:
        with storage_errors(file):
            try:
                _bring_up_to_date(connection, file)
            except sqlite3.OperationalError as error:
                if write or _code(error) != sqlite3.SQLITE_READONLY:
                    raise
                connection = _in_memory(connection)
                _bring_up_to_date(connection, file)
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute("PRAGMA trusted_schema=OFF")  # a file may come from anyone
    except BaseException:
        connection.close()
        raise
    return connection


def _in_memory(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Return a copy that can be brought up to date where the file cannot be written."""
    copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    connection.backup(copy)
    connection.close()
    return copy


def _open(file: Path, patience: float, write: bool) -> sqlite3.Connection:
    # A reader may lack the permission to write, then even that to make the files of a WAL.
    modes = ["rwc"] if write else ["rw", "ro", "ro&immutable=1"]
    while True:
        mode = modes.pop(0)
        # Transactions are begun by hand. Another thread may be the one that ends a run.
        connection = sqlite3.connect(
            f"{file.resolve().as_uri()}?mode={mode}",
            timeout=patience,
            isolation_level=None,
            uri=True,
            check_same_thread=False,
        )
        try:
            if mode.startswith("rw"):
                connection.execute("PRAGMA journal_mode=WAL").fetchone()
            # With WAL a killed process loses nothing, a power cut may lose the last additions.
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            return connection
        except sqlite3.OperationalError as error:
            connection.close()
            if not modes or _is_busy(error):
                raise


def _bring_up_to_date(connection: sqlite3.Connection, file: Path) -> None:
    if _schema(connection, file) == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have done it while we waited.
        for statements in MIGRATIONS[_schema(connection, file) :]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id={APPLICATION}")
        connection.execute(f"PRAGMA user_version={len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _schema(connection: sqlite3.Connection, file: Path) -> int:
    """Return the schema of the database, 0 for an empty one."""
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and application != APPLICATION:
        raise NotOurFileError(
            _("{file} is a database, but not one of unvanish").format(file=file),
            _("Start from another directory, or move it away."),
        )
    if schema > len(MIGRATIONS):
        raise NotOurFileError(
            _("{file} has schema {schema}, and this version knows up to {known}").format(
                file=file, schema=schema, known=len(MIGRATIONS)
            ),
            _("Upgrade unvanish to read it."),
        )
    return int(schema)


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Write all of the block or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # some errors have rolled back already
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn errors of the disk and of SQLite into ours, each with what to do."""
    try:
        yield
    except OSError as error:
        raise _of_the_disk(path, error) from error
    except sqlite3.OperationalError as error:
        raise StorageError(f"{path}: {error}", _remedy(error)) from error
    except sqlite3.DatabaseError as error:
        raise NotOurFileError(
            _("{file} is damaged ({error})").format(file=path, error=error),
            _("Move it away; a new one is made. `sqlite3 FILE .recover` may save what was in it."),
        ) from error


def _of_the_disk(path: Path, error: OSError) -> StorageError:
    if error.errno in _FULL:
        remedy = _("Free some space there, or start from a directory on another disk.")
    elif isinstance(error, FileNotFoundError):
        remedy = _("Check the name; `unvanish runs` lists what is saved here.")
    else:
        remedy = _("Check its permissions, or start from a directory that can be written.")
    return StorageError(f"{path}: {error.strerror or error}", remedy)


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _code(error: sqlite3.OperationalError) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _remedy(error: sqlite3.OperationalError) -> str:
    if _is_busy(error):
        return _("Another process holds it; end that one, or try again.")
    if _code(error) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return _("Free some space there, or start from a directory on another disk.")
    return _("Check its permissions, or start from a directory that can be written.")
