"""The demo: an ordinary training script on real data, watched three times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unvanish import i18n
from unvanish.errors import UserCodeError
from unvanish.i18n import _

SCRIPT = Path(__file__).with_name("train_digits.py")


@dataclass(frozen=True, slots=True)
class Case:
    """One way to start the same ten-layer network."""

    name: str  # also of its report file
    activation: str
    weights: str


CASES = (
    Case("sigmoid", "sigmoid", "default"),
    Case("sigmoid-large-weights", "sigmoid", "large"),
    Case("relu-he", "relu", "he"),
)


@dataclass(frozen=True, slots=True)
class Result:
    """What came out of one watched training."""

    case: Case
    loss: float
    accuracy: float  # on the test images, from 0 to 1
    document: dict[str, Any]  # the JSON document of `unvanish run`
    page: Path

    @property
    def blame(self) -> tuple[str, ...]:
        """The factors of the findings of severity "error", the gravest first."""
        errors = [one for one in self.document["findings"] if one["severity"] == "error"]
        return tuple(dict.fromkeys(one["factor"] for one in errors if one["factor"]))

    @property
    def sentence(self) -> str:
        """What the first finding says."""
        return str(self.document["findings"][0]["title"])


def watched(directory: Path) -> Iterator[Result]:
    """Train each case under `unvanish run`, one after the other; reports go to `directory`.

    Raises UserCodeError if one of them fails.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for case in CASES:
        page, data = directory / f"{case.name}.html", directory / f"{case.name}.json"
        words = [
            *(sys.executable, "-m", "unvanish", "run", "--quiet", "--force"),
            *("--json", str(data), "-o", str(page)),
            *(str(SCRIPT), "--activation", case.activation, "--weights", case.weights),
        ]
        done = subprocess.run(
            words,
            cwd=directory,
            # One thread: on matrices of 64 × 64 a second one only waits.
            env={"OMP_NUM_THREADS": "1", **os.environ, "UNVANISH_LANG": i18n.current()},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise UserCodeError(
                _("the demo's training failed: {reason}").format(
                    reason=(done.stderr.strip().splitlines() or ["?"])[-1]
                ),
                _("Try it by itself: {command}").format(command=" ".join(words[-5:])),
            )
        last = done.stdout.split()
        yield Result(
            case=case,
            loss=float(last[-3]),
            accuracy=float(last[-1]),
            document=json.loads(data.read_text(encoding="utf-8")),
            page=page,
        )
