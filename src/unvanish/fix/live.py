"""Trials in this process: copies of the user's network, on the user's batches."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from unvanish.diagnose import diagnose
from unvanish.diagnose.config import Config
from unvanish.errors import UsageError, UserCodeError
from unvanish.fix.cure import Live, LossFunction, NotApplicable
from unvanish.fix.seeds import redraw, seeded
from unvanish.fix.treat import Rates, Treated, candidates, clip, entered, generator, treat
from unvanish.fix.trial import UNTREATED, Candidate, Outcome, Treatment
from unvanish.fix.yardstick import Metric, Yardstick
from unvanish.i18n import _
from unvanish.monitor.program import Outcome as Ending
from unvanish.monitor.schedule import Schedule, WatchOptions
from unvanish.monitor.session import Session
from unvanish.records import Diagnosis, ModelRun, Run

MOST_BATCHES = 512  # kept in memory of a source that makes them
_HELD_OUT = 5  # one batch in five is kept for the yardstick

MakeOptimizer = Callable[[Any], Optimizer]


class LiveTrainer:
    """A `trial.Trainer` for a model, its batches, its loss and its optimiser."""

    def __init__(
        self,
        model: nn.Module,
        batches: Iterable[Any],
        loss_fn: LossFunction,
        optimizer: MakeOptimizer,
        *,
        steps: int,
        model_fn: Callable[[], nn.Module] | None = None,
        metric: Metric | None = None,
        config: Config | None = None,
    ) -> None:
        """`metric(model, batch)` is the yardstick, the lower the better; without it, the loss.

        Raises UsageError if there is no batch, or the model cannot be copied.
        """
        self.steps = steps
        self.notes: list[str] = []
        self.varies: bool | None = None
        self._model = model
        self._model_fn = model_fn
        self._loss_fn = loss_fn
        self._make_optimizer = optimizer
        self._config = config
        self._train_on, self._held_out = self._split(batches)
        self._run: ModelRun | None = None
        self._yardstick = Yardstick(loss_fn, metric, self._held_out, self.notes)
        self.yardstick = self._yardstick.name
        self._copy(model)  # that it can be copied shows at once

    # --- a Trainer -----------------------------------------------------------------------------

    def propose(self, baseline: Outcome) -> list[Candidate]:
        """See `trial.Trainer`."""
        assert baseline.diagnosis is not None
        self._run = baseline.diagnosis.run.models[0] if baseline.diagnosis.run.models else None
        return candidates(baseline.diagnosis, self._live(0), lambda: self._live(0))

    def train(self, treatment: Treatment, seed: int, steps: int) -> Outcome:
        """See `trial.Trainer`. Raises UserCodeError where the untreated network fails."""
        with seeded(seed):
            live = self._live(seed)
            try:
                treated = treat(live, treatment)
                losses, run = self._watched(live, seed, steps)
                score = self._yardstick.score(live)
            except NotApplicable as reason:
                return Outcome(refused=str(reason) or treatment.label)
            except Exception as error:
                if treatment == UNTREATED:
                    raise UserCodeError(
                        _("the untreated training failed: {error}").format(error=_line(error)),
                        _("Make a plain loop over these batches work first."),
                    ) from error
                return Outcome(error=_line(error), cost=0.0)
        return _outcome(treated, losses, score, self._diagnosed(run), steps / self.steps)

    def cured(self, treatment: Treatment) -> nn.Module:
        """Return a copy of the user's model with the treatment applied, not trained."""
        with seeded(0):
            live = self._live(0)
            treat(live, treatment)
        return live.model

    def apply(self, treatment: Treatment) -> None:
        """Apply the treatment to the user's own model, in place, as `cured` does to a copy."""
        with seeded(0):
            live = replace(self._live(0), model=self._model)
            live.optimizer = self._make_optimizer(self._model.parameters())
            treat(live, treatment)

    # --- one training --------------------------------------------------------------------------

    def _watched(self, live: Live, seed: int, steps: int) -> tuple[list[float], Run]:
        options = WatchOptions(Schedule(), probe=True)
        session = Session(options, kind="watch", command=(), directory="", say=lambda line: None)
        session.begin()
        try:
            losses = self._loop(live, seed, steps)
        finally:
            session.end()
        return losses, session.run(Ending("finished", 0))

    def _loop(self, live: Live, seed: int, steps: int) -> list[float]:
        optimizer, settings = live.optimizer, live.settings
        assert optimizer is not None
        rates = Rates(optimizer, settings)
        losses: list[float] = []
        live.model.train(self._model.training)
        for batch in self._order(seed, steps):
            optimizer.zero_grad()
            with entered(settings):
                loss = self._loss_fn(live.model, batch)
            scaled = loss * settings.loss_scale if settings.loss_scale != 1.0 else loss
            torch.autograd.backward(scaled)
            losses.append(float(loss.detach()))
            clip(optimizer, settings)
            rates.begin()
            optimizer.step()
            rates.end()
            if settings.zero_grad_each_step:
                optimizer.zero_grad()
        return losses

    def _order(self, seed: int, steps: int) -> Iterable[Any]:
        """Yield `steps` batches: every pass over them in an order of its own, the seed's."""
        draw = torch.Generator().manual_seed(seed)
        done = 0
        while done < steps:
            for index in torch.randperm(len(self._train_on), generator=draw).tolist():
                if done == steps:
                    return
                yield self._train_on[index]
                done += 1

    def _diagnosed(self, run: Run) -> Diagnosis | None:
        return diagnose(run, self._config) if run.models else None

    # --- making copies -------------------------------------------------------------------------

    def _live(self, seed: int) -> Live:
        model = self._instance(seed)
        optimizer = self._make_optimizer(model.parameters())
        return Live(
            model=model,
            batch=self._train_on[0],
            loss_fn=self._loss_fn,
            optimizer=optimizer,
            run=self._run,
            generator=generator(seed),
        )

    def _instance(self, seed: int) -> nn.Module:
        if seed == 0:
            return self._copy(self._model)
        if self._model_fn is not None:
            with seeded(seed):
                return self._model_fn()
        model = self._copy(self._model)
        redraw(model, seed)
        return model

    def _copy(self, model: nn.Module) -> nn.Module:
        try:
            return copy.deepcopy(model)
        except Exception as error:
            raise UsageError(
                _("the model cannot be copied: {error}").format(error=_line(error)),
                _("Give model_fn=, a function that builds it."),
            ) from error

    # --- batches -------------------------------------------------------------------------------

    def _split(self, batches: Iterable[Any]) -> tuple[list[Any], list[Any]]:
        most = max(self.steps, _HELD_OUT)
        if not isinstance(batches, list | tuple):
            most = min(MOST_BATCHES, most)
        once = isinstance(batches, Iterator)  # gone once it is read
        kept = _kept(batches, most if once else most + 1)  # one more: are there more?
        if not kept:
            raise UsageError(_("there is no batch"), _("Give a list of batches, or a DataLoader."))
        more = len(kept) > most
        kept = kept[:most]
        if once:
            self.notes.append(
                _("the batches come from a generator; the first {count} were kept").format(
                    count=len(kept)
                )
            )
        elif more:
            self.notes.append(_("only the first {count} batches are used").format(count=len(kept)))
        if len(kept) < _HELD_OUT:
            self.notes.append(
                _(
                    "with {count} batches none is held out: the yardstick is the loss on them"
                ).format(count=len(kept))
            )
            return kept, kept
        held = len(kept) // _HELD_OUT
        return kept[:-held], kept[-held:]


def _kept(batches: Iterable[Any], most: int) -> list[Any]:
    """Return the first batches; a DataLoader's own generators are left as they were."""
    owners = (batches, getattr(batches, "sampler", None), getattr(batches, "batch_sampler", None))
    generators = [getattr(owner, "generator", None) for owner in owners]
    states = [(g, g.get_state()) for g in generators if isinstance(g, torch.Generator)]
    try:
        with seeded(0):  # without one it draws from the global generator
            return list(islice(batches, most))
    finally:
        for own, state in states:
            own.set_state(state)


def _outcome(
    treated: Treated,
    losses: Sequence[float],
    score: float,
    diagnosis: Diagnosis | None,
    cost: float,
) -> Outcome:
    return Outcome(
        losses=tuple(losses),
        score=score,
        diagnosis=diagnosis,
        edits=treated.edits,
        note=treated.note,
        code=treated.code,
        cost=cost,
    )


def _line(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}".splitlines()
    return text[0] if text else type(error).__name__
