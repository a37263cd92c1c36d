from __future__ import annotations

import pytest

from unvanish.errors import UsageError
from unvanish.monitor.schedule import Schedule


def test_samples_powers_of_two_and_every_n() -> None:
    sampled = [step for step in range(350) if Schedule(every=100).samples(step)]
    assert sampled == [0, 1, 2, 4, 8, 16, 32, 64, 100, 128, 200, 256, 300]


def test_without_every_only_powers_of_two() -> None:
    sampled = [step for step in range(40) if Schedule(every=0).samples(step)]
    assert sampled == [0, 1, 2, 4, 8, 16, 32]


def test_refuses_a_negative_distance() -> None:
    with pytest.raises(UsageError, match="--every"):
        Schedule(every=-1)
