"""Cures that were tried, how far each came, and the proof of those that were trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from unvanish.records.diagnosis import Diagnosis
from unvanish.records.vocabulary import CureStatus, Training, Verdict
from unvanish.shown import Shown


@dataclass(frozen=True, slots=True)
class Edited:
    """One thing that a cure changed: a parameter, a module, or ("") the training as a whole."""

    where: str
    what: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class LevelAt:
    """The level at one layer of a main path."""

    layer: str
    level_log10: float


@dataclass(frozen=True, slots=True)
class Predicted:
    """What one backward pass through the cured network shows, before any training.

    Levels are log10 of ||dL/dh|| at the first layer of the main path over that at its last.
    """

    ratio_before_log10: float | None
    ratio_after_log10: float | None
    verdict: Verdict | None
    before: tuple[LevelAt, ...] = ()  # along the main path, in forward order
    after: tuple[LevelAt, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class Proof(Shown):
    """Baseline and cure trained side by side on fresh seeds; scores: the lower the better."""

    seeds: tuple[int, ...]
    steps: int
    baseline_scores: tuple[float, ...]
    scores: tuple[float, ...]
    losses: Mapping[str, tuple[float, ...]]  # of the cured network, by seed
    verdicts_after: tuple[Verdict, ...]
    gone: bool  # the finding that led is gone on every seed
    beaten: int  # on so many seeds the cure scored better
    proven: bool
    why_not: str = ""  # where it is not proven

    def __repr__(self) -> str:
        outcome = "proven" if self.proven else "not proven"
        return f"<Proof: {outcome}, better on {self.beaten} of {len(self.seeds)} seeds>"


@dataclass(frozen=True, slots=True, repr=False)
class Cure(Shown):
    """A cure that was proposed, and how far it came: see `status`."""

    name: str  # "critical-init", or several joined by " + "
    applicability: str
    kind: str
    keeps_activation: bool
    summary: str
    sources: tuple[str, ...]
    prior: float
    status: CureStatus
    code: str = ""
    edits: tuple[Edited, ...] = ()
    note: str = ""
    predicted: Predicted | None = None
    screened: float | None = None  # score after the short training
    proof: Proof | None = None
    why: str = ""  # refused or failed: the reason

    def __repr__(self) -> str:
        return f"<Cure {self.name}: {self.status}>"


@dataclass(frozen=True, slots=True, repr=False)
class Fix(Shown):
    """The answer of `unvanish fix`: `cures` has the best first, `best` is a proven one's name."""

    command: tuple[str, ...]
    verdict_before: Verdict
    training_before: Training
    diagnosis: Diagnosis
    yardstick: str
    steps: int
    short_steps: int  # of the short trainings
    baseline: Mapping[str, tuple[float, ...]]  # losses by seed; "0" is the run that was diagnosed
    baseline_scores: Mapping[str, float]
    rates: Mapping[str, float]  # scores of the short trainings with the learning rate changed
    baseline_short: float | None
    cures: tuple[Cure, ...]
    best: str | None
    trainings_spent: float
    notes: tuple[str, ...] = ()
    interrupted: bool = False
    random_search: RandomSearch | None = None
    ensembles: tuple[Ensemble, ...] = ()

    def __repr__(self) -> str:
        return f"<Fix {self.verdict_before}: best {self.best}>"


@dataclass(frozen=True, slots=True)
class RandomSearch:
    """The same cures tried in random order at the same budget, for comparison."""

    tried: tuple[str, ...]
    best: str | None  # a proven one
    trainings_spent: float


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Trainings of one shape that came in one round, and whether they ran as one batch."""

    cures: tuple[str, ...]  # what each was treated with; "" for the untreated network
    seeds: tuple[int, ...]  # and from which seed
    steps: int
    together: bool
    seconds_alone: float | None = None  # one step of them all, one by one; None: not timed
    seconds_together: float | None = None  # the same, batched
    why: str = ""  # they ran one by one: why
