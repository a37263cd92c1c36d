"""What `unvanish run` does where several ranks train together: a monitor for each model.

Every rank runs the script watched, by the same schedule; the first rank keeps the run and gives the
verdict on it.
"""

from __future__ import annotations

import datetime
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer

from unvanish import store
from unvanish._version import __version__
from unvanish.monitor.attach import watching
from unvanish.monitor.handle import Monitor
from unvanish.monitor.naming import named_apart
from unvanish.monitor.options import MonitorOptions
from unvanish.monitor.program import Outcome
from unvanish.monitor.ranks import place
from unvanish.monitor.schedule import WatchOptions
from unvanish.monitor.scout import Scout
from unvanish.monitor.session import StepLimit
from unvanish.monitor.silence import NothingSeen
from unvanish.records import Environment, Run


class RankedSession:
    """Listens from `begin` to `end`, then gives the record of this rank."""

    def __init__(
        self,
        options: WatchOptions,
        *,
        command: tuple[str, ...],
        directory: str,
        say: Callable[[str], None],
        identity: str | None = None,
    ) -> None:
        """`say` prints a line of ours; `identity` names the run (None: a new name)."""
        self.id = identity or store.new_id()
        self._options = options
        self._command = command
        self._directory = directory
        self._say = say
        self._created = datetime.datetime.now(datetime.UTC)
        self._started = time.monotonic()
        self.rank = 0  # as it was when the first model was found
        self._monitors: list[Monitor] = []
        self._scout = Scout(self._watch, say)
        self._limit = StepLimit(options.steps)

    def begin(self) -> None:
        """Start to listen."""
        self._scout.install()
        self._limit.install()

    def end(self) -> None:
        """Stop looking for models."""
        self._scout.remove()
        self._limit.remove()

    def run(self, outcome: Outcome, notes: tuple[str, ...] = ()) -> Run:
        """End the monitors, and return what they have seen as one record."""
        for monitor in self._monitors:
            monitor.finish(outcome)
        runs = [monitor.run() for monitor in self._monitors]
        return Run(
            id=self.id,
            kind="run",
            created=self._created.isoformat(timespec="seconds"),
            command=self._command,
            directory=self._directory,
            tool_version=__version__,
            environment=runs[0].environment if runs else _environment(),
            models=named_apart([model for run in runs for model in run.models]),
            ending=outcome.ending,
            exit_code=outcome.exit_code,
            error=outcome.error,
            notes=tuple(dict.fromkeys([note for run in runs for note in run.notes] + [*notes])),
            seconds=time.monotonic() - self._started,
            alarms=tuple(alarm for run in runs for alarm in run.alarms),
            incidents=tuple(incident for run in runs for incident in run.incidents),
        )

    def nothing_seen(self) -> NothingSeen:
        """Return what there is to say when no pass was traced."""
        return NothingSeen(torch_imported=True, backwards=self._scout.backwards)

    def _watch(self, model: nn.Module, optimizers: Sequence[Optimizer]) -> None:
        first = not self._monitors
        if first:
            self.rank = place().rank
        keep = self._options.store
        options = MonitorOptions(
            level="full" if self._options.probe else "standard",
            overhead=None,
            save=keep is not None and first,  # the others stand in the record at the end
            directory=Path(self._directory) if keep is None else keep.parent,
            kind="run",
            id=self.id if first else None,
            command=self._command,
            schedule=self._options.schedule,
            say=self._say,
        )
        monitor = watching(model, optimizers, options)
        if monitor not in self._monitors:
            self._monitors.append(monitor)
        self._limit.remove()
        self._limit.install()  # after the monitor, so that the last step is seen


def _environment() -> Environment:
    return Environment(
        python=platform.python_version(),
        torch=str(torch.__version__),
        platform=platform.platform(),
        device="cpu",
    )
