"""The few lines that are printed while a script runs, on the stderr that it started with."""

from __future__ import annotations

import sys
from collections.abc import Callable


def stderr_lines() -> Callable[[str], None]:
    """Return a function that prints a line of ours on the stderr of now, and never raises."""
    stream = sys.stderr

    def say(line: str) -> None:
        try:
            print(f"unvanish: {line}", file=stream, flush=True)
        except (OSError, ValueError):  # closed by the script, or its reader went away
            return

    return say
