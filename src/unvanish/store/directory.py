"""The runs of one directory: in its database, and in files beside it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from unvanish.errors import NotOurFileError, StorageError, UnknownNameError, UsageError
from unvanish.i18n import _
from unvanish.records import Run
from unvanish.store import files
from unvanish.store.contract import RunSummary, RunWriter
from unvanish.store.database import NAME, PATIENCE, Database
from unvanish.store.schema import storage_errors


def save(run: Run, directory: Path) -> Path:
    """Keep `run` in `directory`, which is made if it is missing; return the file that holds it.

    That is the database; where it is damaged or held by another process, a file `<id>.run`.
    Raises StorageError if neither can be written, UsageError for an unusable id.
    """
    files.check_id(run.id)
    make(directory)
    try:
        Database(directory).save(run)
    except (StorageError, NotOurFileError):
        return files.write(run, directory)
    return directory / NAME


def begin(run: Run, directory: Path, patience: float = PATIENCE) -> RunWriter:
    """Start to record a run that goes on, in `directory`. Raises StorageError.

    `patience` is how long each addition may wait for another process that writes, in seconds.
    """
    files.check_id(run.id)
    make(directory)
    return Database(directory, patience).begin(run)


def load(reference: str, directory: Path) -> Run:
    """Return the run that `reference` names: an id, its unique prefix, a file, or "last".

    Raises UnknownNameError or UsageError if no run or several have that name, NotOurFileError if
    the record is damaged or of a newer version, StorageError if it cannot be read.
    """
    where = _find(reference, directory)
    if isinstance(where, Path):
        return files.read(where)
    database, identity = where
    return database.load(identity)


def database_of(reference: str, directory: Path) -> tuple[Database, str]:
    """Return the database that holds the run `reference`, and the run's id. Raises as `load`.

    Raises UsageError for a run in a file of its own: it holds the end of a run only.
    """
    where = _find(reference, directory)
    if isinstance(where, Path):
        raise UsageError(
            _("{path} holds a finished run only").format(path=where),
            _("`unvanish report {path}` shows it.").format(path=where),
        )
    return where


def runs(directory: Path) -> list[RunSummary]:
    """Return the runs saved in `directory`, the newest first; a damaged one is listed as such."""
    found = [*Database(directory).runs(), *map(files.summary, files.found(directory))]
    return sorted(found, key=lambda one: one.id, reverse=True)


def _find(reference: str, directory: Path) -> Path | tuple[Database, str]:
    """Return the file that holds a run alone, or the database that does and the run's id."""
    as_path = Path(reference)
    if as_path.suffix == ".db" and as_path.is_file():
        return _newest(Database(as_path.parent), as_path)
    if reference.endswith(files.SUFFIX) or len(as_path.parts) > 1:
        beside = Database(as_path.parent)
        if not as_path.exists() and as_path.stem in beside.ids():
            return beside, as_path.stem  # as runs were kept before there was a database
        return as_path
    database = Database(directory)
    known: dict[str, Path | tuple[Database, str]] = {
        path.stem: path for path in files.found(directory)
    }
    known |= {identity: (database, identity) for identity in database.ids()}
    if reference in known:
        return known[reference]
    ids = sorted(known)
    matches = [identity for identity in ids if reference and identity.startswith(reference)]
    if len(matches) == 1:
        return known[matches[0]]
    if len(matches) > 1:
        raise UsageError(
            _("{prefix!r} begins the ids of {count} runs ({ids})").format(
                prefix=reference, count=len(matches), ids=_list(matches)
            ),
            _("Type more of the id."),
        )
    if os.path.isfile(reference):
        return as_path
    if not ids:
        raise UsageError(
            _("no runs are saved in {directory}").format(directory=directory),
            _("Record one with `unvanish run train.py`, or give a file."),
        )
    if reference == "last":
        return known[ids[-1]]
    raise UnknownNameError(
        _("run"),
        reference,
        reversed(ids[-5:]),
        _("`unvanish runs` lists them; a file or `last` will do too."),
    )


def _newest(database: Database, path: Path) -> tuple[Database, str]:
    ids = database.ids()
    if not ids:
        raise UsageError(
            _("no runs are saved in {directory}").format(directory=path),
            _("Record one with `unvanish run train.py`, or give a file."),
        )
    return database, ids[-1]


def _list(ids: Iterable[str], most: int = 5) -> str:
    names = list(ids)
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def make(directory: Path) -> None:
    """Make `directory` with a .gitignore of its own: runs are not for version control."""
    with storage_errors(directory):
        if directory.is_dir():
            return
        directory.mkdir(parents=True, exist_ok=True)
        (directory / ".gitignore").write_text("*\n", encoding="utf-8")
