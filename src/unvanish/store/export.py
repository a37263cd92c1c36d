"""The numbers of a run as one long table, in a Parquet or a CSV file.

One row a number, with the columns of `COLUMNS`, or of `BUCKET_COLUMNS` where a number of points is
asked for. Rows are written as they are read, so memory stays flat however long the run is.
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unvanish.errors import DependencyError, OutputExistsError, UnknownNameError, UsageError
from unvanish.i18n import _
from unvanish.records import Readings, Run
from unvanish.store.contract import STEPS
from unvanish.store.database import Database
from unvanish.store.derived import quantities_in, recorded
from unvanish.store.directory import find
from unvanish.store.files import read
from unvanish.store.schema import storage_errors

COLUMNS = ("run", "model", "step", "quantity", "name", "value")
BUCKET_COLUMNS = (
    "run", "model", "first", "last", "count", "quantity", "name", "low", "mean", "high",
)  # fmt: skip
KINDS = (".parquet", ".csv")
_TEXTS = ("run", "quantity", "name")
_NUMBERS = ("value", "low", "mean", "high")
_ROWS = 65_536  # that are in memory at a time
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

# Columns of a piece of the table: one value for all of its rows, or one each.
Piece = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    run: str
    path: Path
    rows: int
    bytes: int
    quantities: dict[str, int]  # rows of each


def export(
    reference: str,
    target: Path,
    directory: Path,
    *,
    quantities: Sequence[str] = (),
    steps: tuple[int | None, int | None] = (None, None),
    points: int | None = None,
    force: bool = False,
) -> Exported:
    """Write the numbers of the run `reference` (as `store.load` takes it) to `target`.

    The name of `target` ends in .parquet or .csv; it appears whole or not at all. `quantities`
    empty: all that were read; `steps`: the first and the last, both included; `points`: at most so
    many buckets of each quantity in place of its samples.

    Raises UsageError for another ending, OutputExistsError, UnknownNameError for a run or a
    quantity that is not there, DependencyError where pyarrow is missing, StorageError, and
    NotOurFileError for a damaged record.
    """
    table = _table_for(target)
    if target.exists() and not force:
        raise OutputExistsError(
            _("{path} exists already").format(path=target),
            _("Give another name, or --force to overwrite it."),
        )
    source = _Source(reference, directory)
    known = source.quantities()
    names = [*dict.fromkeys(quantity for _model, quantity in known)]
    for quantity in quantities:
        if quantity not in names:
            raise UnknownNameError(_("quantity"), quantity, names, _("Give one of these."))
    counts: dict[str, int] = {}

    def pieces() -> Iterator[Piece]:
        for model, quantity in known:
            if quantities and quantity not in quantities:
                continue
            for piece in source.pieces(model, quantity, steps, points):
                counts[quantity] = counts.get(quantity, 0) + len(piece["name"])
                yield {"run": source.id, "model": model, "quantity": quantity, **piece}

    with storage_errors(target), _appearing(target) as temporary:
        table(temporary, COLUMNS if points is None else BUCKET_COLUMNS, _merged(pieces()))
    size = target.stat().st_size
    return Exported(source.id, target, sum(counts.values()), size, counts)


class _Source:
    """Where the numbers of a run are: samples in a database, or its finished record."""

    def __init__(self, reference: str, directory: Path) -> None:
        where = find(reference, directory)
        self._from: Database | Run
        if isinstance(where, Path):
            self._from = read(where)
            self.id = self._from.id
        else:
            self._from, self.id = where
            if not self._from.has_samples(self.id):
                self._from = self._from.load(self.id)

    def quantities(self) -> list[tuple[int, str]]:
        if isinstance(self._from, Run):
            return sorted(quantities_in(self._from), key=lambda one: (one[0], one[1] != STEPS, one))
        return self._from.quantities(self.id)

    def pieces(
        self, model: int, quantity: str, steps: tuple[int | None, int | None], points: int | None
    ) -> Iterator[Piece]:
        """Yield the numbers of one quantity, a piece for each sample or bucket."""
        first, last = steps
        if points is not None:
            yield from self._buckets(model, quantity, first, last, points)
            return
        found: Iterable[Readings]
        if isinstance(self._from, Run):
            found = recorded(self._from.models[model], quantity, first, last)
        else:
            found = self._from.samples(self.id, quantity, model, first=first, last=last)
        for one in found:
            yield {"step": one.step, "name": one.names, "value": one.values}

    def _buckets(
        self, model: int, quantity: str, first: int | None, last: int | None, points: int
    ) -> Iterator[Piece]:
        from unvanish.store.overview import of_record

        if isinstance(self._from, Run):
            found = of_record(self._from, model, quantity, points, first, last)
        else:
            found = self._from.overview(
                self.id, quantity, model, points=points, first=first, last=last
            )
        for row in range(len(found.first)):
            yield {
                "first": int(found.first[row]),
                "last": int(found.last[row]),
                "count": int(found.count[row]),
                "name": found.names,
                "low": found.low[row].tolist(),
                "mean": found.mean[row].tolist(),
                "high": found.high[row].tolist(),
            }


def _merged(pieces: Iterable[Piece]) -> Iterator[dict[str, list[Any]]]:
    """Yield columns of many rows at a time."""
    columns: dict[str, list[Any]] = {}
    rows = 0
    for piece in pieces:
        count = len(piece["name"])
        rows += count
        for name, value in piece.items():
            each = isinstance(value, list | tuple)
            columns.setdefault(name, []).extend(value if each else [value] * count)
        if rows >= _ROWS:
            yield columns
            columns, rows = {}, 0
    if rows:
        yield columns


@contextlib.contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """Yield a file to write that then takes the name `target`; if all goes well."""
    temporary = target.with_name(f".unvanish-{secrets.token_hex(8)}.tmp")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


# --- the two kinds -------------------------------------------------------------------------------

Table = Callable[[Path, Sequence[str], Iterable[dict[str, list[Any]]]], None]


def _table_for(target: Path) -> Table:
    if target.suffix == ".csv":
        return _write_csv
    if target.suffix != ".parquet":
        raise UsageError(
            _("{path} is neither Parquet nor CSV").format(path=target),
            _("Give a name that ends in .parquet or .csv."),
        )
    try:
        importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise DependencyError(
            _("Parquet needs pyarrow, which is not installed"),
            _("pip install 'unvanish[export]', or write CSV."),
        ) from error
    return _write_parquet


def _write_parquet(path: Path, columns: Sequence[str], pieces: Iterable[dict[str, Any]]) -> None:
    import pyarrow
    from pyarrow import parquet

    text = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    kinds = {**dict.fromkeys(_TEXTS, text), **dict.fromkeys(_NUMBERS, pyarrow.float64())}
    schema = pyarrow.schema([(name, kinds.get(name, pyarrow.int64())) for name in columns])
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for piece in pieces:
            arrays = [pyarrow.array(piece[field.name], field.type) for field in schema]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))


def _write_csv(path: Path, columns: Sequence[str], pieces: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for piece in pieces:
            ready = [
                map(_harmless, piece[name]) if name in _TEXTS else piece[name] for name in columns
            ]
            writer.writerows(zip(*ready, strict=True))


def _harmless(text: str) -> str:
    """Return text that no spreadsheet takes for a formula: names come from whoever wrote them."""
    return f"'{text}" if text.startswith(_FORMULA) else text
