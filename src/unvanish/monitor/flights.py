"""Reading back: steps wait, fly together, and are taken in in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from unvanish.monitor.convoy import Convoy
from unvanish.monitor.desk import Desk
from unvanish.monitor.flight import Arrived, Flight
from unvanish.monitor.lane import Lane
from unvanish.monitor.stepping import Step

_TOGETHER = 16  # steps that are taken in at once: one by one, each would find cold caches
_WAITING_MOST = 4096  # steps that wait for a transfer


class Flights:
    """The steps that are over and whose numbers are not yet on the desk."""

    def __init__(
        self,
        lane: Lane,
        desk: Desk,
        model: Callable[[], nn.Module | None],
        now: Callable[[], int],
        attempt: Callable[[str, Callable[[], Any]], Any],
        rank: int,
    ) -> None:
        """`now` gives the number of the step under way; `attempt` lets a part of ours, by its name,
        do something that may fail.
        """
        self.convoy: Convoy | None = None  # the other ranks, once we have come together
        self._lane = lane
        self._desk = desk
        self._model = model
        self._now = now
        self._attempt = attempt
        self._rank = rank
        self._waiting: list[Step] = []
        self._under_way: list[Flight] = []

    def take(self, step: Step, optimizers: Sequence[Optimizer]) -> bool:
        """Send what waits after a look, and take in what has arrived; whether there is an alarm.

        Steps without a look are taken in by the dozen, unless their loss is not finite: then they
        are sampled.
        """
        self._waiting.append(step)
        alarmed = False
        if step.kind != "none" or len(self._waiting) >= _WAITING_MOST:
            if step.kind == "sampled":
                alarmed = self._land_all()
            self._launch(optimizers)
        elif (
            len(self._waiting) >= _TOGETHER
            and not self._under_way
            and not any(one.on_device() for one in self._waiting)
        ):
            self._launch(optimizers)
        while self._under_way and (self._under_way[0].ready() or self._is_due(self._under_way[0])):
            alarmed |= self._land()
        return alarmed

    def take_all(self, optimizers: Sequence[Optimizer]) -> None:
        """Take in everything, after waiting for it."""
        if self._waiting:
            self._launch(optimizers)
        self._land_all()

    def receive(self, arrived: Arrived) -> bool:
        """Put a step on the desk; whether it raises an alarm."""
        if arrived.local is not None and arrived.trace is not None:
            self._lane.restate(arrived.local, arrived.trace)
        alarmed = self._desk.receive(arrived, self._model(), self._now())
        sample = arrived.sample
        if sample is not None:
            self._attempt("sharing", lambda: self._desk.heed(sample))
        return alarmed

    def forget(self) -> None:
        """Drop what has not arrived."""
        self._waiting, self._under_way = [], []

    def _is_due(self, flight: Flight) -> bool:
        """Whether the other ranks are to know what `flight` brings."""
        return self.convoy is not None and flight.since(self._now())

    def _launch(self, optimizers: Sequence[Optimizer]) -> None:
        waiting, self._waiting = self._waiting, []
        self._under_way.append(Flight(waiting, self._lane, optimizers))

    def _land(self) -> bool:
        alarmed = False
        for arrived in self._under_way.pop(0).land(self._rank):
            if self.convoy is not None:
                self.convoy.take(arrived)
            else:
                alarmed |= self.receive(arrived)
        return alarmed

    def _land_all(self) -> bool:
        alarmed = False
        while self._under_way:
            alarmed |= self._land()
        return alarmed
