"""A sampled step that is over: its traces, and what its optimisers did, become records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from torch import Tensor
from torch.optim import Optimizer

from unvanish.measure import NameBook, ParameterUpdate, PendingTrace
from unvanish.measure.predictions import after_training
from unvanish.monitor import optimizers
from unvanish.monitor.lane import Lane
from unvanish.monitor.losses import Reading
from unvanish.records import NonFinite


@dataclass(slots=True, eq=False)
class Pass:
    """One backward pass that was seen; `pending` if it was traced."""

    site: int
    loss: Reading
    inside_step: bool  # a closure: backward runs while the optimiser steps
    auxiliary: bool  # its gradient is an ingredient of another loss (create_graph)
    steps_before: int  # optimiser steps seen when it ran
    key: frozenset[object] = frozenset()  # place, root modules called since the last one, loss op
    pending: PendingTrace | None = None
    reached: dict[int, Tensor] = field(default_factory=dict)  # parameters by id, of a traced pass
    version: int | None = None  # of the first of these when it ran
    optimised: frozenset[int] | None = None  # what the optimisers of then held; None: there is none
    opens_step: bool = False  # it was the first since its optimiser's last step
    copied: bool = False  # its step was that of an optimiser that holds copies of these

    def was_followed_by_an_update(self) -> bool:
        """Whether a parameter that it reached was written to since."""
        first = next(iter(self.reached.values()), None)
        return first is not None and first._version != self.version


@dataclass(slots=True, eq=False)
class Closing:
    """Traced passes of one step, waiting until all its optimisers have stepped."""

    lane: Lane
    step: int
    passes: list[Pass]
    waits_for: set[int]  # ids of optimisers that hold parameters it reached
    held: frozenset[int]  # ids of parameters of the lane's optimisers
    optimised: frozenset[int] | None  # and of any optimiser (None: there is none)
    updates: dict[int, ParameterUpdate] = field(default_factory=dict)
    broken: set[int] = field(default_factory=set)  # parameters that the step made non-finite
    optimizer: str = ""  # class name of the one that did

    def add(self, optimizer: Optimizer, effect: optimizers.StepEffect) -> None:
        """Add what one of the optimisers did."""
        self.updates.update(effect.updates)
        if self.lane.trains(optimizer):
            self.held |= optimizers.ids_of(optimizer)
        self.waits_for.discard(id(optimizer))
        if effect.nonfinite and not self.broken:
            self.broken = set(effect.nonfinite)
            self.optimizer = type(optimizer).__name__

    def reaches(self, optimizer: Optimizer) -> bool:
        """Whether `optimizer` holds a parameter that one of the passes reached."""
        held = optimizers.ids_of(optimizer)
        return any(not held.isdisjoint(one.reached) for one in self.passes)

    def resolve(self, names: NameBook) -> None:
        """Bring the numbers to the host and hand the traces to the lane."""
        for one in self.passes:
            if one.pending is None:
                continue
            opened_for = self.held if one.opens_step else frozenset()
            trace = one.pending.resolve(self.updates, opened_for)
            predicted = after_training(trace.predictions, self.step)
            trace = replace(trace, step=self.step, predictions=predicted)
            if trace.nonfinite is None and self.broken:
                trace = replace(trace, nonfinite=self._broken_parameter(one.pending))
            self.lane.see(one.pending, trace, names, self.held, self.optimised)
        self.lane.history.arrive()

    def _broken_parameter(self, pending: PendingTrace) -> NonFinite | None:
        for identity, (name, _owner) in pending.named_parameters.items():
            if identity in self.broken:
                return NonFinite(
                    direction="parameters",
                    op=self.optimizer,
                    module=name.rpartition(".")[0],
                    call=0,
                    kind="nan",
                    detail=name,
                )
        return None


def traced(passes: Iterable[Pass]) -> list[Pass]:
    """Return those of `passes` that were traced."""
    return [one for one in passes if one.pending is not None]
