"""One model over a long run: events become steps.

Every step costs a few microseconds of bookkeeping; what a look costs, and which
steps get one, is the business of `cadence`. A part of ours that fails is switched off and said
once, and the training goes on as if it had never been there.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.optim import Optimizer

from unvanish.diagnose.config import load_config
from unvanish.i18n import _
from unvanish.measure import BackwardTracer
from unvanish.measure.sharding import plain_class
from unvanish.monitor import stepping
from unvanish.monitor.cadence import Cadence, Look, ScheduledCadence
from unvanish.monitor.clipping import Clipping
from unvanish.monitor.convoy import Convoy, gather
from unvanish.monitor.desk import Desk
from unvanish.monitor.flights import Flights
from unvanish.monitor.gauge import Gauge
from unvanish.monitor.lane import Lane
from unvanish.monitor.listener import BackwardCall, Listener
from unvanish.monitor.losses import Reading, at_hand, read_loss, scale_of
from unvanish.monitor.naming import script_name
from unvanish.monitor.optimizers import facts_of, ids_of
from unvanish.monitor.options import MonitorOptions
from unvanish.monitor.pace import Pace
from unvanish.monitor.program import Outcome, outcome_of
from unvanish.monitor.ranks import place
from unvanish.monitor.sampler import Sampler
from unvanish.monitor.shield import Shielded, shielded
from unvanish.monitor.standin import StandIn
from unvanish.monitor.stepping import Markers, SeenPass, Step

T = TypeVar("T")
_OPEN_MOST = 1024  # backward passes that wait for a step
_SUSPICIOUS = 64  # backward passes without a step, after which our hooks are looked for
_PATIENCE = 5.0  # seconds that the end waits for what other ranks have begun to share
_PATIENCE_AFTER_ERROR = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class _Token:
    """What a backward that has begun needs when it ends."""

    call: BackwardCall
    loss: Reading
    scale: Reading
    markers: list[tuple[int, int]]
    tracer: BackwardTracer | None
    inside_step: bool


class Watchman(Shielded):
    """A `listener.Sink`: watches one model and its optimisers until it has finished."""

    def __init__(
        self, model: nn.Module, optimizers: Sequence[Optimizer], options: MonitorOptions, rank: int
    ) -> None:
        """Begin to watch. Raises UsageError for options that cannot be."""
        super().__init__()
        self._model = weakref.ref(model)
        self._optimizers = [weakref.ref(one) for one in optimizers]
        self._rank = rank
        self._traces = options.level != "cheap"
        self._off: set[str] = set()
        self._options = options
        self._cadence = (
            Cadence(options.every, options.overhead, options.at)
            if options.schedule is None
            else ScheduledCadence(options.schedule)
        )
        self._pace = Pace()
        self._convoy: Convoy | None = None
        self._mustered = False
        self._closing = False  # a step is being closed
        self._stand_in = False
        self._lane = Lane(optimizers=[*self._optimizers], alone=False)  # the convoy sees to it
        self._lane.name = script_name(model) or plain_class(model)
        self._lane.type = plain_class(model)
        self._lane.optimizer = facts_of(optimizers[0])
        self._gauge = Gauge(model)
        self._sampler = Sampler(self._lane, self._model, replay=options.level == "full")
        self._desk = Desk(self._lane, options, load_config(options.directory), self._attempt, rank)
        self._flights = Flights(
            self._lane, self._desk, self._model, lambda: self._number, self._attempt, rank
        )
        self._listener = Listener(self)
        self._clipping = Clipping(self._clipped)
        self._number = 0  # of the step under way
        self._kind: Look = self._cadence.look(0)
        self._passes: list[SeenPass] = []
        self._logged: list[Reading] = []
        self._clip: Reading | None = None
        self._open: Step | None = None
        self._bad_loss = False
        self._markers = Markers([])
        self._ids: frozenset[int] = frozenset()
        self._learn(model)
        self._listener.install()
        self._clipping.install()
        self._prepare()
        weakref.finalize(model, _close, weakref.ref(self)).atexit = False

    # --- the end ----------------------------------------------------------------------------------

    def finish(self, outcome: Outcome) -> None:
        """Do as `close` does, where it is known how the training ended."""
        with self.lock:
            if self.off:
                self._dismiss()
                return
            self._attempt("reading", lambda: self._flights.take_all(self._alive()))
            patience = _PATIENCE if outcome.error is None else _PATIENCE_AFTER_ERROR
            self._attempt("reading", lambda: self._leave_ranks(patience))
            self._take_off()
            self._end(outcome)

    def _leave_ranks(self, patience: float) -> None:
        if self._convoy is not None:
            for arrived in self._convoy.finish(min(patience, self._options.timeout)):
                self._flights.receive(arrived)

    def _dismiss(self) -> None:
        """Take off what kept step with the other ranks after a failure."""
        if self._stand_in:
            self._stand_in = False
            self._listener.remove()
            if self._convoy is not None:
                self._convoy.finish(0.0)

    # --- attaching -----------------------------------------------------------------------------

    def adopt(self, optimizers: Sequence[Optimizer]) -> None:
        """Also watch these optimisers; those that are gone are forgotten."""
        alive = [one for one in self._alive() if one not in optimizers]
        self._optimizers = [weakref.ref(one) for one in (*alive, *optimizers)]
        self._lane.optimizers = [*self._optimizers]
        model = self._model()
        if model is not None:
            self._learn(model)

    def watches(self, model: nn.Module) -> bool:
        """Whether this is the monitor of `model`, and at work."""
        return not self.off and self._model() is model

    def _learn(self, model: nn.Module) -> None:
        """Look up which parameters are ours."""
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._markers = Markers(trained)
        self._ids = frozenset(map(id, trained)).union(*(ids_of(one) for one in self._alive()))
        if trained:
            self._desk.seen_on(trained[0].device)

    def _alive(self) -> list[Optimizer]:
        return [one for reference in self._optimizers if (one := reference()) is not None]

    # --- failures of ours ----------------------------------------------------------------------

    def _attempt(self, part: str, do: Callable[[], T]) -> T | None:
        """Let a part of ours do something; one that fails is switched off, and that is said."""
        if part in self._off:
            return None
        try:
            return do()
        except Exception as error:
            self._off.add(part)
            if part == "tracing":
                self._sampler.disarm()
            self._desk.say(
                _("{part} was switched off ({error}); the training goes on").format(
                    part=part, error=_line(error)
                ),
                own=True,
            )
            return None

    def give_up(self, error: Exception) -> None:
        """Switch all of it off because of `error`, and say so."""
        self._stand_in = place().ranks > 1
        self._take_off()
        self._desk.say(
            _(
                "the monitor switched itself off at step {step} ({error}); the training goes on"
            ).format(step=self._number, error=_line(error)),
            own=True,
        )
        stepped = set() if self._open is None else set(self._open.stepped)
        self._end(Outcome("finished", 0))
        if self._stand_in:
            stand_in = StandIn(self._muster, self._optimizers, self._number, stepped)
            self._listener.hand_over(stand_in)
            if self._closing:
                stand_in.close_step()

    def _take_off(self) -> None:
        """Leave nothing of ours in torch, except what keeps step with other ranks."""
        if not self._stand_in:
            self._listener.remove()
        self._clipping.remove()
        self._sampler.disarm()

    def _end(self, outcome: Outcome) -> None:
        self.off = True
        self._flights.forget()
        self._open = None
        try:
            self._desk.finish(outcome)
        except Exception as error:  # nothing is left that could report it but this
            self._desk.drop()
            text = _("the run was not saved ({error})").format(error=_line(error))
            self._desk.say(text, own=True)

    # --- backward ------------------------------------------------------------------------------

    @shielded
    def backward_begins(self, describe: Callable[[], BackwardCall]) -> _Token | None:
        """Read the loss; put hooks on the graph if this step is sampled."""
        try:
            call = describe()
        except TypeError:  # the call itself is wrong, and torch is about to say so
            return None
        roots = [root for root in call.roots if root.grad_fn is not None]
        if not roots or any(
            cotangent is None and root.numel() != 1
            for root, cotangent in zip(call.roots, call.cotangents, strict=True)
        ):
            return None
        inside = self._open is not None and self._open.look is not None
        if self._open is not None and self._open.stepped:
            self._close_step()  # its other optimisers do not step this time
        if roots[0].device.type == "meta":
            return None
        self._pace.backward_begins()
        loss = read_loss(call)
        bad = isinstance(loss, float) and not math.isfinite(loss) and not self._bad_loss
        if bad:
            self._bad_loss = True
            if self._convoy is None:  # a trace of this rank alone needs no other
                self._kind = "sampled"
        tracer = None
        if (self._sampler.armed or bad) and not self._sampler.traced:
            tracer = self._attempt("tracing", lambda: self._sampler.begin(roots, self._ids))
        return _Token(call, loss, scale_of(call), self._markers.state(), tracer, inside)

    def backward_ends(
        self, token: _Token | None, *, finished: bool, gradients: Sequence[Tensor | None]
    ) -> None:
        """Take the hooks off, and note whose pass it was."""
        if token is None:
            return
        if token.tracer is not None:
            self._leave(token, gradients)
        if finished:
            self._ended(token, gradients)

    @shielded
    def _leave(self, token: _Token, gradients: Sequence[Tensor | None]) -> None:
        tracer = token.tracer
        assert tracer is not None
        try:
            if gradients:
                tracer.receive_for(token.call.inputs, gradients)
        finally:
            tracer.__exit__(None, None, None)

    @shielded
    def _ended(self, token: _Token, gradients: Sequence[Tensor | None]) -> None:
        reached = self._markers.state() != token.markers or any(
            id(given) in self._ids for given in token.call.inputs
        )
        tracer = token.tracer
        if tracer is not None:
            scale = token.call.scaled.scaler.get_scale() if token.call.scaled else 1.0
            kept = self._attempt(
                "tracing",
                lambda: self._sampler.end(tracer, token.call, token.loss, scale, self._ids),
            )
            reached = reached or bool(kept)
        auxiliary = bool(token.call.inputs) and token.call.create_graph
        seen = SeenPass(token.loss, token.scale, reached, auxiliary, token.inside_step)
        if self._open is not None:
            self._inside(self._open, token)
            return
        self._passes.append(seen)
        if len(self._passes) % _SUSPICIOUS == 0:
            self._listen_again()
        del self._passes[:-_OPEN_MOST]

    def _inside(self, step: Step, token: _Token) -> None:
        """Take in a pass of a closure, which runs inside the optimiser's step."""
        step.backwards += 1
        step.inside += 1
        if step.inside == 1:  # of a closure that runs often, the first: there the step began
            step.losses.append(token.loss)
            self._look_again(step)

    def _look_again(self, step: Step) -> None:
        """Read the gradients that arrived, or were clipped, since the step began."""
        look = step.look
        if look is not None:
            self._attempt("measuring", lambda: self._gauge.look_again(look))

    def _listen_again(self) -> None:
        """Put our hooks back if somebody has cleared all hooks on optimisers."""
        if not self._listener.intact():
            self._listener.remove()
            self._listener.install()
            self._desk.say(
                _("the hooks on optimisers were removed; {count} steps were not seen").format(
                    count=len(self._passes)
                ),
                own=True,
            )
            self._passes.clear()

    # --- the optimiser's step ------------------------------------------------------------------

    @shielded
    def step_begins(self, optimizer: Optimizer) -> None:
        """Look at the gradients and the weights, if this step gets a look."""
        if not self._is_ours(optimizer):
            if self._ids.isdisjoint(ids_of(optimizer)):
                self._passes.clear()  # they were another model's
            return
        if self._open is not None and id(optimizer) in self._open.stepped:
            self._close_step()
        if self._open is None:
            self._open_step(optimizer)

    @shielded
    def step_ends(self, optimizer: Optimizer) -> None:
        """Close the step once all optimisers have stepped."""
        step = self._open
        if step is None or not self._is_ours(optimizer):
            return
        overflow = getattr(optimizer, "found_inf", None)
        if isinstance(overflow, Tensor):  # a fused optimiser steps on overflow, and does nothing
            step.skipped = at_hand(overflow)
        self._has_stepped(optimizer, step)

    def derivative_taken(self, outputs: Sequence[Any], gradients: Sequence[Any]) -> None:
        """Derivatives inside the loss are looked at by `run` and `check`, not on a long run."""

    @shielded
    def step_skipped(self, optimizer: Optimizer) -> None:
        """Take note of a step that the gradient scaler left out."""
        if not self._is_ours(optimizer):
            return
        if self._open is None:
            self._open_step(optimizer)
        assert self._open is not None
        self._open.skipped = 1.0
        self._has_stepped(optimizer, self._open)

    def _is_ours(self, optimizer: Optimizer) -> bool:
        return any(reference() is optimizer for reference in self._optimizers)

    def _has_stepped(self, optimizer: Optimizer, step: Step) -> None:
        step.stepped.add(id(optimizer))
        if len(step.stepped) >= len(self._alive()):
            self._close_step()

    @shielded
    def _clipped(self, parameter: Tensor | None, factor: Reading) -> None:
        if parameter is None or id(parameter) not in self._ids or not self._listener.on:
            return
        if self._open is None:
            self._clip = factor
        elif self._open.inside <= 1:  # in a closure
            self._open.clip = factor
            self._look_again(self._open)

    def _open_step(self, optimizer: Optimizer) -> None:
        passes = stepping.claim(self._passes)
        self._passes = []
        alive = self._alive()
        scale = getattr(optimizer, "grad_scale", None)
        step = Step(
            number=self._number,
            kind=self._kind,
            losses=self._logged or stepping.adding_up(passes),
            loss_scale=passes[-1].scale if passes else 1.0,
            backwards=len(passes),
            rates=stepping.rates_of(alive),
            clip=self._clip,
            gradients_scaled=isinstance(scale, Tensor),
        )
        if isinstance(scale, Tensor):
            step.loss_scale = at_hand(scale)
        self._open, self._logged, self._clip = step, [], None
        model = self._model()
        if step.kind != "none" and model is not None:
            step.look = self._attempt(
                "measuring",
                lambda: self._gauge.look(model, alive, thorough=step.kind == "sampled"),
            )
            if step.kind == "sampled":
                self._learn(model)

    def _close_step(self) -> None:
        step, self._open = self._open, None
        assert step is not None
        self._closing = True
        convoy = self._muster()
        if convoy is not None and step.kind == "sampled":
            convoy.owe(step.number)
        alive = self._alive()
        look = step.look
        if look is not None and self._attempt("measuring", lambda: self._finished(step)) is None:
            step.look = None
        step.trace = self._attempt("tracing", lambda: self._sampler.send(step.number, alive))
        if self._sampler.armed:
            self._sampler.disarm()
        self._lane.step = self._number + 1
        alarmed = self._flights.take(step, alive)
        if convoy is not None:
            for arrived in convoy.step_over(step.number):
                alarmed |= self._flights.receive(arrived)
        self._cadence.step_over(step.number, step.kind, self.own)
        self.own = 0.0
        if alarmed and (convoy is None or not convoy.together):
            self._cadence.alarmed(step.number)
        self._closing = False
        self._number += 1
        self._kind = self._cadence.look(self._number)
        if self._kind == "light" and self._gauge.spread and convoy is not None:
            self._kind = "none"  # a light look asks no other rank, and a shard's norm is none
        self._pace.step_ended(looked_at_next=self._kind != "none")
        self._prepare()

    def _muster(self) -> Convoy | None:
        """Come together with the other ranks, once, at the end of the first step."""
        if not self._mustered:
            self._mustered = True
            model, here = self._model(), place()
            if model is not None and here.ranks > 1:
                self._cadence = self._cadence.shared()
                self._convoy = gather(
                    self._gauge.layout(model, self._alive()),
                    here,
                    self._cadence,
                    self._pace,
                    self._options.timeout,
                    self._desk.say,
                )
                self._flights.convoy = self._convoy
                self._desk.joins(self._convoy, here)
        return self._convoy

    def _finished(self, step: Step) -> bool:
        assert step.look is not None
        self._gauge.finish(step.look)
        return True

    def _prepare(self) -> None:
        """Record module calls from here if the step that begins is sampled."""
        if self._kind == "sampled" and self._traces and not self._sampler.armed:
            self._attempt("tracing", self._sampler.arm)


def _close(reference: weakref.ref[Watchman]) -> None:
    """Stop watching a model that is gone."""
    watchman = reference()
    if watchman is not None:
        watchman.finish(outcome_of(None))


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
