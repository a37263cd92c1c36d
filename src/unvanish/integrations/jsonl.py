"""A sink for a file of JSON lines: `sinks=[Path("numbers.jsonl")]`.

One line a sample, {"step": 3, "numbers": {"unvanish/loss": 1.5, …}}, or an alarm, {"step": 3,
"alarm": {…}}; not finite is "NaN", "Infinity", "-Infinity". Each line is appended by one write, so
a killed process leaves whole lines, but for the last at most where the system itself went down.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from unvanish import codec
from unvanish.records import Finding


class JsonlSink:
    """Appends to a file, which may be there already; it is opened when there is something."""

    def __init__(self, file: str | os.PathLike[str]) -> None:
        """`file` is made where it is missing; its directory must exist."""
        self._path = Path(file).absolute()  # the script may change directory
        self._descriptor: int | None = None

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Append a line with `numbers`. Raises OSError."""
        self._append({"step": step, "numbers": codec.to_plain(numbers)})

    def alarm(self, step: int, finding: Finding) -> None:
        """Append a line with the alarm. Raises OSError."""
        self._append({"step": step, "alarm": codec.to_plain(finding)})

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _append(self, plain: Mapping[str, Any]) -> None:
        data = json.dumps(plain, ensure_ascii=False, allow_nan=False) + "\n"
        if self._descriptor is None:
            self._descriptor = os.open(
                self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0),
                0o666,
            )  # fmt: skip
            if _is_cut_short(self._path):
                data = "\n" + data
        line = data.encode("utf-8", "backslashreplace")
        written = os.write(self._descriptor, line)
        if written != len(line):  # the disk is full: let no half line swallow the next one
            os.close(self._descriptor)
            self._descriptor = None
            raise OSError(f"{self._path}: only {written} of {len(line)} bytes could be written")


def lines(file: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """Yield the lines of such a file, numbers as floats; one that was cut short is left out."""
    with open(file, encoding="utf-8", errors="replace") as stream:
        for text in stream:
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if "numbers" in line:
                line["numbers"] = {
                    name: codec.number(value) for name, value in line["numbers"].items()
                }
            yield line


def _is_cut_short(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
