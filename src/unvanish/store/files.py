"""A run as a file of its own, `<id>.run`: to hand on, and where no database can be written."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path

from unvanish import codec
from unvanish.errors import NotOurFileError, UsageError
from unvanish.i18n import _
from unvanish.records import Run
from unvanish.store.contract import RunSummary
from unvanish.store.schema import storage_errors

SUFFIX = ".run"
_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check_id(identity: str) -> None:
    """Raise UsageError for an id that could not be a file's name."""
    if not _SAFE_ID.fullmatch(identity):
        raise UsageError(
            _("a run cannot be saved under the id {id!r}").format(id=identity),
            _("Use the id that `unvanish.store.new_id()` makes."),
        )


def write(run: Run, directory: Path) -> Path:
    """Write `run` as `<id>.run` into `directory`, and return the file.

    Raises StorageError if it cannot be written; then no file of that name is left or changed.
    """
    target = directory / f"{run.id}{SUFFIX}"
    with storage_errors(target):
        write_atomically(target, codec.encode_run(run))
    return target


def read(path: Path) -> Run:
    """Return the run in the file `path`.

    Raises NotOurFileError if it is damaged or of a newer version, StorageError if it cannot be
    read.
    """
    with storage_errors(path):
        data = path.read_bytes()
    try:
        return codec.decode_run(data)
    except NotOurFileError as error:
        raise NotOurFileError(f"{path}: {error.problem}", error.remedy) from error


def found(directory: Path) -> list[Path]:
    """Return the files of runs in `directory`, the oldest first: ids begin with their time."""
    with storage_errors(directory):
        return sorted(
            path for path in directory.glob(f"*{SUFFIX}") if not path.name.startswith(".")
        )


def summary(path: Path) -> RunSummary:
    """Return what a list shows of the file `path`; of a damaged one, that it is."""
    size = 0
    try:
        data = path.read_bytes()
        size = len(data)
        return RunSummary(path.stem, path, size, head=codec.decode_head(data))
    except OSError as error:
        return RunSummary(path.stem, path, size, damaged=error.strerror or str(error))
    except NotOurFileError as error:
        return RunSummary(path.stem, path, size, damaged=error.problem)


def write_atomically(target: Path, data: bytes) -> None:
    """Write `data` to `target`, whole or not at all. Raises OSError."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}-", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
