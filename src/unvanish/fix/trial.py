"""A trial: one training of the user's network, untreated or with cures, from one seed.

Whoever trains is a `Trainer`: `live.LiveTrainer` trains copies in this process, `script.
ScriptTrainer` runs the unchanged script in child processes. What is searched and proven knows
neither.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from unvanish.i18n import _
from unvanish.records import Diagnosis, Edited, Ensemble, Predicted

_RATE = "learning-rate x"


@dataclass(frozen=True, slots=True)
class Treatment:
    """What is done to a network before it trains: cures by name, in order."""

    cures: tuple[str, ...] = ()
    lr_factor: float = 1.0  # times the learning rate: what every cure must beat

    @property
    def label(self) -> str:
        """Return a name: "" for the untreated network."""
        parts = list(self.cures)
        if self.lr_factor != 1.0:
            parts.append(f"{_RATE}{self.lr_factor:.3g}")
        return " + ".join(parts)

    @classmethod
    def of(cls, label: str) -> Treatment:
        """Return the treatment of a `label`: the factor of the rate as it is written there."""
        parts = label.split(" + ") if label else []
        factors = [float(part.removeprefix(_RATE)) for part in parts if part.startswith(_RATE)]
        cures = tuple(part for part in parts if not part.startswith(_RATE))
        return cls(cures, math.prod(factors))


UNTREATED = Treatment()


@dataclass(frozen=True, slots=True)
class Job:
    """A training to be made."""

    treatment: Treatment
    seed: int
    steps: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one training gave."""

    losses: tuple[float, ...] = ()  # of every step; not finite ones as they were
    score: float = math.inf  # on the yardstick; the lower the better; +inf where not finite
    diagnosis: Diagnosis | None = None
    edits: tuple[Edited, ...] = ()  # what the cures changed
    note: str = ""
    code: str = ""  # the lines to paste
    refused: str | None = None  # a cure does not fit: why
    error: str | None = None  # the training failed: last line
    cost: float = 0.0  # in bare trainings of full length

    def __post_init__(self) -> None:
        """A score that is not finite counts as +inf."""
        if math.isnan(self.score):
            object.__setattr__(self, "score", math.inf)

    @property
    def usable(self) -> bool:
        """Whether it was trained at all."""
        return self.refused is None and self.error is None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A cure that was proposed for this network, before any training."""

    name: str
    prior: float
    applicability: str
    kind: str
    keeps_activation: bool
    summary: str
    sources: tuple[str, ...]
    predicted: Predicted | None = None  # one backward pass of the cured copy
    refused: str | None = None  # it does not fit this network: why


class Trainer(Protocol):
    """Trains the user's network from a seed, treated or not."""

    steps: int  # of a full training
    yardstick: str  # what `Outcome.score` is, in words
    varies: bool | None  # whether a seed changes anything; None: to be seen from the losses
    notes: list[str]  # what a reader must know of these trainings

    @property
    def ensembles(self) -> Sequence[Ensemble]:
        """Trainings that were alike, and how they ran."""

    @property
    def unasked(self) -> float:
        """What trainings cost that were made ahead and never asked for, in bare trainings."""

    def propose(self, baseline: Outcome) -> list[Candidate]:
        """Return the cures proposed for the findings of the untreated network, each measured."""

    def ahead(self, jobs: Sequence[Job], begins: Callable[[int], None]) -> None:
        """Take note of trainings that come next: those that are alike may run together now.

        `begins` is told how many, before they do.
        """

    def train(self, treatment: Treatment, seed: int, steps: int) -> Outcome:
        """Train from `seed` for `steps` optimiser steps. A failing script is an Outcome."""


class OneByOne:
    """The part of a trainer that makes every training when it is asked for it."""

    ensembles: Sequence[Ensemble] = ()
    unasked: float = 0.0

    def ahead(self, jobs: Sequence[Job], begins: Callable[[int], None]) -> None:
        """See `Trainer`: nothing is made ahead."""


def how_they_ran(ensembles: Sequence[Ensemble]) -> list[str]:
    """Return in one line, if there is anything to say, how trainings of one shape ran, and why."""
    if not ensembles:
        return []
    alike = sum(len(one.cures) for one in ensembles)
    together = sum(len(one.cures) for one in ensembles if one.together)
    line = _("of {alike} trainings that were alike, {together} ran as batched ensembles").format(
        alike=alike, together=together
    )
    reasons = dict.fromkeys(one.why for one in ensembles if one.why)
    if not reasons:
        return [line]
    return [_("{line}; the others one by one: {why}").format(line=line, why="; ".join(reasons))]
