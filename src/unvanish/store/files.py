"""Saving, finding and listing runs."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from unvanish import codec
from unvanish.errors import NotOurFileError, StorageError, UnknownNameError, UsageError
from unvanish.i18n import _
from unvanish.records import Run

SUFFIX = ".run"
_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One saved run, as a list shows it. Of a damaged file only `id`, `path` and `bytes` hold."""

    id: str
    path: Path
    bytes: int
    damaged: str | None = None  # why it cannot be read
    head: codec.RunHead | None = None


def save(run: Run, directory: Path) -> Path:
    """Write `run` as `<id>.run` into `directory`, which is made if it is missing.

    Returns the file's path. Raises StorageError if it cannot be written; then no file of that
    name is left or changed.
    """
    if not _SAFE_ID.fullmatch(run.id):
        raise UsageError(
            _("a run cannot be saved under the id {id!r}").format(id=run.id),
            _("Use the id that `unvanish.store.new_id()` makes."),
        )
    target = directory / f"{run.id}{SUFFIX}"
    with _storage_errors(target):
        _make(directory)
        _write_atomically(target, codec.encode_run(run))
    return target


def load(reference: str, directory: Path) -> Run:
    """Return the run that `reference` names: an id, its unique prefix, a file, or "last".

    Raises UnknownNameError or UsageError if no run or several have that name, NotOurFileError if
    the file is damaged or of a newer version, StorageError if it cannot be read.
    """
    path = _find(reference, directory)
    with _storage_errors(path):
        data = path.read_bytes()
    try:
        return codec.decode_run(data)
    except NotOurFileError as error:
        raise NotOurFileError(f"{path}: {error.problem}", error.remedy) from error


def runs(directory: Path) -> list[RunSummary]:
    """Return the runs saved in `directory`, the newest first; a damaged file is listed as such."""
    return [_summary(path) for path in reversed(_files(directory))]


def _summary(path: Path) -> RunSummary:
    size = 0
    try:
        data = path.read_bytes()
        size = len(data)
        return RunSummary(path.stem, path, size, head=codec.decode_head(data))
    except OSError as error:
        return RunSummary(path.stem, path, size, damaged=error.strerror or str(error))
    except NotOurFileError as error:
        return RunSummary(path.stem, path, size, damaged=error.problem)


def _files(directory: Path) -> list[Path]:
    """Return the files of runs, the oldest first: ids begin with their time."""
    with _storage_errors(directory):
        return sorted(
            path for path in directory.glob(f"*{SUFFIX}") if not path.name.startswith(".")
        )


def _find(reference: str, directory: Path) -> Path:
    as_path = Path(reference)
    if reference.endswith(SUFFIX) or len(as_path.parts) > 1:
        return as_path
    files = _files(directory)
    ids = [path.stem for path in files]
    matches = [path for path in files if reference and path.stem.startswith(reference)]
    if reference in ids:
        return files[ids.index(reference)]
    if len(matches) == 1:
        return matches[0]
    if len(matches) > 1:
        raise UsageError(
            _("{prefix!r} begins the ids of {count} runs ({ids})").format(
                prefix=reference, count=len(matches), ids=_list(path.stem for path in matches)
            ),
            _("Type more of the id."),
        )
    if os.path.isfile(reference):
        return as_path
    if not files:
        raise UsageError(
            _("no runs are saved in {directory}").format(directory=directory),
            _("Record one with `unvanish run train.py`, or give a file."),
        )
    if reference == "last":
        return files[-1]
    raise UnknownNameError(
        _("run"),
        reference,
        reversed(ids[-5:]),
        _("`unvanish runs` lists them; a file or `last` will do too."),
    )


def _list(ids: Iterator[str], most: int = 5) -> str:
    names = list(ids)
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def _make(directory: Path) -> None:
    """Make `directory` with a .gitignore of its own: runs are not for version control."""
    if directory.is_dir():
        return
    directory.mkdir(parents=True, exist_ok=True)
    (directory / ".gitignore").write_text("*\n", encoding="utf-8")


def _write_atomically(target: Path, data: bytes) -> None:
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


@contextlib.contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    """Turn an OSError into a StorageError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            remedy = _("Free some space there, or start from a directory on another disk.")
        elif isinstance(error, FileNotFoundError):
            remedy = _("Check the name; `unvanish runs` lists what is saved here.")
        else:
            remedy = _("Check its permissions, or start from a directory that can be written.")
        reason = error.strerror or str(error)
        raise StorageError(f"{path}: {reason}", remedy) from error
