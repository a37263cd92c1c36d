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
        return codec.decode(data, kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise damaged(error) from error


def damaged(why: object) -> NotOurFileError:
    """Return the error of a row that makes no sense."""
    return NotOurFileError(
        _("a record in the database is damaged ({error})").format(error=why),
        _("Run again; other runs in the file can still be read."),
    )


class Layouts:
    """The lists of names of one run, each read once."""

    def __init__(self, connection: sqlite3.Connection, run: int, where: str = "main") -> None:
        """`where` is the name of an attached database."""
        self._connection = connection
        self._run = run
        self._table = f"{where}.layouts"
        self._known: dict[int, tuple[str, ...]] = {}

    def names(self, number: int) -> tuple[str, ...]:
        """Return the names of a layout. Raises NotOurFileError if they are damaged."""
        found = self._known.get(number)
        if found is None:
            (data,) = self._connection.execute(
                f"SELECT names FROM {self._table} WHERE number = ? AND run = ?",
                (number, self._run),
            ).fetchone() or (b"",)
            found = self._known[number] = decoded(data, tuple[str, ...])
        return found


def readings(quantity: str, step: int, names: tuple[str, ...], blob: bytes) -> Readings:
    """Return a row of `readings` as a record. Raises NotOurFileError if it is damaged."""
    if len(blob) != 4 * len(names):
        raise damaged(_("{count} numbers do not fit their names").format(count=len(blob) // 4))
    values = array("f", blob)
    if sys.byteorder == "big":
        values.byteswap()
    return Readings(quantity, step, names, tuple(values))


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
