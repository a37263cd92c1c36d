"""Trials in this process: copies of the user's network, on the user's batches."""

from __future__ import annotations

import contextlib
import copy
import math
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
from unvanish.fix.ensemble import Choice, Ensembles, shape
from unvanish.fix.seeds import redraw, seeded
from unvanish.fix.training import Training
from unvanish.fix.treat import candidates, entered, generator, treat
from unvanish.fix.trial import UNTREATED, Candidate, Job, Outcome, Treatment
from unvanish.i18n import _
from unvanish.records import Diagnosis, Ensemble, ModelRun, Run

MOST_BATCHES = 512  # kept of an endless or very long source
_HELD_OUT = 5  # one batch in five is kept for the yardstick

MakeOptimizer = Callable[[Any], Optimizer]
Metric = Callable[[nn.Module, Any], float]


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
        ensemble: Choice = "measured",
    ) -> None:
        """`metric(model, batch)` is the yardstick, the lower the better; without it, the loss.

        `ensemble`: whether trainings that are alike run together where they can: where that was
        measured to be faster, always, or never.

        Raises UsageError if there is no batch, or the model cannot be copied.
        """
        self.steps = steps
        self.notes: list[str] = []
        self.varies: bool | None = None
        self._model = model
        self._model_fn = model_fn
        self._loss_fn = loss_fn
        self._make_optimizer = optimizer
        self._metric = metric
        self._config = config
        self._train_on, self._held_out = self._split(batches)
        self._run: ModelRun | None = None
        self._ensembles = Ensembles(self._train_on, ensemble)
        self._done: dict[Job, Outcome] = {}  # trained ahead, not yet asked for
        self.yardstick = self._named_yardstick()
        self._copy(model)  # that it can be copied shows at once

    # --- a Trainer -----------------------------------------------------------------------------

    def propose(self, baseline: Outcome) -> list[Candidate]:
        """See `trial.Trainer`."""
        assert baseline.diagnosis is not None
        self._run = baseline.diagnosis.run.models[0] if baseline.diagnosis.run.models else None
        return candidates(baseline.diagnosis, self._live(0), lambda: self._live(0))

    def train(self, treatment: Treatment, seed: int, steps: int) -> Outcome:
        """See `trial.Trainer`. Raises UserCodeError where the untreated network fails."""
        job = Job(treatment, seed, steps)
        if job in self._done:
            return self._done.pop(job)
        try:
            training = self._training(job)
        except NotApplicable as reason:
            return Outcome(refused=str(reason) or treatment.label)
        try:
            self._alone(training)
            score = self._score(training)
        except Exception as error:
            if treatment == UNTREATED:
                raise UserCodeError(
                    _("the untreated training failed: {error}").format(error=_line(error)),
                    _("Make a plain loop over these batches work first."),
                ) from error
            return Outcome(error=_line(error), cost=0.0)
        return self._outcome(training, score)

    def ahead(self, jobs: Sequence[Job], begins: Callable[[int], None]) -> None:
        """See `trial.Trainer`."""
        new = [job for job in dict.fromkeys(jobs) if job not in self._done]
        entries = sum(parameter.numel() for parameter in self._model.parameters())
        if not self._ensembles.wanted(len(new) * entries):
            return
        alike: dict[Any, list[Training]] = {}
        for job in new:
            # What is wrong with one shows when it is asked for.
            with contextlib.suppress(Exception):
                training = self._training(job)
                alike.setdefault(shape(training), []).append(training)
        for group in alike.values():
            if len(group) > 1 and self._ensembles.chosen(group):
                begins(len(group))
                if self._ensembles.train(group):
                    with contextlib.suppress(Exception):
                        scores = [self._score(one) for one in group]
                        for one, score in zip(group, scores, strict=True):
                            self._done[one.job] = self._outcome(one, score)

    @property
    def ensembles(self) -> list[Ensemble]:
        """See `trial.Trainer`."""
        return self._ensembles.records

    @property
    def unasked(self) -> float:
        """See `trial.Trainer`."""
        return sum(outcome.cost for outcome in self._done.values())

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

    def _training(self, job: Job) -> Training:
        """Prepare a training. Raises NotApplicable."""
        with seeded(job.seed):
            live = self._live(job.seed)
            treated = treat(live, job.treatment)
            live.model.train(self._model.training)
            return Training(job, live, treated, self._order(job.seed, job.steps))

    def _alone(self, training: Training) -> None:
        with training.random():
            training.begin()
            try:
                for index in training.order:
                    training.step(self._train_on[index])
            finally:
                training.end()

    def _outcome(self, training: Training, score: float) -> Outcome:
        """Return what a training gave that has come to its end."""
        return Outcome(
            losses=tuple(training.losses),
            score=score,
            diagnosis=self._diagnosed(training.run()),
            edits=training.treated.edits,
            note=training.treated.note,
            code=training.treated.code,
            cost=training.job.steps / self.steps,
        )

    def _order(self, seed: int, steps: int) -> list[int]:
        """Return the batch of each step: every pass over them in an order of its own."""
        draw = torch.Generator().manual_seed(seed)
        order: list[int] = []
        while len(order) < steps:
            order += torch.randperm(len(self._train_on), generator=draw).tolist()
        return order[:steps]

    def _score(self, training: Training) -> float:
        """Return the mean over held-out batches; what a cure multiplies the loss by is left out."""
        live, values = training.live, list[float]()
        live.model.eval()
        for batch in self._held_out:
            # With gradients enabled: the loss of a physics-informed network takes derivatives.
            with training.random(), entered(live.settings):
                if self._metric is not None:
                    values.append(float(self._metric(live.model, batch)))
                else:
                    values.append(float(self._loss_fn(live.model, batch).detach().float()))
        mean = sum(values) / len(values)
        return mean if math.isfinite(mean) else math.inf

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
        kept = _kept(batches, min(MOST_BATCHES, max(self.steps, _HELD_OUT)))
        if not kept:
            raise UsageError(_("there is no batch"), _("Give a list of batches, or a DataLoader."))
        if isinstance(batches, Iterator):  # gone once it is read
            self.notes.append(
                _("the batches come from a generator; the first {count} were kept").format(
                    count=len(kept)
                )
            )
        if len(kept) < _HELD_OUT:
            self.notes.append(
                _(
                    "with {count} batches none is held out: the yardstick is the loss on them"
                ).format(count=len(kept))
            )
            return kept, kept
        held = len(kept) // _HELD_OUT
        return kept[:-held], kept[-held:]

    def _named_yardstick(self) -> str:
        if self._metric is not None:
            return _("your metric on {count} held-out batches").format(count=len(self._held_out))
        return _("the loss on {count} held-out batches").format(count=len(self._held_out))


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


def _line(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}".splitlines()
    return text[0] if text else type(error).__name__
