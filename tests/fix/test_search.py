"""Plan, screen, prove: on trainers that train nothing."""

from __future__ import annotations

import math
import random
from typing import Any, cast

import pytest

from tests.fix.fakes import HEALTHY, FakeTrainer, candidate
from unvanish.errors import StorageError
from unvanish.fix import prove
from unvanish.fix.search import Budget, Search, promise, short_steps
from unvanish.fix.trial import UNTREATED, Outcome, Treatment
from unvanish.records import Fix, Predicted


def fix(trainer: FakeTrainer, **budget: float) -> Fix:
    return Search(trainer, Budget(**budget)).run()  # type: ignore[arg-type]


def good(names: set[str]) -> FakeTrainer:
    """Return a trainer on which the cures in `names` work, and others do nothing."""
    return FakeTrainer(
        lambda treatment, seed, steps: (
            0.1 + 0.01 * seed if names & set(treatment.cures) else 2.3 + 0.01 * seed
        ),
        [candidate(name) for name in ("a", "b", "c")],
    )


# --- the rule ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("baseline", "cured", "expected"),
    [
        ([2.3, 2.3, 2.3], [0.1, 0.2, 0.3], True),
        ([2.3, 2.2, 2.1], [2.0, 2.0, 2.0], True),  # margin 0.1, worst at 2.0
        ([2.3, 2.2, 2.1], [2.0, 2.0, 2.01], False),
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], False),
        ([1.0, 1.0, 1.0], [0.1, 0.5, 1.1], False),
        ([math.inf] * 3, [0.1, 0.5, 1.1], True),
        ([math.inf] * 3, [0.1, math.inf, 0.2], False),
        ([math.inf, 2.0, math.inf], [0.1, 0.2, 0.2], True),
        ([], [], False),
    ],
)
def test_the_worst_cured_run_must_beat_the_best_untreated_by_the_margin(
    baseline: list[float], cured: list[float], expected: bool
) -> None:
    assert prove.beats(baseline, cured) is expected


def test_a_score_that_is_no_number_is_the_worst_there_is() -> None:
    assert Outcome(score=math.nan).score == math.inf


def test_noise_is_not_proven() -> None:
    """200 whole calls with 8 cures that change nothing but the draw of the score.

    In one proof, all three cured runs lie below all three others in 1 order of 20, the margin
    aside; a second finalist is tried only while it can still win. So about one call in ten could
    pass without the margin; with it the issue's bound is 10 of 200.
    """
    proven = 0
    for call in range(200):
        draw = random.Random(call)
        scores: dict[tuple[Treatment, int, int], float] = {}

        def score(
            treatment: Treatment,
            seed: int,
            steps: int,
            draw: random.Random = draw,
            scores: dict[tuple[Treatment, int, int], float] = scores,
        ) -> float:
            return scores.setdefault((treatment, seed, steps), draw.gauss(1.0, 0.1))

        trainer = FakeTrainer(score, [candidate(f"noise-{number}") for number in range(8)])
        proven += fix(trainer).best is not None
    assert proven <= 10


# --- what is tried, and what it costs ------------------------------------------------------------


def test_a_healthy_network_is_left_alone() -> None:
    trainer = good({"a"})
    trainer.before = HEALTHY
    found = fix(trainer)
    assert trainer.trained == [(UNTREATED, 0, 100)]
    assert found.cures == ()
    assert found.best is None


def test_a_cure_that_works_is_proven_on_seeds_that_did_not_choose_it() -> None:
    trainer = good({"b"})
    found = fix(trainer)
    assert found.best == "b"
    (proven,) = (one for one in found.cures if one.status == "proven")
    assert proven.proof is not None
    assert proven.proof.seeds == (1, 2, 3)
    assert proven.proof.beaten == 3
    screening = {seed for treatment, seed, steps in trainer.trained if steps < 100}
    assert screening == {0}
    assert found.trainings_spent <= 10


def test_a_cure_must_beat_the_learning_rate_too() -> None:
    """Three times the learning rate does as much as the cure does: it is not the network."""

    def score(treatment: Treatment, seed: int, steps: int) -> float:
        return 0.1 if treatment.lr_factor == 3.0 else 0.2 if treatment.cures else 2.3

    found = fix(FakeTrainer(score, [candidate("a")]))
    assert found.best is None
    assert {one.status for one in found.cures} == {"screened-out"}


def test_a_finding_that_stays_is_no_cure() -> None:
    trainer = good({"a"})
    trainer.heals = lambda treatment: False
    found = fix(trainer)
    assert found.best is None
    assert found.cures[0].proof is not None
    assert not found.cures[0].proof.gone


def test_where_no_seed_changes_anything_nothing_is_proven() -> None:
    trainer = good({"a"})
    trainer.varies = False
    found = fix(trainer)
    assert found.best is None
    assert found.cures[0].status == "measured"


def test_fewer_than_three_seeds_prove_nothing() -> None:
    assert fix(good({"a"}), seeds=2).best is None


def test_a_changed_loss_is_measured_and_not_proven() -> None:
    trainer = good({"a"})
    trainer.proposed = [candidate("a", kind="loss")]
    found = fix(trainer)
    assert found.best is None
    assert found.cures[0].status == "measured"


def test_both_sorts_are_proven_where_the_slope_is_to_blame() -> None:
    trainer = good({"keep", "swap"})
    trainer.proposed = [
        candidate("keep", 0.9),
        *[candidate(f"other-{number}", 0.8) for number in range(6)],
        candidate("swap", 0.1, keeps_activation=False),
    ]
    found = fix(trainer)
    assert trainer.before.findings[0].factor == "slope"
    proven = {one.keeps_activation for one in found.cures if one.status == "proven"}
    assert proven == {True, False}


