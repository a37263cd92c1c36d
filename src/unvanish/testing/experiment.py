"""What a case is: a model, its data and its loop, and the answer that is right about it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unvanish.records import Factor, Severity, Verdict

Kind = Literal[
    "saturation",
    "small weights or slopes",
    "exploding",
    "dead relu",
    "non-finite",
    "not a gradient-depth problem",
    "healthy",
]
Batch = Any  # tensors, as the case's loss takes them


@dataclass
class Experiment:
    """One training that can be run: a model, its optimiser, its data, its loss.

    `loss(model, batch)` has the form that `unvanish.check` takes.
    """

    model: nn.Module
    optimizer: Optimizer
    batch: Callable[[int], Batch]  # the step's number, from 0 -> the batch
    loss: Callable[[nn.Module, Batch], Tensor]
    steps: int
    score: Callable[[], float] | None = None  # how good the model is now: more is better
    advance: Callable[[Experiment, int], Tensor] | None = None  # a step of its own kind
    loop: Callable[[Experiment], None] | None = None  # a trainer's own loop: does all the steps
    metric: Callable[[nn.Module, Batch], float] | None = None  # of one batch; less is better
    losses: list[float] = field(default_factory=list)

    def step(self, number: int) -> Tensor:
        """Do step `number` of the training and return its loss."""
        if self.advance is not None:
            loss = self.advance(self, number)
        else:
            loss = self.loss(self.model, self.batch(number))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        self.losses.append(float(loss.detach()))
        return loss

    def train(self) -> Experiment:
        """Do all steps."""
        if self.loop is not None:
            self.loop(self)
        else:
            for number in range(self.steps):
                self.step(number)
        return self

    def result(self) -> float:
        """How good the model is, more is better: its score, or minus the mean of the last losses.

        NaN where the loss or the model is not finite.
        """
        last = self.losses[-10:]
        finite = all(bool(p.isfinite().all()) for p in self.model.parameters())
        if not finite or not all(map(math.isfinite, last)):
            return math.nan
        if self.score is None:
            return -sum(last) / len(last)
        training = self.model.training
        self.model.eval()
        with torch.no_grad():
            value = self.score()
        self.model.train(training)
        return value


@dataclass(frozen=True)
class Case:
    """A training whose fault, or health, is known.

    `make(cured)` is called with the random state seeded. `layers` are patterns (fnmatch) of the
    module that the leading finding must name, `factors` what it must blame; empty where the case
    names none. `depends` replaces `accepted` by what the trained model itself shows, where the
    fault strikes only some seeds, and `severities` gives what severities its finding may have
    ("info" stands also for no finding), where that is for the training to say.
    """

    name: str
    kind: Kind
    about: str  # what is wrong, or looks wrong
    make: Callable[[bool], Experiment]
    accepted: tuple[Verdict, ...]
    cure: str = ""
    factors: tuple[Factor, ...] = ()
    layers: tuple[str, ...] = ()
    names: str | None = None  # an evidence that the leading finding must hold
    known_by: int | None = None  # step by which the verdict must be known
    unknown_at: int | None = None  # step at which it cannot be known yet
    bad: float | None = None  # a sick run's result is at most this, or not finite
    good: float | None = None  # a cured (or healthy) run's result is at least this
    depends: Callable[[Experiment], tuple[Verdict, ...]] | None = None
    severities: Callable[[Experiment], tuple[Severity, ...]] | None = None
    group: Literal["public", "own"] = "public"

    @property
    def healthy(self) -> bool:
        """Whether the only right verdict is that all is well."""
        return self.accepted == ("healthy",)

    def build(self, seed: int = 0, *, cured: bool = False) -> Experiment:
        """Make the experiment; the random state outside stays as it is."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.make(cured)

    def shows(self, result: float, *, cured: bool) -> bool:
        """Whether `result` (of a run that ended) is what a sick, or a cured, run gives."""
        if cured or self.bad is None:
            return self.good is None or result >= self.good
        return math.isnan(result) or result <= self.bad

    def right(self, experiment: Experiment) -> tuple[Verdict, ...]:
        """The verdicts that are right about an experiment that has been trained."""
        return self.accepted if self.depends is None else self.depends(experiment)

    def answer(self, experiment: Experiment) -> Answer:
        """What is right about an experiment that has been trained, and whether it went as said."""
        result = experiment.result()
        return Answer(
            accepted=self.right(experiment),
            severities=self.severities(experiment) if self.severities is not None else (),
            result=result,
            shown=self.shows(result, cured=False),
        )


@dataclass(frozen=True)
class Answer:
    """What is right about one training of a case."""

    accepted: tuple[Verdict, ...]
    severities: tuple[Severity, ...] = ()  # empty: any
    result: float = math.nan  # of the training: see `Experiment.result`
    shown: bool = True  # the training was as sick, or as healthy, as the case says
