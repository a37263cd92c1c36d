"""What `run` and `watch` add to the store at each sampled step: what is new since the last one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from unvanish.monitor.journal import Journal
from unvanish.monitor.lane import Lane
from unvanish.records import ModelRun
from unvanish.store import Batch
from unvanish.store.derived import readings_of


class Diary:
    """Writes lanes to a journal, each step and each trace once."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._steps: dict[Lane, int] = {}  # how many were written
        self._traced: dict[Lane, int] = {}  # the step of the last trace that was written

    def write(self, lanes: Sequence[Lane], models: Sequence[ModelRun]) -> None:
        """Add what is new; `models` are the records of those `lanes` that have traces."""
        traced = [lane for lane in lanes if lane.traces]
        for position, (lane, model) in enumerate(zip(traced, models, strict=True)):
            last = self._traced.get(lane, -1)
            fresh = tuple(trace for trace in model.traces if trace.step > last)
            steps = model.steps[self._steps.get(lane, 0) :]
            if not fresh and not steps:
                continue
            self._steps[lane] = len(model.steps)
            self._traced[lane] = max((trace.step for trace in fresh), default=last)
            self._journal.add(
                Batch(
                    model=position,
                    steps=steps,
                    readings=tuple(one for trace in fresh for one in readings_of(trace)),
                    traces=fresh,
                    facts=replace(model, traces=(), steps=()),
                ),
                at_once=True,
            )

    def close(self) -> None:
        """Let go of the store; whoever has the finished record saves it."""
        self._journal.close()
