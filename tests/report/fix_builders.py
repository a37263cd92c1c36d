"""Results of a search for cures, made by the search itself on a trainer that trains nothing."""

from __future__ import annotations

import math
from dataclasses import replace

from tests.fix.fakes import HEALTHY, FakeTrainer, candidate
from unvanish.fix.search import Budget, Search
from unvanish.fix.trial import Outcome, Treatment
from unvanish.records import Ensemble, Fix, LevelAt, Predicted, RandomSearch

CODE = "import torch\nfor module in model.modules():\n    module.slope = 1.0"
BEFORE = (LevelAt("net.0", -17.0), LevelAt("net.1", 0.0))
KEPT = Predicted(-17.0, -0.1, "healthy", BEFORE, (LevelAt("net.0", -0.1), LevelAt("net.1", 0.0)))
LOST = Predicted(-17.0, -17.0, "vanishing", BEFORE, BEFORE)


def trainer() -> FakeTrainer:
    """Cures "keep" and "swap" help, "noise" does nothing, "crash" fails, "bulky" does not fit."""

    def score(treatment: Treatment, seed: int, steps: int) -> float:
        base = 0.02 * seed + (1.0 if steps < 100 else 0.0)
        if "keep" in treatment.cures:
            return 0.2 + base
        return 0.1 + base if "swap" in treatment.cures else 2.2 + 0.01 * seed

    made = FakeTrainer(
        score,
        [
            candidate("keep", 0.9, predicted=KEPT),
            candidate("swap", 0.8, keeps_activation=False, applicability="unsafe"),
            candidate("noise", 0.7, predicted=LOST),
            candidate("crash", 0.6),
            candidate("bulky", 0.5, refused="no convolution"),
            candidate("<b>hostile\x1b[31m", 0.1),
        ],
        heals=lambda treatment: bool({"keep", "swap"} & set(treatment.cures)),
    )
    train = made.train

    def training(treatment: Treatment, seed: int, steps: int) -> Outcome:
        if "crash" in treatment.cures:
            return Outcome(error="RuntimeError: boom", cost=0.1)
        done = train(treatment, seed, steps)
        falling = tuple(2.3 - (2.3 - done.score) * i / steps for i in range(1, steps + 1))
        return replace(done, losses=falling, code=CODE if treatment.cures else "")

    made.train = training  # type: ignore[method-assign]
    return made


def proven() -> Fix:
    found = Search(trainer(), Budget(), ("unvanish", "fix", "net.py:make")).run()
    together = Ensemble(("", "keep"), (2, 2), 100, True, 0.01, 0.004)
    return replace(found, ensembles=(together, replace(together, together=False, why="slow")))


def unproven() -> Fix:
    made = trainer()
    made.heals = lambda treatment: False
    return Search(made, Budget()).run()


def healthy() -> Fix:
    made = trainer()
    made.before = HEALTHY
    return Search(made, Budget()).run()


def nonfinite() -> Fix:
    """The untreated losses are NaN from the start."""
    made = trainer()
    train = made.train

    def training(treatment: Treatment, seed: int, steps: int) -> Outcome:
        done = train(treatment, seed, steps)
        if treatment.cures:
            return done
        return replace(done, losses=(math.nan,) * steps, score=math.inf)

    made.train = training  # type: ignore[method-assign]
    return Search(made, Budget()).run()


def compared() -> Fix:
    return replace(proven(), random_search=RandomSearch(("noise", "keep"), None, 9.5))


def interrupted() -> Fix:
    return replace(unproven(), interrupted=True, notes=("the batches come from a generator",))


def every_fix() -> dict[str, Fix]:
    """All of them, by name, for tests that must hold everywhere."""
    return {
        "proven": proven(),
        "unproven": unproven(),
        "healthy": healthy(),
        "nonfinite": nonfinite(),
        "compared": compared(),
        "interrupted": interrupted(),
    }
