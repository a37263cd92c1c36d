"""What to do at each event of a training loop: trace this backward, compare around this step.

A failure of ours never reaches the script: the watcher says so once and stops looking.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from unvanish.errors import NoSignalError
from unvanish.i18n import _
from unvanish.measure import BackwardTracer, CallLog, NameBook, TraceOptions
from unvanish.measure.names import unwrapped
from unvanish.measure.spectrum import SAMPLED
from unvanish.monitor import optimizers
from unvanish.monitor.closing import Pass
from unvanish.monitor.lane import Lane
from unvanish.monitor.ledger import Ledger
from unvanish.monitor.listener import BackwardCall
from unvanish.monitor.losses import read_loss
from unvanish.monitor.naming import script_name
from unvanish.monitor.program import StepsReached
from unvanish.monitor.schedule import Schedule
from unvanish.monitor.shield import Shielded, shielded
from unvanish.monitor.sites import Sites


@dataclass(frozen=True, slots=True, eq=False)
class _Token:
    """What a backward that has begun needs when it ends."""

    one: Pass
    call: BackwardCall
    tracer: BackwardTracer | None
    loss_scale: float


class Watcher(Shielded):
    """A `listener.Sink`: follows the script's training and collects one `Lane` a model."""

    def __init__(
        self,
        schedule: Schedule,
        *,
        probe: bool,
        limit: int | None,
        say: Callable[[str], None],
        sampled: Callable[[], None],
        spectrum: bool = False,
    ) -> None:
        """`say` prints a line, `sampled` is called when a sampled step is complete.

        `spectrum`: also that of the Jacobian, at the steps that the schedule names (none: the
        first).

        `limit` ends a script that has no optimiser after so many backward passes.
        """
        super().__init__()
        self.lanes: list[Lane] = []
        self.notes: list[str] = []
        self.without_graph = 0  # calls of backward on what has no graph
        self.not_scalar: tuple[int, ...] | None = None  # shape of a loss that was no scalar
        self.device: str | None = None
        self.log = CallLog()
        self._schedule = schedule
        self._sampled = sampled
        self._begin_ledger()
        self._probe = probe
        self._spectrum = spectrum
        self._limit = limit
        self._say = say
        self._log_mark = 0  # calls before it were there when the last backward ended
        self._stepping: list[Optimizer] = []
        self._snapshots: dict[int, optimizers.Snapshot] = {}
        self._seen_bad_loss = False

    # --- from and to the outside ---------------------------------------------------------------

    @shielded
    def start(self) -> None:
        """Begin to record module calls."""
        self.log.install()
        self.log.active = True

    def _begin_ledger(self) -> None:
        self._names = NameBook(script_name)
        self._sites = Sites(self._schedule, self.lanes)
        self.ledger = Ledger(
            self.lanes,
            self._sites,
            self._names,
            sampled=self._sampled,
            forget=self._forget_calls,
        )

    @shielded
    def begin_anew(self) -> None:
        """Forget all that was seen."""
        self.ledger.drop()
        self.lanes.clear()
        self._snapshots.clear()
        self._seen_bad_loss = False
        self._begin_ledger()
        self.log.clear()
        self._log_mark = 0
        self.log.active = True

    def stop(self) -> None:
        """Complete what is under way, and leave nothing behind in torch."""
        self._finish()
        self.log.remove()

    @shielded
    def _finish(self) -> None:
        self.ledger.finish()

    def give_up(self, error: Exception) -> None:
        """Stop looking because of `error`, and say so."""
        self.off = True
        self.log.remove()
        self._snapshots.clear()
        self.ledger.drop()
        note = _("measuring stopped after {count} backward passes ({error})").format(
            count=self.ledger.passes, error=f"{type(error).__name__}: {error}".splitlines()[0]
        )
        self.notes.append(note)
        self._say(_("{note}; the script goes on").format(note=note))

    # --- backward ------------------------------------------------------------------------------

    @shielded
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
        self.ledger.settle()
        if not self._stepping:
            self.ledger.notice_unseen_step()
        if self.ledger.bare and self._limit is not None and self.ledger.passes >= self._limit:
            raise StepsReached
        one = Pass(
            site=call.site,
            loss=read_loss(call),
            inside_step=bool(self._stepping),
            auxiliary=bool(call.inputs) and call.create_graph,
            steps_before=self.ledger.steps,
        )
        wanted = self._sites.wants(call.site, self.ledger.passes, recorded=self.log.active)
        first_bad = self._is_first_bad(one)  # notes it, also where the pass is traced anyway
        tracer = self._tracer(one, roots) if wanted or first_bad else None
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
            try:
                token.tracer.__exit__(None, None, None)
            except Exception as error:
                self.give_up(error)
        if finished:
            self._ended(token)

    @shielded
    def _receive(
        self, tracer: BackwardTracer, inputs: Sequence[Tensor], gradients: Sequence[Tensor | None]
    ) -> None:
        """Hand on what `torch.autograd.grad` returned: it fires no hook of a parameter."""
        tracer.receive_for(inputs, gradients)

    @shielded
    def _ended(self, token: _Token) -> None:
        if token.tracer is not None:
            self._keep(token.one, token.tracer, token.loss_scale)
        self._log_mark = len(self.log.calls)
        if not token.one.auxiliary:
            self.log.derivatives.clear()
        self.ledger.add(token.one)
        self.tune()

    def _tracer(self, one: Pass, roots: Sequence[Tensor]) -> BackwardTracer | None:
        """Return a tracer, unless a pass like this one is traced already for this step."""
        self.ledger.look_for_optimizers()
        called = [item.module for item in self.log.calls[self._log_mark :] if item.parent is None]
        ops = [root.grad_fn.name() for root in roots if root.grad_fn is not None]
        one.key = frozenset([one.site, *(id(module) for module in called), *ops])
        if any(other.key == one.key for other in self.ledger.traced()):
            repeated = {id(self._names.root_of(unwrapped(module))) for module in called}
            self._forget_calls(repeated, since=self._log_mark)
            return None
        options = TraceOptions(
            probes=TraceOptions().probes if self._probe else 0,
            spectrum=SAMPLED if self._spectrum and self._sites.named(one.site) else 0,
            parameters=self.ledger.optimised() or frozenset(),
        )
        try:
            tracer = BackwardTracer(roots, self.log, self._names, options)
        except NoSignalError:
            return None
        if not one.auxiliary:
            tracer.note_leftover(self.ledger.parameters())
            tracer.take_derivatives()
        self._sites.traced(one.site)
        self.device = self.device or _name_of_device(roots[0].device)
        return tracer

    def _keep(self, one: Pass, tracer: BackwardTracer, loss_scale: float) -> None:
        """Keep what `tracer` saw, unless a pass with the same graph is kept for this step."""
        loss = one.loss if isinstance(one.loss, float) else None
        pending = tracer.pending(step=0, loss=loss, loss_scale=loss_scale)
        for other in self.ledger.traced():
            if other.pending is not None and other.pending.signature == pending.signature:
                return
        one.pending, one.reached = pending, pending.parameters
        one.optimised = self.ledger.optimised()
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

    @shielded
    def derivative_taken(self, outputs: Sequence[object], gradients: Sequence[Any]) -> None:
        """Take note of a derivative that will be part of a loss."""
        if self.log.active:
            self.log.derivatives.note(outputs, gradients)

    # --- the optimiser's step -----------------------------------------------------------------

    @shielded
    def step_begins(self, optimizer: Optimizer) -> None:
        """Copy the parameters if this step's effect will be wanted."""
        if optimizer not in self._stepping:
            self._stepping.append(optimizer)
        if self.ledger.wants_effect(optimizer):
            self._snapshots[id(optimizer)] = optimizers.Snapshot(optimizer)

    @shielded
    def step_ends(self, optimizer: Optimizer) -> None:
        """Give the passes that led to this step to the optimiser's model."""
        if optimizer in self._stepping:
            self._stepping.remove(optimizer)
        snapshot = self._snapshots.pop(id(optimizer), None)
        effect = snapshot.compare() if snapshot is not None else None
        # A fused optimiser steps on overflow too, and leaves the parameters as they are.
        overflow = getattr(optimizer, "found_inf", None)
        self.ledger.steps += 1
        self.ledger.stepped(
            optimizer, effect, skipped=False if overflow is None else overflow.detach()
        )
        self.tune()

    @shielded
    def step_skipped(self, optimizer: Optimizer) -> None:
        """Take note of a step that the gradient scaler left out."""
        self.ledger.stepped(optimizer, None, skipped=True)
        self.tune()

    @shielded
    def step_told(self, loss: float) -> None:
        """Take note of a step of the one model there is that was made out of sight."""
        self._seen_bad_loss = self._seen_bad_loss or not math.isfinite(loss)
        self.ledger.told(loss)
        self.tune()

    # --- module calls --------------------------------------------------------------------------

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

    def tune(self) -> None:
        """Record the next forward only if its backward may be traced."""
        passes, newcomers = self.ledger.passes, self.ledger.newcomers()
        self.log.active = self._sites.alert(passes, newcomers=newcomers)
        if not self.log.active and self.log.calls:
            self.log.clear()
            self._log_mark = 0


def _name_of_device(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)
