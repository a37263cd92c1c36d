"""Random search over the same cures at the same budget."""

from __future__ import annotations

from tests.fix.fakes import FakeTrainer
from unvanish.fix.random_search import Remembered, random_search
from unvanish.fix.trial import UNTREATED, Outcome, Treatment

NAMES = [f"cure-{number}" for number in range(20)]


def trainer(working: set[str]) -> FakeTrainer:
    def score(treatment: Treatment, seed: int, steps: int) -> float:
        return 0.1 if working & set(treatment.cures) else 2.3 + 0.01 * seed

    return FakeTrainer(score, [], heals=lambda treatment: bool(working & set(treatment.cures)))


def test_it_proves_what_it_happens_to_draw() -> None:
    found = random_search(trainer(set(NAMES)), NAMES, 9.0)
    assert found.best in found.tried


def test_it_stays_within_the_budget_and_proves_nothing_where_nothing_helps() -> None:
    found = random_search(trainer(set()), NAMES, 9.0)
    assert found.best is None
    # one untreated training and two draws, and three pairs for the proof of the better one
    assert len(found.tried) == 2
    assert found.trainings_spent <= 9.0


def test_a_small_budget_still_draws_one() -> None:
    assert len(random_search(trainer(set()), NAMES, 1.0).tried) == 1


def test_it_misses_a_rare_cure_more_often_than_not() -> None:
    hits = sum(
        random_search(trainer({"cure-7"}), NAMES, 9.0, seed=seed).best is not None
        for seed in range(100)
    )
    # 2 draws of 20: 10 are expected of 100, and more than 25 has a chance below 1e-5.
    assert 0 < hits <= 25


def test_what_does_not_fit_costs_nothing() -> None:
    made = trainer({"cure-3"})
    train = made.train

    def picky(treatment: Treatment, seed: int, steps: int) -> Outcome:
        if treatment.cures and "cure-3" not in treatment.cures:
            return Outcome(refused="no such layer")
        return train(treatment, seed, steps)

    made.train = picky  # type: ignore[method-assign]
    found = random_search(made, NAMES, 9.0)
    assert found.tried == ("cure-3",)
    assert found.best == "cure-3"


def test_fewer_than_three_seeds_prove_nothing() -> None:
    assert random_search(trainer(set(NAMES)), NAMES, 9.0, seeds=2).best is None


def test_a_remembered_training_is_not_repeated() -> None:
    made = trainer(set())
    remembered = Remembered(made)
    first = remembered.train(UNTREATED, 0, 10)
    assert remembered.train(UNTREATED, 0, 10) is first
    assert len(made.trained) == 1
    assert remembered.yardstick == made.yardstick
