"""Workers that the script starts by `torch.multiprocessing.spawn`: watched like ranks.

The parent puts `Worker` before the function that torch runs in each of them; it listens there as
`unvanish run` does in a script, and the first rank leaves its record where the parent finds it.
Nothing here imports torch in the parent.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unvanish import store
from unvanish.errors import UnvanishError
from unvanish.i18n import _
from unvanish.monitor.program import Outcome, StepsReached
from unvanish.monitor.schedule import WatchOptions
from unvanish.records import Run

_SPAWN = "torch.multiprocessing.spawn"


class Spawned:
    """The workers of one watched program."""

    def __init__(self, options: WatchOptions, command: tuple[str, ...], directory: str) -> None:
        self._options = options
        self._command = command
        self._directory = directory
        self._ids: list[str] = []  # of the runs, one for each call of spawn
        self._lent: Path | None = None  # a directory of ours where nothing is to be kept

    def adopt(self, process: Any) -> bool:
        """Watch `process`, which is about to start, if it is such a worker; return whether."""
        target: Any = getattr(process, "_target", None)
        if target is None or target.__module__ != _SPAWN or len(process._args) != 4:
            return False
        index = process._args[1]
        if index == 0 or not self._ids:
            self._ids.append(store.new_id())
        worker = Worker(
            wrapped=target,
            options=replace(self._options, store=self._where()),
            command=self._command,
            directory=self._directory,
            identity=self._ids[-1],
            index=index,
        )
        process._target = worker
        return True

    def run(self) -> Run | None:
        """Return the record of the workers that were started last; None if they left none."""
        for identity in reversed(self._ids):
            with contextlib.suppress(UnvanishError):
                return store.load(identity, self._where())
        return None

    def close(self) -> None:
        """Remove what was lent."""
        if self._lent is not None:
            shutil.rmtree(self._lent, ignore_errors=True)

    def _where(self) -> Path:
        if self._options.store is not None:
            return self._options.store
        if self._lent is None:
            self._lent = Path(tempfile.mkdtemp(prefix="unvanish-"))
        return self._lent / ".unvanish"


@dataclass(frozen=True, slots=True)
class Worker:
    """What a worker runs in place of torch's own function `wrapped`."""

    wrapped: Callable[..., None]
    options: WatchOptions
    command: tuple[str, ...]
    directory: str
    identity: str
    index: int

    def __call__(self, function: Any, index: int, arguments: Any, error_file: str) -> None:
        """Run it watched; it ends as it would have ended."""
        from unvanish.monitor.ranked import RankedSession
        from unvanish.monitor.ranks import Place, assume
        from unvanish.monitor.voice import stderr_lines

        say = stderr_lines()
        assume(Place(self.index, self.index + 1))
        session = RankedSession(
            self.options,
            command=self.command,
            directory=self.directory,
            say=say,
            identity=self.identity,
        )
        session.begin()
        outcome = Outcome("finished", 0)
        try:
            self.wrapped(function, index, arguments, error_file)
        except StepsReached:
            outcome = Outcome("steps-reached", 0)
        except SystemExit:
            outcome = Outcome("crashed", 1, _error_in(error_file))
            raise
        finally:
            session.end()
            try:
                run = session.run(outcome)
                if run.models and session.rank == 0 and self.options.store is not None:
                    store.save(run, self.options.store)
            except Exception as error:  # the worker's own outcome is worth more than our record
                say(_("error: {message}").format(message=error))


def _error_in(error_file: str) -> str | None:
    """Return the last line of the traceback that torch left for the parent."""
    if not os.path.exists(error_file):
        return None
    with open(error_file, "rb") as stream:
        text: str = pickle.load(stream)
    return text.strip().splitlines()[-1]
