"""Whose backward was it? Passes that were seen, and the steps that claim them.

A pass belongs to the optimiser that steps next and holds parameters that it reached, so several
models in one script (a GAN) are kept apart. Of a pass that was not traced, what it reached is not
known; there the place in the script tells. Without an optimiser a backward is a step.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Sequence

from torch import Tensor, nn
from torch.optim import Optimizer

from unvanish.measure import NameBook
from unvanish.monitor import optimizers
from unvanish.monitor.closing import Closing, Pass, traced
from unvanish.monitor.lane import Lane
from unvanish.monitor.losses import StepNote
from unvanish.monitor.sites import Sites

_UNSTEPPED_MOST = 256  # backward passes without any step, after which a backward is a step
_OPEN_MOST = 1024  # backward passes that wait for a step


class Ledger:
    """Gives passes to lanes. `bare` is true while a backward is a step."""

    def __init__(
        self,
        lanes: list[Lane],
        sites: Sites,
        names: NameBook,
        *,
        sampled: Callable[[], None],
        forget: Callable[[Collection[int]], None],
    ) -> None:
        """`sampled` is called when a sampled step is complete, `forget` with the root modules (by
        id) whose recorded calls are no longer needed.
        """
        self.lanes = lanes
        self.passes = 0  # backward passes seen
        self.steps = 0  # optimiser steps seen
        self.bare = False
        self._sites = sites
        self._names = names
        self._sampled = sampled
        self._forget = forget
        self._open: list[Pass] = []  # passes that no step has claimed yet
        self._closing: Closing | None = None
        self._known: weakref.WeakSet[Optimizer] = weakref.WeakSet()
        self._looked = False

    # --- optimisers ----------------------------------------------------------------------------

    def look_for_optimizers(self) -> None:
        """Find the optimisers that exist already, once."""
        if not self._looked:
            self._looked = True
            for optimizer in optimizers.existing_optimizers():
                self._known.add(optimizer)
            self.bare = not self._known

    def know(self, optimizer: Optimizer) -> None:
        """Take `optimizer` for the only one there is, until another steps."""
        self._known.add(optimizer)
        self._looked = True

    def optimised(self) -> frozenset[int] | None:
        """Return the ids of what the optimisers hold; None where there is no optimiser."""
        if not self._known:
            return None
        return frozenset().union(*(optimizers.ids_of(optimizer) for optimizer in self._known))

    def parameters(self) -> list[Tensor]:
        """Return what the optimisers hold."""
        return [
            parameter
            for optimizer in self._known
            for _group, _lr, parameter in optimizers.parameters_of(optimizer)
        ]

    def newcomers(self) -> bool:
        """Whether there are optimisers that have not stepped yet."""
        return any(self._lane_of(optimizer) is None for optimizer in self._known)

    # --- passes and steps ----------------------------------------------------------------------

    def traced(self) -> list[Pass]:
        """Return the traced passes that no step has claimed yet."""
        return traced(self._open)

    def add(self, one: Pass) -> None:
        """Take in a pass that is over."""
        self.passes += 1
        self._open.append(one)
        del self._open[:-_OPEN_MOST]
        if self.bare:
            self._claim(self._bare_lane(one), [one])

    def wants_effect(self, optimizer: Optimizer) -> bool:
        """Whether what the coming step of `optimizer` does belongs to a trace."""
        self._known.add(optimizer)
        self.bare = False
        if self._closing is not None and id(optimizer) in self._closing.waits_for:
            return True
        if not self._open:  # backward may run inside the step, in a closure
            lane = self._lane_of(optimizer)
            return lane is None or self._sites.due(lane)
        return bool(traced(self._belonging(optimizer)))

    def stepped(
        self,
        optimizer: Optimizer,
        effect: optimizers.StepEffect | None,
        *,
        skipped: bool | Tensor,
    ) -> None:
        """Give the passes that led to a step of `optimizer` to its model.

        A step that was `skipped` had no effect.
        """
        self._known.add(optimizer)
        mine, lane = self._belonging(optimizer), self._lane_of(optimizer)
        if mine:
            lane = lane or self._new_lane(optimizer)
            self._claim(lane, mine, skipped=skipped)
        elif lane is None:
            lane = self._join(optimizer)
        closing = self._closing
        if closing is None:
            return
        if lane is not None and lane.optimizer is None:
            lane.optimizer = optimizers.facts_of(optimizer)
        if effect is not None:
            closing.add(optimizer, effect)
        if skipped is True or (effect is not None and not closing.waits_for):
            self.settle()

    def told(self, loss: float) -> None:
        """Count a step of the first model that nobody saw: one backward, of this loss."""
        self.settle()
        lane = self.lanes[0]
        self.passes += 1
        self.steps += 1
        lane.history.add(StepNote(lane.step, [loss], sampled=False, backwards=1))
        lane.last_seen = self.passes
        lane.step += 1

    def settle(self) -> None:
        """Turn the step that is over into records."""
        closing, self._closing = self._closing, None
        if closing is not None:
            closing.resolve(self._names)
            self._sampled()

    def finish(self) -> None:
        """Settle, and give passes that no step followed to a model: the script has ended."""
        self.settle()
        for one in [*self._open]:
            lane = next(iter(self._sites.owners(one.site)), None) or self._holder(one)
            if lane is None and one.pending is not None and not any(x.traces for x in self.lanes):
                # Nothing was ever claimed: an optimiser of other parameters, or none.
                lane = self.lanes[0] if self.lanes else self._bare_lane(one)
            if lane is not None:
                self._claim(lane, [one])
                self.settle()
        for lane in self.lanes:
            lane.history.arrive()

    def drop(self) -> None:
        """Forget what waits; the lanes stay."""
        self._open.clear()
        self._closing = None

    def notice_unseen_step(self) -> None:
        """Fall back to counting backward passes where steps are made that cannot be seen."""
        waiting = traced(self._open)
        if self.bare or not waiting:
            return
        last = waiting[-1]
        unseen = last.steps_before == self.steps and last.was_followed_by_an_update()
        if unseen or (self.steps == 0 and self.passes > _UNSTEPPED_MOST):
            self.bare = True
            for one in [*self._open]:
                self._claim(self._bare_lane(one), [one])
            self.settle()

    # --- whose it was --------------------------------------------------------------------------

    def _join(self, optimizer: Optimizer) -> Lane | None:
        """Let an optimiser that steps after another on the same gradients share its lane."""
        if self._closing is None or not self._closing.reaches(optimizer):
            return None
        self._closing.lane.optimizers.append(weakref.ref(optimizer))
        return self._closing.lane

    def _lane_of(self, optimizer: Optimizer) -> Lane | None:
        return next((lane for lane in self.lanes if lane.trains(optimizer)), None)

    def _new_lane(self, optimizer: Optimizer | None = None) -> Lane:
        lane = Lane(optimizers=[] if optimizer is None else [weakref.ref(optimizer)])
        self.lanes.append(lane)
        return lane

    def _belonging(self, optimizer: Optimizer) -> list[Pass]:
        """Return the open passes that `optimizer` steps on."""
        return [one for one in self._open if self._is_of(one, optimizer)]

    def _is_of(self, one: Pass, optimizer: Optimizer) -> bool:
        if one.pending is not None:
            if not self._is_foreign(one):
                return not optimizers.ids_of(optimizer).isdisjoint(one.reached)
            one.copied = optimizers.has_gradients(optimizer)
        owners = self._sites.owners(one.site)
        if owners:
            return self._lane_of(optimizer) in owners
        return one.pending is None or one.copied

    def _is_foreign(self, one: Pass) -> bool:
        """Whether no optimiser holds what a traced pass reached.

        Some hold copies of the parameters: shards (FSDP), master weights in float32.
        """
        return bool(one.reached) and (self.optimised() or frozenset()).isdisjoint(one.reached)

    def _bare_lane(self, one: Pass) -> Lane:
        """Return the lane of a model that has no optimiser."""
        without = [lane for lane in self.lanes if not lane.optimizers]
        for lane in without:
            if lane in self._sites.owners(one.site) or not lane.reached.isdisjoint(one.reached):
                return lane
        if one.pending is None and without:
            return without[-1]
        return self._new_lane()

    def _claim(self, lane: Lane, passes: list[Pass], *, skipped: bool | Tensor = False) -> None:
        """Make `passes` the next step of `lane`."""
        kept = traced(passes)
        passes[0].opens_step = not passes[0].inside_step
        lane.history.add(
            StepNote(
                step=lane.step,
                losses=[one.loss for one in _adding_up(passes)],
                sampled=bool(kept),
                backwards=len(passes),
                skipped=skipped,
            )
        )
        self._open = [one for one in self._open if one not in passes]
        if kept:
            self.settle()
            self._closing = self._closing_of(lane, kept)
            lane.reached = frozenset(identity for one in kept for identity in one.reached)
            lane.roots = frozenset(id(model) for one in kept for model in _models(one))
            for one in kept:
                self._sites.claimed(one.site, lane)
        self._forget(lane.roots)
        lane.last_seen = self.passes
        lane.step += 1

    def _closing_of(self, lane: Lane, passes: list[Pass]) -> Closing:
        reached = {identity for one in passes for identity in one.reached}
        optimised = self.optimised() or passes[0].optimised
        return Closing(
            lane=lane,
            step=lane.step,
            passes=passes,
            waits_for={
                id(other)
                for other in self._known
                if not optimizers.ids_of(other).isdisjoint(reached)
            },
            held=lane.held(),
            optimised=None if passes[0].copied else optimised,
        )

    def _holder(self, one: Pass) -> Lane | None:
        """Return the lane whose parameters a traced pass reached."""
        return next((lane for lane in self.lanes if not lane.reached.isdisjoint(one.reached)), None)


def _models(one: Pass) -> Sequence[nn.Module]:
    return one.pending.models if one.pending is not None else ()


def _adding_up(passes: Sequence[Pass]) -> list[Pass]:
    """Return the passes whose losses add up to the step's loss.

    Of a closure that runs several times (LBFGS) the first counts: the loss where the step began.
    """
    main = [one for one in passes if not one.auxiliary] or list(passes)
    outside = [one for one in main if not one.inside_step]
    inside = [one for one in main if one.inside_step]
    return [*outside, *inside[:1]]