def test_one_cure_that_crashes_or_does_not_fit_leaves_the_others() -> None:
    trainer = good({"c"})
    train = trainer.train

    def failing(treatment: Treatment, seed: int, steps: int) -> Outcome:
        if "a" in treatment.cures:
            return Outcome(error="RuntimeError: boom", cost=0.1)
        if "b" in treatment.cures:
            return Outcome(refused="no such layer")
        return train(treatment, seed, steps)

    trainer.train = failing  # type: ignore[method-assign]
    found = fix(trainer)
    assert found.best == "c"
    status = {one.name: one.status for one in found.cures}
    assert status["a"] == "failed"
    assert status["b"] == "refused"


def test_an_interrupted_search_keeps_what_it_knows() -> None:
    trainer = good({"a"})
    train = trainer.train

    def interrupted(treatment: Treatment, seed: int, steps: int) -> Outcome:
        if seed == 2:
            raise KeyboardInterrupt
        return train(treatment, seed, steps)

    trainer.train = interrupted  # type: ignore[method-assign]
    found = fix(trainer)
    assert found.interrupted
    assert {one.name for one in found.cures} >= {"a", "b", "c"}
    assert found.best is None


def test_a_failure_on_the_way_keeps_what_is_known_and_one_at_the_start_is_raised() -> None:
    """A full disk, or an untreated script that fails on a fresh seed."""
    for fails_at in (0, 1):
        trainer = good({"a"})
        train = trainer.train

        def failing(
            treatment: Treatment, seed: int, steps: int, at: int = fails_at, train: Any = train
        ) -> Outcome:
            if seed == at:
                raise StorageError("the disk is full", "Make room.")
            return cast(Outcome, train(treatment, seed, steps))

        trainer.train = failing  # type: ignore[method-assign]
        if fails_at == 0:
            with pytest.raises(StorageError):
                fix(trainer)
            continue
        found = fix(trainer)
        assert found.best is None
        assert "the search ended early: the disk is full" in found.notes
        assert {one.name for one in found.cures if one.screened is not None} >= {"a", "b"}


def test_the_budget_ends_the_search() -> None:
    trainer = good(set())
    trainer.score = lambda treatment, seed, steps: 2.0 if treatment.cures else 2.3 - 0.2 * seed
    found = fix(trainer, most=9.0)
    assert found.best is None
    assert found.trainings_spent <= 9.0 + 2 * 3


def test_a_short_training_is_a_quarter_but_not_too_short() -> None:
    assert short_steps(400) == 100
    assert short_steps(30) == 10
    assert short_steps(8) == 8


def test_a_cure_must_beat_a_learning_rate_that_works_in_the_end() -> None:
    """The rate is slower than the cure at first and as good when trained in full."""

    def score(treatment: Treatment, seed: int, steps: int) -> float:
        if treatment.cures:
            return 0.2
        return 2.3 if treatment.lr_factor != 3.0 else 1.5 if steps < 100 else 0.1

    trainer = FakeTrainer(score, [candidate("a")])
    found = fix(trainer)
    assert found.best is None
    proof = found.cures[0].proof
    assert proof is not None
    assert proof.why_not == "another learning rate alone does as well"
    assert (Treatment(lr_factor=3.0), 1, 100) in trainer.trained


def test_what_one_backward_pass_speaks_against_is_tried_later() -> None:
    trainer = good({"b"})
    trainer.proposed = [
        candidate("a", 0.6, predicted=Predicted(-10.0, -10.0, "vanishing")),
        candidate("b", 0.5, predicted=Predicted(-10.0, -0.1, "healthy")),
    ]
    fix(trainer)
    screened = [one.cures for one, _seed, steps in trainer.trained if steps < 100 and one.cures]
    assert screened[:2] == [("b",), ("a",)]


def test_a_flat_signal_before_says_nothing_against_a_cure() -> None:
    assert promise(candidate("a", 0.6, predicted=Predicted(-0.3, -0.3, "healthy"))) == 0.6


def test_a_proof_that_is_interrupted_keeps_its_seeds() -> None:
    trainer = good({"a"})
    train = trainer.train

    def interrupted(treatment: Treatment, seed: int, steps: int) -> Outcome:
        if seed == 3:
            raise KeyboardInterrupt
        return train(treatment, seed, steps)

    trainer.train = interrupted  # type: ignore[method-assign]
    found = fix(trainer)
    assert found.interrupted
    (kept,) = (one for one in found.cures if one.proof is not None)
    assert kept.proof is not None
    assert kept.proof.seeds == (1, 2)
    assert kept.proof.why_not == "fewer than 3 seeds"


def test_a_label_names_its_treatment() -> None:
    for treatment in (
        UNTREATED,
        Treatment(("a",)),
        Treatment(("a", "b"), 3.0),
        Treatment((), 0.25),
    ):
        assert Treatment.of(treatment.label) == treatment


def test_while_nothing_helps_more_is_screened() -> None:
    trainer = good({"cure-11"})
    trainer.proposed = [candidate(f"cure-{n}", 1 - n / 20) for n in range(12)]
    found = fix(trainer)
    assert found.best == "cure-11"
    assert found.trainings_spent <= 15


def test_where_one_mends_at_once_few_are_screened() -> None:
    trainer = good({"cure-0"})
    trainer.proposed = [candidate(f"cure-{n}", 1 - n / 20) for n in range(12)]
    found = fix(trainer)
    assert sum(one.screened is not None for one in found.cures) == 3 + 1  # and one at a lower rate
    assert found.best == "cure-0"
