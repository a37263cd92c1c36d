"""Writing a run to the store while it goes on. What cannot be written never stops the training."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from unvanish import store
from unvanish.errors import NotOurFileError, StorageError
from unvanish.i18n import _
from unvanish.records import Run
from unvanish.store import Batch, RunWriter

_PATIENCE = 0.25  # seconds that a step may wait for another process that writes
_KEPT = 64  # batches that wait while the store cannot be written
_PAUSE = 2.0  # seconds between two writes of light looks
_TOGETHER = 256  # of them at most, so that no step waits long


class Journal:
    """Adds batches to one run; says once when it cannot, and once when it can again."""

    def __init__(
        self,
        run: Run,
        directory: Path | None,
        say: Callable[[str], None],
        retention: int | None = store.RETENTION,
    ) -> None:
        """`directory` None: nothing is written. `say` is given a line when something is wrong."""
        self.saved: Path | None = None
        self._run = run
        self._directory = directory
        self._say = say
        self._retention = retention
        self._writer: RunWriter | None = None
        self._waiting: list[Batch] = []
        self._failed = False
        self._written = 0.0
        self._process = os.getpid()

    def add(self, batch: Batch, *, at_once: bool) -> None:
        """Keep `batch`: now, or with others that come within two seconds (256 at most)."""
        if self._directory is None or os.getpid() != self._process:
            return
        self._waiting.append(batch)
        late = time.monotonic() - self._written > _PAUSE
        if at_once or late or len(self._waiting) % _TOGETHER == 0:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if self._directory is None or not self._waiting:
            return
        try:
            if self._writer is None:
                self._writer = store.begin(
                    self._run, self._directory, _PATIENCE, retention=self._retention
                )
            for batch in _joined(self._waiting):
                self._writer.add(batch)
        except (StorageError, NotOurFileError) as error:
            self._fail(error)
            return
        self._waiting.clear()
        self._written = time.monotonic()
        if self._failed:
            self._failed = False
            self._say(_("the run is being saved again"))

    def finish(self, run: Run) -> Path | None:
        """Keep the finished record, in a file of its own if the database cannot be written."""
        if self._directory is None or os.getpid() != self._process:
            return None
        self.flush()
        try:
            if self._writer is not None and not self._failed:
                self._writer.finish(run)
                self.saved = self._directory / store.DATABASE
            else:
                self.saved = store.save(run, self._directory)
        except (StorageError, NotOurFileError) as error:
            self._say(_("error: {message}").format(message=error))
        finally:
            self.close()
        return self.saved

    def close(self) -> None:
        """Let go of the store."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _fail(self, error: Exception) -> None:
        del self._waiting[:-_KEPT]
        self._written = time.monotonic()  # light looks wait as usual before they try again
        if not self._failed:
            self._failed = True
            self._say(
                _("the run cannot be saved ({error}) The training goes on.").format(error=error)
            )


def _joined(batches: Sequence[Batch]) -> list[Batch]:
    """Return one batch for each model, so that what waited is written together."""
    by_model: dict[int, list[Batch]] = {}
    for batch in batches:
        by_model.setdefault(batch.model, []).append(batch)
    return [
        Batch(
            model=model,
            steps=tuple(step for one in some for step in one.steps),
            readings=tuple(reading for one in some for reading in one.readings),
            traces=tuple(trace for one in some for trace in one.traces),
            facts=next((one.facts for one in reversed(some) if one.facts is not None), None),
            alarms=tuple(alarm for one in some for alarm in one.alarms),
            incidents=tuple(incident for one in some for incident in one.incidents),
        )
        for model, some in by_model.items()
    ]
