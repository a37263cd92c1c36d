from __future__ import annotations

import math
import random

import pytest

from unvanish.monitor.strays import Quantity, Stray, Strays

USUAL = 12  # samples before anything happens


def judged(quantity: Quantity, samples: list[list[float]]) -> list[tuple[int, Stray]]:
    strays = Strays(quantity)
    return [(at, one) for at, values in enumerate(samples) for one in strays.judge(values)]


def noisy(ranks: int, samples: int, spread: float, middle: float = 2.0) -> list[list[float]]:
    draw = random.Random(0)
    return [[draw.gauss(middle, spread) for _ in range(ranks)] for _ in range(samples)]


@pytest.mark.parametrize("quantity", ["loss", "level", "seconds"])
@pytest.mark.parametrize("ranks", [2, 3, 8])
@pytest.mark.parametrize("spread", [0.0, 0.01, 0.3])
def test_noise_names_nobody(quantity: Quantity, ranks: int, spread: float) -> None:
    assert judged(quantity, noisy(ranks, 200, spread)) == []


@pytest.mark.parametrize("quantity", ["loss", "level", "seconds"])
@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_a_rank_that_leaves_the_others_is_named_once_after_two_samples(
    quantity: Quantity, ranks: int
) -> None:
    samples = noisy(ranks, 40, 0.02)
    for values in samples[USUAL:]:
        values[1] += 3.0
    ((at, stray),) = judged(quantity, samples)
    assert (at, stray.rank, stray.quantity) == (USUAL + 1, 1, quantity)
    assert stray.value > 4.0 > stray.others


def test_one_bad_sample_names_nobody() -> None:
    samples = noisy(4, 40, 0.02)
    samples[20][2] += 5.0
    assert judged("loss", samples) == []


def test_it_is_named_again_only_after_four_samples_without() -> None:
    samples = noisy(4, 60, 0.02)
    for at in (20, 21, 23, 24, 40, 41):  # one sample in between is the same straying
        samples[at][2] += 5.0
    assert [at for at, _stray in judged("loss", samples)] == [21, 41]


@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_a_rank_that_is_slow_from_the_start_is_named(ranks: int) -> None:
    samples = noisy(ranks, 20, 0.02, middle=1.0)
    for values in samples:
        values[1] *= 3.0
    assert [stray.rank for _at, stray in judged("seconds", samples)] == [1]


def test_a_fast_rank_does_not_stray() -> None:
    samples = noisy(4, 20, 0.02, middle=1.0)
    for values in samples:
        values[1] /= 3.0
    assert judged("seconds", samples) == []


@pytest.mark.parametrize("ranks", [3, 8])
def test_a_rank_with_other_data_from_the_start_is_named(ranks: int) -> None:
    samples = noisy(ranks, 20, 0.02)
    for values in samples:
        values[2] += 4.0
    assert [stray.rank for _at, stray in judged("loss", samples)] == [2]


def test_of_two_ranks_that_always_differed_neither_strays() -> None:
    samples = [[1.0, 4.0] for _ in range(20)]
    assert judged("loss", samples) == []
    assert judged("level", samples) == []


def test_ranks_that_tell_nothing_are_left_out() -> None:
    samples = noisy(3, 20, 0.02)
    for values in samples:
        values[0] = math.nan
    assert judged("level", samples) == []
    assert judged("level", [[math.nan, 1.0]] * 9) == []
