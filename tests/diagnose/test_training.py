"""The state of training, on losses of known kinds."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest

from unvanish.diagnose.config import Config
from unvanish.diagnose.training import TrainingState, training_state
from unvanish.records import StepRecord


def state_of(losses: Sequence[float], **limits: float) -> TrainingState:
    records = [StepRecord(step, loss) for step, loss in enumerate(losses)]
    return training_state(records, Config(thresholds=limits).limit)


def noisy(mean: Sequence[float], noise: float, seed: int = 0) -> list[float]:
    draw = random.Random(seed)
    return [value + draw.gauss(0.0, noise) for value in mean]


SEEDS = range(5)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("count", [40, 200, 2000])
def test_a_loss_that_comes_down_is_falling(count: int, seed: int) -> None:
    mean = [0.3 + 2.0 * math.exp(-5 * i / count) for i in range(count)]
    assert state_of(noisy(mean, 0.1, seed)).state == "falling"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_loss_on_its_floor_after_a_fall_is_falling(seed: int) -> None:
    mean = [2.3, 1.5, 0.8, 0.4] + [0.2] * 500
    assert state_of(noisy(mean, 0.05, seed)).state == "falling"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.3])
def test_a_loss_at_chance_is_stuck(noise: float, seed: int) -> None:
    assert state_of(noisy([2.3] * 300, noise, seed)).state == "stuck"


@pytest.mark.parametrize("seed", SEEDS)
def test_the_brief_fall_while_the_output_bias_learns_is_no_progress(seed: int) -> None:
    mean = [2.303 + 0.2 * 0.8**i for i in range(300)]
    assert state_of(noisy(mean, 0.03, seed)).state == "stuck"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_slow_but_steady_fall_is_falling(seed: int) -> None:
    mean = [10.0 - 0.0015 * i for i in range(1000)]
    assert state_of(noisy(mean, 0.2, seed)).state == "falling"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_rise_is_diverging(seed: int) -> None:
    mean = [2.3 + 0.05 * i for i in range(100)]
    assert state_of(noisy(mean, 0.1, seed)).state == "diverging"


def test_a_rise_after_a_fall_is_diverging() -> None:
    mean = [2.5 - 0.08 * i for i in range(25)] + [0.5 + 0.05 * i for i in range(50)]
    assert state_of(noisy(mean, 0.05)).state == "diverging"


def test_coming_back_from_a_blow_up_is_no_progress() -> None:
    mean = [2.3, 180.0, 150.0, 90.0, 40.0, 10.0] + [2.3] * 100
    assert state_of(noisy(mean, 0.02)).state == "stuck"


def test_ending_in_nan_is_diverging_however_short() -> None:
    state = state_of([2.3, 5.0, math.inf, math.nan, math.nan])
    assert (state.state, state.nonfinite_step) == ("diverging", 2)


def test_one_nan_that_passes_is_remembered_and_forgiven() -> None:
    losses = noisy([2.3 * 0.97**i for i in range(100)], 0.01)
    losses[40] = math.nan
    state = state_of(losses)
    assert (state.state, state.nonfinite_step) == ("falling", 40)


def test_steps_that_a_scaler_skipped_do_not_count() -> None:
    records = [StepRecord(0, math.inf, skipped=True)]
    records += [StepRecord(i, 2.3 * 0.97**i) for i in range(1, 100)]
    state = training_state(records, Config().limit)
    assert (state.state, state.nonfinite_step) == ("falling", None)


@pytest.mark.parametrize("losses", [[], [2.3], [2.3] * 9, [2.3] * 29])
def test_too_few_steps_say_nothing(losses: list[float]) -> None:
    assert state_of(losses).state == "too-short"


def test_a_plain_fall_is_seen_early() -> None:
    assert state_of([2.3 * 0.8**i for i in range(12)]).state == "falling"


def test_negative_losses_fall_too() -> None:
    assert state_of(noisy([-1.0 - 0.01 * i for i in range(200)], 0.05)).state == "falling"


def test_scaling_the_loss_changes_no_state() -> None:
    for mean in ([2.3] * 100, [2.3 * 0.97**i for i in range(100)], [2.3 + i for i in range(100)]):
        losses = noisy(mean, 0.05)
        assert state_of(losses).state == state_of([1e-4 * loss for loss in losses]).state


def test_thresholds_apply() -> None:
    losses = noisy([2.3 * 0.993**i for i in range(60)], 0.01)  # a third
    assert state_of(losses).materially
    changed = {"training-material-fall": 0.5, "training-late-fall": 0.5}
    assert state_of(losses, **changed).state == "stuck"


def test_the_fall_is_a_share_of_the_start() -> None:
    assert state_of([2.0] * 20 + [1.0] * 80).fall == pytest.approx(0.5)
    assert TrainingState("too-short", 0).fall is None


def test_a_loss_that_fell_and_stuck_rests_high() -> None:
    fell = [0.70 - 0.22 * min(1.0, i / 60) for i in range(300)]
    found = state_of(fell)
    assert (found.state, found.halting, found.rests_high) == ("falling", True, True)
    still = state_of([0.70 - 0.2 * i / 300 for i in range(300)])
    assert (still.state, still.halting, still.rests_high) == ("falling", True, False)
    done = state_of([2.3 * 0.9**i + 0.02 for i in range(300)])
    assert (done.state, done.halting, done.rests_high) == ("falling", False, False)
