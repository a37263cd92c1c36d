"""One training of a live network: its steps, its own random numbers, and what is seen of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from unvanish.fix.cure import Live
from unvanish.fix.treat import Rates, Treated, clip, entered
from unvanish.fix.trial import Job
from unvanish.measure.preserve import RandomStates
from unvanish.monitor.program import Outcome as Ending
from unvanish.monitor.schedule import Schedule, WatchOptions
from unvanish.monitor.session import Session
from unvanish.records import Run

SCHEDULE = Schedule()  # the steps of a trial that are traced


class Training:
    """A training about to begin. It goes on step by step, so that several can keep pace."""

    def __init__(self, job: Job, live: Live, treated: Treated, order: Sequence[int]) -> None:
        """`order` gives the batch of each step. Random numbers go on from here in `random()`."""
        assert live.optimizer is not None
        self.job = job
        self.live = live
        self.optimizer = live.optimizer
        self.treated = treated
        self.order = tuple(order)
        self.rates = Rates(live.optimizer, live.settings)
        self.losses: list[float] = []
        self._states = RandomStates.capture()
        self._session: Session | None = None

    @contextmanager
    def random(self) -> Iterator[None]:
        """Have the global generators go on as this training left them; put them back after it."""
        outside = RandomStates.capture()
        self._states.restore()
        try:
            yield
        finally:
            self._states = RandomStates.capture()
            outside.restore()

    def step(self, batch: Any) -> None:
        """Make one step on `batch`."""
        self.backward(batch)
        self.advance()

    def backward(self, batch: Any) -> None:
        """Compute the gradients of a step, and note its loss."""
        live, settings = self.live, self.live.settings
        self.optimizer.zero_grad()
        with entered(settings):
            loss = live.loss_fn(live.model, batch)
        scaled = loss * settings.loss_scale if settings.loss_scale != 1.0 else loss
        torch.autograd.backward(scaled)
        self.losses.append(float(loss.detach()))

    def advance(self) -> None:
        """Let the optimiser step, at the rates that the cures want."""
        settings = self.live.settings
        clip(self.optimizer, settings)
        self.rates.begin()
        self.optimizer.step()
        self.rates.end()
        if settings.zero_grad_each_step:
            self.optimizer.zero_grad()

    def twin(self) -> Training:
        """Return a copy that is not watched, and has not begun."""
        model, optimizer = copy.deepcopy((self.live.model, self.optimizer))
        live = replace(self.live, model=model, optimizer=optimizer)
        return Training(self.job, live, self.treated, self.order)

    # --- what is seen of it --------------------------------------------------------------------

    def begin(self) -> None:
        """Begin to watch."""
        options = WatchOptions(SCHEDULE, probe=True)
        self._session = Session(
            options, kind="watch", command=(), directory="", say=lambda line: None
        )
        self._session.know(self.optimizer)
        self._session.begin()

    def end(self) -> None:
        """Watch no more."""
        if self._session is not None:
            self._session.end()

    def run(self) -> Run:
        """Return what was seen."""
        assert self._session is not None
        return self._session.run(Ending("finished", 0))

    def pause(self) -> None:
        """Look away for a while."""
        assert self._session is not None
        self._session.pause()

    def resume(self) -> None:
        """Look again."""
        assert self._session is not None
        self._session.resume()

    def told(self, loss: float) -> None:
        """Take note of a step that was made during a pause."""
        assert self._session is not None
        self.losses.append(loss)
        self._session.told(loss)

    @property
    def followed(self) -> bool:
        """Whether what is seen is one model that trains."""
        assert self._session is not None
        watcher = self._session.watcher
        return not watcher.off and len(watcher.lanes) == 1
