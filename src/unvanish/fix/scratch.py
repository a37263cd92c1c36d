"""A scratch copy of the working directory for one trial, and an environment that keeps to itself.

What a script writes by relative paths lands in the copy. Absolute paths cannot be guarded.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

LINKED_ABOVE = 32 * 2**20  # bytes: larger files are read through a link
_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".hg", ".unvanish", ".venv", "venv", "node_modules", "__pycache__", ".mypy_cache",
    ".pytest_cache", ".ruff_cache", "wandb", "mlruns", "lightning_logs", "runs",
)  # fmt: skip
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
    """What a scratch copy of a directory takes. `too_large` has no copy."""

    files: int
    copied: int  # bytes
    linked: tuple[str, ...]


def survey(directory: Path) -> Survey:
    """Return what `scratch` would copy and link."""
    files = copied = 0
    linked: list[str] = []
    for folder, names, found in os.walk(directory):
        left_out = _LEFT_OUT(folder, [*names, *found])
        names[:] = [name for name in names if name not in left_out]
        for name in found:
            path = Path(folder, name)
            if name in left_out or not path.is_file():
                continue
            size = path.stat().st_size
            files += 1
            if size > LINKED_ABOVE:
                linked.append(str(path.relative_to(directory)))
            else:
                copied += size
    return Survey(files, copied, tuple(linked))


@contextmanager
def scratch(directory: Path) -> Iterator[Path]:
    """Yield a copy of `directory` that is removed afterwards."""
    with TemporaryDirectory(prefix="unvanish-fix-", ignore_cleanup_errors=True) as parent:
        target = Path(parent, directory.name or "work")
        shutil.copytree(
            directory,
            target,
            ignore=_LEFT_OUT,
            symlinks=True,
            copy_function=_copy,
            ignore_dangling_symlinks=True,
        )
        yield target


def _copy(source: str, target: str) -> str:
    if os.path.getsize(source) > LINKED_ABOVE:
        os.symlink(os.path.abspath(source), target)
        return target
    return shutil.copy2(source, target)
