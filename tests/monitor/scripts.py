"""Running scripts in processes of their own: by python, and by `unvanish run`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

RUN = (sys.executable, "-m", "unvanish", "run")


def call(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        cwd=cwd,
        env={**os.environ, "UNVANISH_LANG": "en", "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def run(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return call(*RUN, *words, cwd=cwd, **environment)


def python(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return call(sys.executable, *words, cwd=cwd)
