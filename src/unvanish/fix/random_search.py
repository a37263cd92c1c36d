"""Random search over the same cures at the same budget: what a search must beat.

Published repairers of networks do no better than it (arXiv:2301.11568). It does not look at
findings: it draws cures from all there are, trains each once in full, and takes the best to the
same proof, on the same fresh seeds, with what the budget leaves.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from unvanish.fix import prove
from unvanish.fix.trial import UNTREATED, Outcome, Trainer, Treatment
from unvanish.records import RandomSearch


class Remembered:
    """A trainer that trains nothing twice; what it costs is counted every time."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._known: dict[tuple[Treatment, int, int], Outcome] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trainer, name)

    def train(self, treatment: Treatment, seed: int, steps: int) -> Outcome:
        """See `trial.Trainer`."""
        key = (treatment, seed, steps)
        if key not in self._known:
            self._known[key] = self._trainer.train(treatment, seed, steps)
        return self._known[key]


def random_search(
    trainer: Trainer, names: Sequence[str], budget: float, *, seeds: int = 3, seed: int = 0
) -> RandomSearch:
    """Draw from `names` until `budget` bare trainings leave just the proof of the best.

    A cure that does not fit costs nothing. The proof takes 2 × `seeds` trainings: where the budget
    does not leave them, fewer are drawn, but one at least.
    """
    draw = random.Random(seed)
    first = trainer.train(UNTREATED, 0, trainer.steps)
    spent = first.cost
    tried: list[str] = []
    best: tuple[float, Treatment] | None = None
    for name in draw.sample(list(names), len(names)):
        if tried and spent + 1 + 2 * seeds > budget:
            break
        treatment = Treatment((name,))
        outcome = trainer.train(treatment, 0, trainer.steps)
        spent += outcome.cost
        if outcome.refused is not None:
            continue
        tried.append(name)
        if outcome.usable and _better(outcome, first, best):
            best = (outcome.score, treatment)
    proven = None
    if best is not None and first.diagnosis is not None:
        found, cost = _proof(trainer, best[1], first, range(1, seeds + 1))
        spent += cost
        proven = best[1].label if found and seeds >= prove.LEAST_SEEDS else None
    return RandomSearch(tuple(tried), proven, round(spent, 3))


def _better(outcome: Outcome, first: Outcome, best: tuple[float, Treatment] | None) -> bool:
    return outcome.score < (first.score if best is None else best[0])


def _proof(
    trainer: Trainer, treatment: Treatment, first: Outcome, seeds: Sequence[int]
) -> tuple[bool, float]:
    """Return whether the treatment is proven, and what that cost."""
    assert first.diagnosis is not None
    baseline = [trainer.train(UNTREATED, seed, trainer.steps) for seed in seeds]
    cured = [trainer.train(treatment, seed, trainer.steps) for seed in seeds]
    cost = sum(each.cost for each in (*baseline, *cured))
    code = first.diagnosis.findings[0].code if first.diagnosis.findings else None
    gone = prove.gone(first.diagnosis.verdict, code, [each.diagnosis for each in cured])
    scores = [each.score if each.usable else float("inf") for each in cured]
    return gone and prove.beats([each.score for each in baseline], scores), cost
