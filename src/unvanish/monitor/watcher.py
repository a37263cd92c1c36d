"""What the events of a training loop mean: which backward to trace, whose step it was.

A trace belongs to the optimiser that steps next and holds parameters that the backward reached, so
several models in one script (a GAN) are kept apart. Without an optimiser a backward is a step.

A failure of ours never reaches the script: the watcher says so once and stops looking.
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
import threading
import weakref
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unvanish.errors import NoSignalError
from unvanish.i18n import _
from unvanish.measure import BackwardTracer, CallLog, NameBook, TraceOptions
from unvanish.measure.names import unwrapped
from unvanish.monitor import optimizers
from unvanish.monitor.closing import Closing, Pass, traced
from unvanish.monitor.lane import Lane
from unvanish.monitor.listener import BackwardCall
from unvanish.monitor.losses import StepNote, read_loss
from unvanish.monitor.naming import script_name
from unvanish.monitor.program import StepsReached
from unvanish.monitor.schedule import Schedule
from unvanish.monitor.sites import Sites

_UNSTEPPED_MOST = 256  # backward passes without any step, after which a backward is a step
_OPEN_MOST = 1024  # backward passes that wait for a step

P = ParamSpec("P")
T = TypeVar("T")


def _never_raises(
    method: Callable[Concatenate[Watcher, P], T],
) -> Callable[Concatenate[Watcher, P], T | None]:
    """Keep a failure of ours (also lack of memory) from the script; do nothing after one."""

    @functools.wraps(method)
    def guarded(self: Watcher, /, *args: P.args, **kwargs: P.kwargs) -> T | None:
        if self.failed:
            return None
        with self.lock:
            try:
                return method(self, *args, **kwargs)
            except Exception as error:
                self.give_up(error)
                return None

    return guarded


@dataclass(frozen=True, slots=True, eq=False)
class _Token:
    """What a backward that has begun needs when it ends."""

    one: Pass
    call: BackwardCall
    tracer: BackwardTracer | None
    loss_scale: float


class Watcher:
    """A `listener.Sink`: follows the script's training and collects one `Lane` a model."""

    def __init__(
        self,
        schedule: Schedule,
        *,
        probe: bool,
        limit: int | None,
        say: Callable[[str], None],
        sampled: Callable[[], None],
    ) -> None:
        """`say` prints a line, `sampled` is called when a sampled step is complete.

        `limit` ends a script that has no optimiser after so many backward passes.
        """
        self.lanes: list[Lane] = []
        self.notes: list[str] = []
        self.passes = 0  # backward passes seen
        self.steps = 0  # optimiser steps seen
        self.without_graph = 0  # calls of backward on what has no graph
        self.not_scalar: tuple[int, ...] | None = None  # shape of a loss that was no scalar
        self.device: str | None = None
        self.failed = False
        self.lock = threading.RLock()
        self.log = CallLog()
        self._names = NameBook(script_name)
        self._probe = probe
        self._limit = limit
        self._say = say
        self._sampled = sampled
        self._sites = Sites(schedule, self.lanes)
        self._open: list[Pass] = []  # passes that no step has claimed yet
        self._closing: Closing | None = None
        self._log_mark = 0  # calls before it were there when the last backward ended
        self._stepping: list[Optimizer] = []
        self._snapshots: dict[int, optimizers.Snapshot] = {}
        self._known: weakref.WeakSet[Optimizer] = weakref.WeakSet()
        self._looked_for_optimizers = False
        self._bare = False  # a backward is a step
        self._seen_bad_loss = False

    # --- from and to the outside ---------------------------------------------------------------

    @_never_raises
    def start(self) -> None:
        """Begin to record module calls."""
        self.log.install()
        self.log.active = True

    def stop(self) -> None:
        """Complete what is under way, and leave nothing behind in torch."""
        self._finish()
        self.log.remove()

    @_never_raises
    def _finish(self) -> None:
        self._settle()
        self._claim_leftovers()
        for lane in self.lanes:
            lane.history.arrive()

    def give_up(self, error: Exception) -> None:
        """Stop looking because of `error`, and say so."""
        self.failed = True
        self.log.remove()
        self._snapshots.clear()
        self._open.clear()
        self._closing = None
        note = _("measuring stopped after {count} backward passes ({error})").format(
            count=self.passes, error=f"{type(error).__name__}: {error}".splitlines()[0]
        )
        self.notes.append(note)
        self._say(_("{note}; the script goes on").format(note=note))

    # --- backward ------------------------------------------------------------------------------

    @_never_raises
    def backward_begins(self, describe: Callable[[], BackwardCall]) -> _Token | None:
        """Decide whether to trace this pass, and read its loss."""
        try:
            call = describe()
        except TypeError:  # the call itself is wrong, and torch is about to say so
            return None
        roots = [root for root in call.roots if root.grad_fn is not None]
        if not roots:
            self.without_graph += any(not root.requires_grad for root in call.roots)
            return None
        for root, cotangent in zip(call.roots, call.cotangents, strict=True):
            if cotangent is None and root.numel() != 1:
                self.not_scalar = tuple(root.shape)
                return None
        self._settle()
        self._notice_unseen_step()
        if self._bare and self._limit is not None and self.passes >= self._limit:
            raise StepsReached
        one = Pass(
            site=call.site,
            loss=read_loss(call),
            inside_step=bool(self._stepping),
            auxiliary=bool(call.inputs) and call.create_graph,
            steps_before=self.steps,
        )
        wanted = self._sites.wants(call.site, self.passes, recorded=self.log.active)
        tracer = self._tracer(one, roots) if wanted or self._is_first_bad(one) else None
        scale = call.scaled.scaler.get_scale() if tracer and call.scaled else 1.0
        if tracer is not None:
            tracer.__enter__()
        return _Token(one, call, tracer, scale)

    def backward_ends(
        self, token: _Token | None, *, finished: bool, gradients: Sequence[Tensor | None]
    ) -> None:
        """Take the hooks off, and see whether the pass is a step by itself."""
        if token is None:
            return
        if token.tracer is not None:
            if gradients:
                self._receive(token.tracer, token.call.inputs, gradients)
            token.tracer.__exit__(None, None, None)
        if finished:
            self._ended(token)

    @_never_raises
    def _receive(
        self, tracer: BackwardTracer, inputs: Sequence[object], gradients: Sequence[Tensor | None]
    ) -> None:
        """Hand on what `torch.autograd.grad` returned: it fires no hook of a parameter."""
        by_id = {id(given): gradient for given, gradient in zip(inputs, gradients, strict=False)}
        tracer.receive([by_id.get(id(leaf)) for leaf in tracer.leaves()])

    @_never_raises
    def _ended(self, token: _Token) -> None:
        self.passes += 1
        one = token.one
        if token.tracer is not None:
            self._keep(one, token.tracer, token.loss_scale)
        self._open.append(one)
        del self._open[:-_OPEN_MOST]
        self._log_mark = len(self.log.calls)
        if self._bare:
            self._claim(self._bare_lane(one), [one])
        self._tune()

    def _tracer(self, one: Pass, roots: Sequence[Tensor]) -> BackwardTracer | None:
        """Return a tracer, unless a pass like this one is traced already for this step."""
        self._look_for_optimizers()
        called = [item.module for item in self.log.calls[self._log_mark :] if item.parent is None]
        ops = [root.grad_fn.name() for root in roots if root.grad_fn is not None]
        one.key = frozenset([one.site, *(id(module) for module in called), *ops])
        if any(other.key == one.key for other in traced(self._open)):
            repeated = {id(self._names.root_of(unwrapped(module))) for module in called}
            self._forget_calls(repeated, since=self._log_mark)
            return None
        options = TraceOptions(
            probes=TraceOptions().probes if self._probe else 0,
            parameters=self._optimised() or frozenset(),
        )
        try:
            tracer = BackwardTracer(roots, self.log, self._names, options)
        except NoSignalError:
            return None
        self._sites.traced(one.site)
        self.device = self.device or _name_of_device(roots[0].device)
        return tracer

    def _keep(self, one: Pass, tracer: BackwardTracer, loss_scale: float) -> None:
        """Keep what `tracer` saw, unless a pass with the same graph is kept for this step."""
        loss = one.loss if isinstance(one.loss, float) else None
        pending = tracer.pending(step=0, loss=loss, loss_scale=loss_scale)
        for other in traced(self._open):
            if other.pending is not None and other.pending.signature == pending.signature:
                return
        one.pending, one.reached = pending, pending.parameters
        first = next(iter(one.reached.values()), None)
        one.version = None if first is None else first._version
        # What the user's modules print when they run again is not the script's output.
        with contextlib.redirect_stdout(io.StringIO()):
            pending.replay()

    def _is_first_bad(self, one: Pass) -> bool:
        """Whether this loss, on the CPU, is the first that is not finite."""
        bad = isinstance(one.loss, float) and not math.isfinite(one.loss)
        first, self._seen_bad_loss = bad and not self._seen_bad_loss, self._seen_bad_loss or bad
        return first

    # --- the optimiser's step -----------------------------------------------------------------

    @_never_raises
    def step_begins(self, optimizer: Optimizer) -> None:
        """Copy the parameters if this step's effect will be wanted."""
        self._stepping.append(optimizer)
        self._known.add(optimizer)
        self._bare = False
        lane = self._lane_of(optimizer)
        closure = not self._open and (lane is None or self._sites.due(lane))
        if (
            closure
            or self._closing_waits_for(optimizer)
            or any(one.pending is not None for one in self._belonging(optimizer))
        ):
            self._snapshots[id(optimizer)] = optimizers.Snapshot(optimizer)

    @_never_raises
    def step_ends(self, optimizer: Optimizer) -> None:
        """Give the passes that led to this step to the optimiser's model."""
        if optimizer in self._stepping:
            self._stepping.remove(optimizer)
        self.steps += 1
        snapshot = self._snapshots.pop(id(optimizer), None)
        effect = snapshot.compare() if snapshot is not None else None
        # A fused optimiser steps on overflow too, and leaves the parameters as they are.
        overflow = getattr(optimizer, "found_inf", None)
        self._stepped(optimizer, skipped=False if overflow is None else overflow.detach())
        if effect is not None and self._closing is not None:
            self._closing.add(optimizer, effect)
            if not self._closing.waits_for:
                self._settle()
        self._tune()

    @_never_raises
    def step_skipped(self, optimizer: Optimizer) -> None:
        """Take note of a step that the gradient scaler left out."""
        self._known.add(optimizer)
        self._stepped(optimizer, skipped=True)
        self._settle()
        self._tune()

    def _stepped(self, optimizer: Optimizer, *, skipped: bool | Tensor) -> None:
        mine = self._belonging(optimizer)
        lane = self._lane_of(optimizer)
        if mine:
            lane = lane or self._new_lane(optimizer)
            self._claim(lane, mine, skipped=skipped)
        elif lane is None:
            lane = self._join(optimizer)
        if lane is not None and lane.optimizer is None and self._closing is not None:
            lane.optimizer = optimizers.facts_of(optimizer)

    def _join(self, optimizer: Optimizer) -> Lane | None:
        """Let an optimiser that steps after another on the same gradients share its lane."""
        if self._closing is None or not self._closing.reaches(optimizer):
            return None
        self._closing.lane.optimizers.append(weakref.ref(optimizer))
        return self._closing.lane

    def _closing_waits_for(self, optimizer: Optimizer) -> bool:
        return self._closing is not None and id(optimizer) in self._closing.waits_for

    # --- whose pass it was --------------------------------------------------------------------

    def _lane_of(self, optimizer: Optimizer) -> Lane | None:
        return next((lane for lane in self.lanes if lane.trains(optimizer)), None)

    def _new_lane(self, optimizer: Optimizer | None = None) -> Lane:
        lane = Lane(optimizers=[] if optimizer is None else [weakref.ref(optimizer)])
        self.lanes.append(lane)
        return lane

    def _belonging(self, optimizer: Optimizer) -> list[Pass]:
        """Return the open passes that `optimizer` steps on."""
        if not self._open:
            return []
        lane = self._lane_of(optimizer)
        held = optimizers.ids_of(optimizer) if traced(self._open) else frozenset()
        return [one for one in self._open if self._is_of(one, lane, held)]

    def _is_of(self, one: Pass, lane: Lane | None, held: frozenset[int]) -> bool:
        if one.pending is not None:
            return not held.isdisjoint(one.reached)
        owners = self._sites.owners(one.site)
        return not owners or lane in owners

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
            self._settle()
            reached = {identity for one in kept for identity in one.reached}
            lane.reached = frozenset(reached)
            holders = [
                other for other in self._known if not optimizers.ids_of(other).isdisjoint(reached)
            ]
            self._closing = Closing(
                lane=lane,
                step=lane.step,
                passes=kept,
                waits_for={id(other) for other in holders},
                held=lane.held(),
                optimised=self._optimised(),
            )
            for one in kept:
                self._sites.claimed(one.site, lane)
            lane.roots = frozenset(id(model) for one in kept for model in _models(one))
        self._forget_calls(lane.roots)
        lane.last_seen = self.passes
        lane.step += 1

    def _claim_leftovers(self) -> None:
        """Give passes that no step followed to a model: the script ended, or has no optimiser."""
        for one in [*self._open]:
            owners = self._sites.owners(one.site)
            lane = next(iter(owners), None) or self._holder(one)
            if lane is None and not self.steps:
                lane = self._bare_lane(one)
            if lane is not None:
                self._claim(lane, [one])
                self._settle()

    def _holder(self, one: Pass) -> Lane | None:
        """Return the lane whose parameters a traced pass reached."""
        return next((lane for lane in self.lanes if not lane.reached.isdisjoint(one.reached)), None)

    def _notice_unseen_step(self) -> None:
        """Fall back to counting backward passes where steps are made that cannot be seen."""
        waiting = traced(self._open)
        if self._bare or self._stepping or not waiting:
            return
        last = waiting[-1]
        unseen = last.steps_before == self.steps and last.was_followed_by_an_update()
        if unseen or (self.steps == 0 and self.passes > _UNSTEPPED_MOST):
            self._bare = True
            for one in [*self._open]:
                self._claim(self._bare_lane(one), [one])
            self._settle()

    # --- optimisers and module calls -----------------------------------------------------------

    def _look_for_optimizers(self) -> None:
        if not self._looked_for_optimizers:
            self._looked_for_optimizers = True
            for optimizer in optimizers.existing_optimizers():
                self._known.add(optimizer)
            self._bare = not self._known

    def _optimised(self) -> frozenset[int] | None:
        """Return the ids of what the optimisers hold; None where there is no optimiser."""
        if not self._known:
            return None
        return frozenset().union(*(optimizers.ids_of(optimizer) for optimizer in self._known))

    def _forget_calls(self, roots: Collection[int], since: int = 0) -> None:
        """Drop the recorded calls of root modules (by id), and with them the inputs they hold."""
        kept = []
        for position, call in enumerate(self.log.calls):
            top = call
            while top.parent is not None:
                top = top.parent
            root = self._names.root_of(unwrapped(top.module))
            if position < since or id(root) not in roots:
                kept.append(call)
        self.log.calls = kept
        self._log_mark = len(kept)

    def _settle(self) -> None:
        """Turn the step that is over into records."""
        closing, self._closing = self._closing, None
        if closing is not None:
            closing.resolve(self._names)
            self._sampled()

    def _tune(self) -> None:
        """Record the next forward only if its backward may be traced."""
        newcomers = any(self._lane_of(optimizer) is None for optimizer in self._known)
        self.log.active = self._sites.alert(self.passes, newcomers=newcomers)
        if not self.log.active and self.log.calls:
            self.log.clear()
            self._log_mark = 0


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


def _name_of_device(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)
