"""A trainer that trains nothing: scores from a rule, findings made by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from tests.report import builders
from unvanish.fix.trial import Candidate, OneByOne, Outcome, Treatment
from unvanish.records import Diagnosis

SICK: Diagnosis = builders.every_diagnosis()["vanishing"]
HEALTHY: Diagnosis = replace(SICK, verdict="healthy", findings=())

Score = Callable[[Treatment, int, int], float]  # of a treatment, a seed, a number of steps


def candidate(name: str, prior: float = 0.5, **other: object) -> Candidate:
    made = Candidate(name, prior, "safe", "structural", True, f"{name}.", ("a paper",))
    return replace(made, **other)  # type: ignore[arg-type]


@dataclass
class FakeTrainer(OneByOne):
    """Says what `score` says; the finding is gone where `cures` says so."""

    score: Score
    proposed: Sequence[Candidate]
    steps: int = 100
    heals: Callable[[Treatment], bool] = lambda treatment: bool(treatment.cures)
    before: Diagnosis = SICK
    yardstick: str = "loss"
    varies: bool | None = True
    notes: list[str] = field(default_factory=list)
    trained: list[tuple[Treatment, int, int]] = field(default_factory=list)

    def propose(self, baseline: Outcome) -> list[Candidate]:
        return list(self.proposed)

    def train(self, treatment: Treatment, seed: int, steps: int) -> Outcome:
        self.trained.append((treatment, seed, steps))
        score = self.score(treatment, seed, steps)
        return Outcome(
            losses=tuple(score for _ in range(steps)),
            score=score,
            diagnosis=HEALTHY if self.heals(treatment) else self.before,
            cost=steps / self.steps,
        )
