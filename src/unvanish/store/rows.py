"""What stands in a row of the database: bytes from records and numbers, and back."""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
import time
from array import array
from dataclasses import replace
from typing import TypeVar

import msgspec

from unvanish import codec
from unvanish.errors import NotOurFileError
from unvanish.i18n import _
from unvanish.records import Readings, Run

T = TypeVar("T")


def decoded(data: bytes, kind: type[T]) -> T:
    """Return the record in `data`. Raises NotOurFileError if it is damaged."""
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise damaged(error) from error


def damaged(why: object) -> NotOurFileError:
    """Return the error of a row that makes no sense."""
    return NotOurFileError(
        _("a record in the database is damaged ({error})").format(error=why),
        _("Run again; other runs in the file can still be read."),
    )


def readings(quantity: str, step: int, names: bytes, blob: bytes) -> Readings:
    """Return a row of `readings` as a record. Raises NotOurFileError if it is damaged."""
    known = decoded(names, tuple[str, ...])
    if len(blob) != 4 * len(known):
        raise damaged(_("{count} numbers do not fit their names").format(count=len(blob) // 4))
    values = array("f", blob)
    if sys.byteorder == "big":
        values.byteswap()
    return Readings(quantity, step, known, tuple(values))


def little_endian(values: array[float]) -> bytes:
    """Return float32 numbers as they stand in the database."""
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values.tobytes()


def insert(connection: sqlite3.Connection, run: Run) -> int:
    """Add the row of `run`, without a record; return its number."""
    head = msgspec.msgpack.encode(replace(run, models=(), alarms=(), incidents=()))
    found = connection.execute(
        "INSERT INTO runs (id, head, host, process, written) VALUES (?, ?, ?, ?, ?)"
        " RETURNING number",
        (run.id, head, platform.node(), os.getpid(), time.time()),
    ).fetchone()
    return int(found[0])


def set_record(connection: sqlite3.Connection, number: int, run: Run) -> None:
    """Keep the finished record of a run that has a row."""
    connection.execute(
        "UPDATE runs SET record = ?, written = ? WHERE number = ?",
        (codec.encode_run(run), time.time(), number),
    )
    # The record holds the traces; the readings of every step and the order of additions stay.
    connection.execute("DELETE FROM additions WHERE run = ? AND kind = 'trace'", (number,))
