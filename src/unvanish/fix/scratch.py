"""A scratch copy of the working directory for one trial, and an environment that keeps to itself.

What a script writes by relative paths lands in the copy. Absolute paths, links that lead out of
the directory and the few largest files, which are linked, cannot be guarded.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from unvanish.errors import StorageError
from unvanish.i18n import _

COPIED = 2**30  # bytes: the smallest files, up to so much in all; the others are linked
_LEFT_OUT = frozenset(
    (
        ".git", ".hg", ".unvanish", ".venv", "venv", "node_modules", "__pycache__", ".mypy_cache",
        ".pytest_cache", ".ruff_cache",
    )
)  # fmt: skip
_OURS = ("unvanish-fix-", "unvanish-orders-")  # where the directory is that of temporary files
# What earlier runs left is no input; but a script may count on the directory.
EMPTIED = ("wandb", "mlruns", "lightning_logs", "runs")
# Trackers stay local or off, hubs offline: a trial is no experiment of the user's.
QUIET = {
    "WANDB_MODE": "disabled",
    "WANDB_SILENT": "true",
    "MLFLOW_TRACKING_URI": "file:mlruns",
    "COMET_MODE": "disabled",
    "NEPTUNE_MODE": "offline",
    "CLEARML_OFFLINE_MODE": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TQDM_DISABLE": "1",
    "MPLBACKEND": "Agg",
    "PYTHONUNBUFFERED": "1",
}


@dataclass(frozen=True, slots=True)
class Survey:
    """What a scratch copy of a directory holds; paths are relative to it."""

    folders: tuple[Path, ...]
    copied: tuple[Path, ...]
    linked: tuple[Path, ...]  # too large to be copied
    links: tuple[Path, ...]
    size: int  # bytes to be copied


def survey(directory: Path) -> Survey:
    """Return what `scratch` copies and links."""
    folders: list[Path] = []
    links: list[Path] = []
    found: list[tuple[int, Path]] = []
    for folder, names, files in os.walk(directory):
        here = Path(folder).relative_to(directory)
        for name in [*names, *files]:
            if name in _LEFT_OUT or name.startswith(_OURS):
                continue
            path = Path(folder, name)
            if path.is_symlink():
                links.append(here / name)
            elif name in names:
                folders.append(here / name)
            elif path.is_file() and os.access(path, os.R_OK):  # no socket, no pipe
                with contextlib.suppress(FileNotFoundError):  # gone in this moment
                    found.append((path.stat().st_size, here / name))
        names[:] = [
            name
            for name in names
            if name not in _LEFT_OUT and name not in EMPTIED and not name.startswith(_OURS)
        ]
    size = 0
    copied: list[Path] = []
    linked: list[Path] = []
    for bytes_, path in sorted(found):
        if size + bytes_ <= COPIED:
            size += bytes_
            copied.append(path)
        else:
            linked.append(path)
    return Survey(tuple(folders), tuple(copied), tuple(linked), tuple(links), size)


def leads_out(directory: Path, link: Path) -> bool:
    """Whether the `link`, relative to `directory`, leads out of it."""
    return not _goal(directory, link).is_relative_to(directory.resolve())


def _goal(directory: Path, link: Path) -> Path:
    return Path(os.path.realpath(directory / link))  # a loop of links is no error to it


@contextmanager
def scratch(directory: Path) -> Iterator[Path]:
    """Yield a copy of `directory` that is removed afterwards. Raises OSError, as of a full disk."""
    with TemporaryDirectory(prefix="unvanish-fix-", ignore_cleanup_errors=True) as parent:
        target = Path(parent, directory.name or "work")
        _fill(target, directory, survey(directory))
        yield target


@contextmanager
def room_needed() -> Iterator[None]:
    """Say of an OSError inside, as of a full disk, what helps: StorageError."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            _("a trial needs room for files and found none: {error}").format(
                error=error.strerror or error
            ),
            _("Make room in {folder}, or set TMPDIR to a folder that has it.").format(
                folder=_temporary()
            ),
        ) from error


def _temporary() -> str:
    try:
        return gettempdir()
    except OSError:  # there is none that can be written to
        return os.environ.get("TMPDIR", "/tmp")


def _fill(target: Path, directory: Path, taken: Survey) -> None:
    target.mkdir()
    for path in taken.folders:
        (target / path).mkdir()
    for path in taken.copied:
        with contextlib.suppress(FileNotFoundError):  # gone since
            shutil.copy2(directory / path, target / path)
    for path in taken.linked:
        (target / path).symlink_to(os.path.abspath(directory / path))
    for path in taken.links:
        goal = _goal(directory, path)
        if goal.is_relative_to(directory.resolve()):
            goal = target / goal.relative_to(directory.resolve())
        (target / path).symlink_to(goal)
