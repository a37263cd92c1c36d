"""What `unvanish.monitor(model, optimizer)` returns: a monitor as its user sees it."""

from __future__ import annotations

from types import TracebackType

from torch import Tensor

from unvanish import words
from unvanish.errors import NoSignalError
from unvanish.i18n import _
from unvanish.monitor.optimizers import local
from unvanish.monitor.peers import RankSignal
from unvanish.monitor.program import outcome_of
from unvanish.monitor.shield import shielded
from unvanish.monitor.watchman import Watchman
from unvanish.records import Diagnosis, Finding, Incident, Run
from unvanish.shown import Shown


class Monitor(Watchman, Shown):
    """Watches one model and its optimisers until it is closed. Made by `unvanish.monitor`."""

    @property
    def closed(self) -> bool:
        """Whether it watches no more."""
        return self.off

    @property
    def id(self) -> str:
        """The run's id: `unvanish report ID`, `unvanish tail ID`."""
        return self._desk.id

    @property
    def step(self) -> int:
        """How many steps were seen."""
        return self._number

    @property
    def alarms(self) -> tuple[Finding, ...]:
        """The alarms so far, in order."""
        return tuple(self._desk.alarms)

    @property
    def incidents(self) -> tuple[Incident, ...]:
        """The latest incidents, in order."""
        return tuple(self._desk.incidents)

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be done, and why."""
        return tuple(self._desk.notes)

    @property
    def spent(self) -> float:
        """Seconds that sampled looks have taken, as measured."""
        return self._cadence.spent

    @property
    def ranks(self) -> tuple[RankSignal, ...]:
        """What was known of each rank at the latest sample; () where there is one rank."""
        return self._desk.ranks

    def run(self) -> Run:
        """Return what is known so far as a record; waits for numbers under way."""
        with self.lock:
            self._flights.take_all(self._alive())
            return self._desk.run()

    def diagnosis(self) -> Diagnosis:
        """Return the verdict on what is known so far.

        Raises NoSignalError if no step was sampled.
        """
        with self.lock:
            self._flights.take_all(self._alive())
            return self._desk.diagnosis()

    @shielded
    def log(self, loss: Tensor | float) -> None:
        """Say what the loss of the step under way is, where backward cannot tell it."""
        if isinstance(loss, Tensor):
            scalar = local(loss).sum()
            self._logged.append(float(scalar) if scalar.device.type == "cpu" else scalar.clone())
        else:
            self._logged.append(float(loss))

    def close(self, error: BaseException | None = None) -> None:
        """Stop watching and save the run; `error` is what ended the training. May be repeated."""
        self.finish(outcome_of(error))

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(error)

    def __repr__(self) -> str:
        state = _("closed") if self.closed else _("watching")
        return f"<unvanish.Monitor {self.id} ({state}), step {self.step}>"

    def _fragment(self) -> str:
        from unvanish.report.fragments import fragment
        from unvanish.report.rich_html import to_html

        told = [repr(self), *self.notes, *(alarm.title for alarm in self.alarms)]
        said = [words.printable(text) for text in told]
        try:
            return to_html(said) + fragment(self.diagnosis())
        except NoSignalError as nothing:
            return to_html([*said, str(nothing)])
