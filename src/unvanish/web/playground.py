"""Small trainings that a reader starts: each in a child process, under `unvanish run`.

The server itself never loads torch. Bounds: of each number that may be asked for, MOST trainings at
a time, SECONDS each, KEPT results.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from unvanish import i18n, store
from unvanish.errors import DependencyError, UnknownNameError, UsageError
from unvanish.i18n import _
from unvanish.web.address import Range, one_of

SCRIPT = Path(__file__).parent.parent / "demo" / "train_playground.py"
MOST = 2  # trainings at a time
SECONDS = 60.0  # of one training; its loading of libraries comes on top
GRACE = 60.0  # seconds beyond which it is ended whatever it does
KEPT = 8  # trainings whose results are kept
STEPS = 600
EVERY = 10  # steps between two samples

DEPTH = Range(1, 30, 1, 10)
WIDTH = Range(8, 128, 8, 64)
CHOICES: dict[str, tuple[str, ...]] = {
    "activation": (
        *("sigmoid", "tanh", "relu", "leaky_relu", "elu"),
        *("gelu", "silu", "softplus", "linear"),
    ),
    "start": ("default", "xavier", "he", "orthogonal", "small", "large"),
    "normalisation": ("none", "layer", "batch"),
    "residual": ("no", "yes"),
    "lr": ("0.001", "0.01", "0.05", "0.2"),
}
DEFAULTS = {
    "activation": "sigmoid",
    "start": "default",
    "normalisation": "none",
    "residual": "no",
    "lr": "0.05",
    "depth": "10",
    "width": "64",
}


def checked(asked: Mapping[str, object]) -> dict[str, str]:
    """Return what is asked for, with defaults for what is not said.

    Raises UsageError for a number out of its bounds, UnknownNameError for a choice there is not.
    """
    given = {name: str(asked.get(name, default)) for name, default in DEFAULTS.items()}
    for name, known in CHOICES.items():
        one_of(name, given[name], known)
    given["depth"] = str(DEPTH.whole("depth", given["depth"]))
    given["width"] = str(WIDTH.whole("width", given["width"]))
    return given


@dataclass(slots=True)
class Training:
    """One training: where it writes, and its process."""

    identity: str
    asked: dict[str, str]
    directory: Path
    process: subprocess.Popen[bytes]
    started: float
    stopped: bool = False

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self.process.poll() is None

    @property
    def store(self) -> Path:
        """Where its run is kept."""
        return self.directory / ".unvanish"

    def run(self) -> str | None:
        """Return the id of its run; None as long as nothing was sampled."""
        ids = store.Database(self.store).ids() if self.store.is_dir() else []
        return ids[-1] if ids else None

    def accuracy(self) -> float | None:
        """Return the share of test images it got right, once it has ended."""
        try:
            words = (self.directory / "out.txt").read_text("utf-8", "replace").split()
            return float(words[words.index("accuracy") + 1])
        except (OSError, ValueError, IndexError):
            return None

    def complaint(self) -> str | None:
        """Return the last line of its error output, if it failed by itself."""
        if self.running or self.stopped or self.process.returncode == 0:
            return None
        lines = (self.directory / "err.txt").read_text("utf-8", "replace").strip().splitlines()
        return lines[-1][:300] if lines else str(self.process.returncode)


class Playground:
    """Starts trainings, and ends them all when it is closed."""

    def __init__(self) -> None:
        """Nothing runs yet."""
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Training] = OrderedDict()
        self._root: Path | None = None
        self._closed = False

    def start(self, asked: Mapping[str, object]) -> Training:
        """Start a training and return it.

        Raises UsageError for what is out of bounds, and where MOST run already; DependencyError
        where a package is missing that trainings need.
        """
        given = checked(asked)
        for module, package in (("torch", "torch"), ("sklearn", "scikit-learn")):
            if importlib.util.find_spec(module) is None:
                raise DependencyError(
                    _("the playground needs {name}").format(name=package),
                    _("Install it: pip install 'unvanish[demo]'"),
                )
        with self._lock:
            running = sum(training.running for training in self._known.values())
            if running >= MOST or self._closed:
                raise UsageError(
                    _("{count} trainings are running").format(count=running),
                    _("Wait for one to end, or stop it."),
                )
            training = self._spawn(given)
            self._known[training.identity] = training
            while len(self._known) > KEPT:
                self._forget(next(iter(self._known)))
        timer = threading.Timer(SECONDS + GRACE, training.process.kill)
        timer.daemon = True
        timer.start()
        return training

    def get(self, identity: str) -> Training:
        """Return a training. Raises UnknownNameError for one that is gone."""
        with self._lock:
            training = self._known.get(identity)
        if training is None:
            raise UnknownNameError(
                _("training"), identity[:40], (), _("It is gone with its server; start it again.")
            )
        return training

    def stop(self, identity: str) -> None:
        """End a training; what it has sampled stays."""
        training = self.get(identity)
        training.stopped = True
        _end(training.process)

    def close(self) -> None:
        """End all trainings and remove what they wrote."""
        with self._lock:
            self._closed = True
            for identity in list(self._known):
                self._forget(identity)
            if self._root is not None:
                shutil.rmtree(self._root, ignore_errors=True)

    def _spawn(self, given: dict[str, str]) -> Training:
        if self._root is None:
            self._root = Path(tempfile.mkdtemp(prefix="unvanish-playground-"))
        identity = store.new_id()
        directory = self._root / identity
        directory.mkdir()
        options = [word for name, value in given.items() for word in (f"--{name}", value)]
        words = [
            *(sys.executable, "-m", "unvanish", "run", "--quiet", "--every", str(EVERY)),
            *(str(SCRIPT), *options, "--steps", str(STEPS), "--seconds", str(SECONDS)),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "UNVANISH_LANG": i18n.current()}
        with (directory / "out.txt").open("wb") as out, (directory / "err.txt").open("wb") as err:
            process = subprocess.Popen(
                words,
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,  # Ctrl-C is the server's; it ends its trainings itself
            )
        return Training(identity, given, directory, process, time.monotonic())

    def _forget(self, identity: str) -> None:
        training = self._known.pop(identity)
        _end(training.process)
        shutil.rmtree(training.directory, ignore_errors=True)


def _end(process: subprocess.Popen[bytes], patience: float = 3.0) -> None:
    """Ask a process to end; make it, if it does not."""
    if process.poll() is not None:
        return
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(patience)
        return
    process.kill()
    process.wait()
