"""Steps whose numbers are on their way to the host."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor
from torch.optim import Optimizer

from unvanish.measure import ParameterUpdate
from unvanish.measure.transfer import Transfer
from unvanish.monitor.lane import Lane
from unvanish.monitor.optimizers import not_finite, parameters_of
from unvanish.monitor.stepping import Step
from unvanish.records import StepRecord, Trace

if TYPE_CHECKING:
    from unvanish.monitor.convoy import Sample


@dataclass(frozen=True, slots=True)
class Arrived:
    """A step whose numbers are here."""

    step: Step
    record: StepRecord
    trace: Trace | None
    always_dead: dict[str, float]
    local: Trace | None = None  # the same before the ranks' numbers were put together
    sample: Sample | None = None  # what all ranks know of the step


class Flight:
    """A sampled step and those before it that wait, sent together: one transfer a device."""

    def __init__(self, steps: Sequence[Step], lane: Lane, optimizers: Sequence[Optimizer]) -> None:
        """Start to send what the `steps` have on a device."""
        self._steps = steps
        self._lane = lane
        self._groups: dict[int, tuple[int, float]] = {}
        self._optimizer = type(optimizers[0]).__name__ if optimizers else ""
        if any(step.trace is not None for step in steps):
            self._groups = {
                id(parameter): (group, lr)
                for optimizer in optimizers
                for group, lr, parameter in parameters_of(optimizer)
            }
        self._shares: dict[str, Tensor] = {}
        for step in steps:
            if step.trace is not None:
                step.trace.see_units(lane)
                self._shares = lane.dead_shares()
        self._transfer = Transfer(self._vectors())

    def since(self, step: int) -> bool:
        """Whether a sampled step of before `step` is among those sent."""
        return any(one.kind == "sampled" and one.number < step for one in self._steps)

    def ready(self) -> bool:
        """Whether `land` would not have to wait."""
        traces = [step.trace for step in self._steps if step.trace is not None]
        return self._transfer.ready() and all(trace.ready() for trace in traces)

    def land(self, rank: int) -> list[Arrived]:
        """Return the steps with their numbers."""
        arrived = iter(self._transfer.arrived())
        steps = [self._land(step, arrived, rank) for step in self._steps]
        dead = {key: next(arrived)[0] for key in self._shares}
        return [Arrived(step, record, trace, dead) for step, record, trace in steps]

    def _vectors(self) -> list[Tensor]:
        vectors: list[Tensor] = []
        for step in self._steps:
            vectors += [item for item in step.readings() if isinstance(item, Tensor)]
            vectors += [] if step.look is None else step.look.vectors()
        return [*vectors, *self._shares.values()]

    def _land(
        self, step: Step, arrived: Iterator[Sequence[float]], rank: int
    ) -> tuple[Step, StepRecord, Trace | None]:
        numbers = [
            float(next(arrived)[0]) if isinstance(item, Tensor) else item
            for item in step.readings()
        ]
        if step.look is not None:
            scale = numbers[0] if step.gradients_scaled else 1.0
            step.levels = step.look.resolve(arrived, math.log10(scale) if scale > 0 else 0.0)
        record = step.record(iter(numbers), rank)
        trace = None
        if step.trace is not None:
            self._add_updates(step)
            trace = step.trace.resolve()
            step.trace = None
        step.look = None
        return step, record, trace

    def _add_updates(self, step: Step) -> None:
        """Hand what the optimiser did to the trace."""
        if step.look is None or step.levels is None or step.trace is None:
            return
        closing = step.trace.closing
        levels = step.levels
        for parameter, weight, change, update in zip(
            step.look.parameters, levels.weight, levels.change, levels.update, strict=False
        ):
            group, lr = self._groups.get(id(parameter), (None, None))
            closing.updates[id(parameter)] = ParameterUpdate(update, lr, group)
            if not_finite(change) and not not_finite(weight):
                closing.broken.add(id(parameter))
                closing.optimizer = self._optimizer
