"""What is said while a script runs: on the stderr that it started with, or as warnings."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable

from unvanish.errors import UnvanishWarning

LOGGER = logging.getLogger("unvanish")
LOGGER.addHandler(logging.NullHandler())  # Python warnings are on the terminal already


def stderr_lines() -> Callable[[str], None]:
    """Return a function that prints a line of ours on the stderr of now, and never raises."""
    stream = sys.stderr

    def say(line: str) -> None:
        try:
            print(f"unvanish: {line}", file=stream, flush=True)
        except (OSError, ValueError):  # closed by the script, or its reader went away
            return

    return say


def warn(text: str) -> None:
    """Say `text` as a Python warning and in the log. Never raises, also where warnings do."""
    LOGGER.warning(text)
    try:
        warnings.warn(text, UnvanishWarning, stacklevel=2)
    except UnvanishWarning:  # they are errors here (-W error), and training must go on
        return
