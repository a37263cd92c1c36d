"""Places in the user's code as a CI service names them: a path below the checkout, and a line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from unvanish.records import Finding, Run


@dataclass(frozen=True, slots=True)
class Place:
    """A file, relative to the checkout where it lies below it, and a line if one is known."""

    file: Path
    line: int | None


def place(finding: Finding, run: Run, root: Path) -> Place | None:
    """Return the line that `finding` points to; without one, the script that was run.

    `root` is the checkout. A run recorded on another machine has its own: there, files are named
    relative to the directory in which it was started. None: not even a script is known.
    """
    source = finding.where.source
    if source is not None and not source.file.startswith("<"):  # "<stdin>" is no file
        return Place(_below(source.file, run, root), source.line)
    script = _script(run)
    return None if script is None else Place(_below(script, run, root), None)


def reported(findings: tuple[Finding, ...]) -> list[Finding]:
    """Return the findings that a CI service should show: that all is well is not one of them."""
    return [finding for finding in findings if finding.verdict != "healthy"]


def _script(run: Run) -> str | None:
    """Return the script of `train.py --epochs 3` or of `unvanish check net.py:make`."""
    for word in run.command:
        file = word.rpartition(":")[0] or word
        if file.endswith(".py"):
            return file
    return None


def _below(file: str, run: Run, root: Path) -> Path:
    path = Path(run.directory, file)
    for directory in (root, Path(run.directory)):
        if directory.is_absolute() and path.is_relative_to(directory):
            return path.relative_to(directory)
    return path
