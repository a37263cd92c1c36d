"""Ranks in one process, whose sums are formed by the test."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from torch import Tensor

from unvanish.measure.sharding import Shard
from unvanish.monitor.cadence import Cadence, Prices, SharedCadence
from unvanish.monitor.convoy import LAG, Convoy
from unvanish.monitor.flight import Arrived
from unvanish.monitor.gauge import Levels
from unvanish.monitor.pace import Pace
from unvanish.monitor.parcel import Layout
from unvanish.monitor.ranks import Place, RanksError
from unvanish.monitor.stepping import Step
from unvanish.records import StepRecord

NAMES = ("spread", "copied")
SHARDS = {"spread": Shard(counts=True)}


class Wire:
    """Adds up what the ranks give, in the order in which each gives it."""

    def __init__(self, ranks: int) -> None:
        self.given: list[list[Tensor]] = [[] for _ in range(ranks)]
        self.messages: dict[tuple[int, int], bytes] = {}
        self.left: set[int] = set()

    def total(self, number: int) -> list[float]:
        if any(len(one) <= number for one in self.given):
            raise RanksError("a rank did not answer in time")
        return sum(one[number] for one in self.given).tolist()


class FakeRanks:
    def __init__(self, wire: Wire, rank: int) -> None:
        self.place = Place(rank, len(wire.given))
        self.wire = wire

    def add_up(self, vector: Tensor) -> Any:
        given = self.wire.given[self.place.rank]
        given.append(vector)
        number, wire = len(given) - 1, self.wire

        class Sum:
            def values(self, timeout: float) -> list[float]:
                return wire.total(number)

        return Sum()

    def post(self, number: int, message: bytes) -> None:
        self.wire.messages[self.place.rank, number] = message

    def fetch(self, rank: int, number: int) -> bytes:
        return self.wire.messages[rank, number]

    def leave(self) -> None:
        self.wire.left.add(self.place.rank)


class Rank:
    def __init__(self, wire: Wire, rank: int) -> None:
        self.said: list[str] = []
        self.convoy = Convoy(
            FakeRanks(wire, rank),  # type: ignore[arg-type]
            Layout(len(wire.given), ("spread",)),
            SHARDS,
            Cadence().shared(),
            Pace(),
            1.0,
            self.said.append,
        )

    def step(self, number: int, *, sampled: bool, weight: float = 0.0) -> list[Arrived]:
        if sampled:
            self.convoy.owe(number)
        self.convoy.take(arrived(number, sampled=sampled, weight=weight))
        return self.convoy.step_over(number)


def arrived(number: int, *, sampled: bool, weight: float) -> Arrived:
    step = Step(number, "sampled" if sampled else "none", [1.0])
    if sampled:
        step.levels = Levels(NAMES, NAMES, (weight, 1.0), (weight, 1.0))
    return Arrived(step, StepRecord(number, 1.0, sampled), None, {})


@pytest.fixture
def pair() -> tuple[Rank, Rank, Wire]:
    wire = Wire(2)
    return Rank(wire, 0), Rank(wire, 1), wire


def test_a_sample_is_complete_two_steps_later_and_steps_keep_their_order(
    pair: tuple[Rank, Rank, Wire],
) -> None:
    one, other, wire = pair
    for number in range(LAG):
        assert one.step(number, sampled=number == 0) == []
        other.step(number, sampled=number == 0)
    found = one.step(LAG, sampled=False)
    assert [item.record.step for item in found] == [0, 1, 2]
    assert found[0].sample is not None
    assert [item.sample for item in found[1:]] == [None, None]
    assert [item.record.step for item in one.step(3, sampled=False)] == [3]
    assert [len(given) for given in wire.given] == [1, 1]


def test_shards_add_up_and_copies_count_once(pair: tuple[Rank, Rank, Wire]) -> None:
    one, other, _wire = pair
    one.step(0, sampled=True, weight=0.0)
    other.step(0, sampled=True, weight=0.5)
    one.step(1, sampled=False)
    levels = one.step(2, sampled=False)[0].step.levels
    assert levels is not None
    assert levels.weight == (pytest.approx(0.5 * math.log10(1 + 10)), 1.0)


def test_without_the_others_only_copies_are_shown(pair: tuple[Rank, Rank, Wire]) -> None:
    one, _other, wire = pair
    one.step(0, sampled=True)
    one.step(1, sampled=False)
    found = one.step(2, sampled=False)
    levels = found[0].step.levels
    assert levels is not None
    assert levels.names == levels.with_gradient == ("copied",)
    assert not one.convoy.together
    assert wire.left == {0}
    assert "did not answer in time" in one.said[0]
    assert "spread over ranks are left out" in one.said[0]
    assert [item.record.step for item in one.step(3, sampled=True)] == [3]  # at once, and alone


def test_a_failed_rank_gives_its_row_once_for_each_step_it_owes(
    pair: tuple[Rank, Rank, Wire],
) -> None:
    one, other, wire = pair
    one.step(0, sampled=True)
    other.convoy.owe(0)
    other.convoy.give_failed()
    other.convoy.owe(0)
    other.convoy.give_failed()
    assert len(wire.given[1]) == 1
    one.step(1, sampled=False)
    sample = one.step(2, sampled=False)[0].sample
    assert sample is not None
    assert sample.failed == (1,)


def test_ranks_that_count_their_steps_apart_stop_to_share(pair: tuple[Rank, Rank, Wire]) -> None:
    one, other, _wire = pair
    one.step(0, sampled=True)
    other.step(1, sampled=True)
    one.step(1, sampled=False)
    one.step(2, sampled=False)
    assert not one.convoy.together
    assert "0, 1" in one.said[0]


def test_messages_arrive_with_the_next_sample_once(pair: tuple[Rank, Rank, Wire]) -> None:
    one, other, _wire = pair
    other.convoy.post(b"found")
    heard = []
    for number in range(8):
        sampled = number in (0, 4)
        for item in one.step(number, sampled=sampled):
            heard += [] if item.sample is None else [(number, item.sample.messages)]
        other.step(number, sampled=sampled)
    assert heard == [(2, ((1, b"found"),)), (6, ())]
    assert [step for step in range(3, 20) if one.convoy.cadence.look(step) == "sampled"] == [
        *(3, 4, 6, 8, 10, 16, 18),  # the powers of two, and 1, 2, 4, 8, 16 steps after step 2
    ]


def test_copies_that_differ_are_seen(pair: tuple[Rank, Rank, Wire]) -> None:
    one, other, _wire = pair
    one.step(0, sampled=True)
    item = arrived(0, sampled=True, weight=0.0)
    assert item.step.levels is not None
    item.step.levels.weight = (0.0, 1.0 + 1e-4)
    other.convoy.owe(0)
    other.convoy.take(replace(item))
    one.step(1, sampled=False)
    sample = one.step(2, sampled=False)[0].sample
    assert sample is not None
    assert sample.unlike == (1,)


def test_the_end_reads_what_has_come_and_leaves(pair: tuple[Rank, Rank, Wire]) -> None:
    one, other, wire = pair
    one.step(0, sampled=True)
    other.step(0, sampled=True)
    (found,) = one.convoy.finish(1.0)
    assert found.sample is not None
    assert wire.left == {0}
    assert one.said == []
    other.step(1, sampled=True)  # the last sample of a rank whose peer is gone
    assert [item.record.step for item in other.convoy.finish(0.0)] == [0, 1]
    assert other.said == []


def test_a_shared_cadence_asks_no_clock() -> None:
    def clock() -> float:
        return next(ticks)

    looks = []
    for pace in (1.0, 7.0):  # ranks of different speed
        ticks = iter([pace * number for number in range(10_000)])
        cadence = Cadence(every=5, overhead=0.02, clock=clock).shared()
        assert isinstance(cadence, SharedCadence)
        seen = []
        for step in range(400):
            look = cadence.look(step)
            seen.append(look)
            cadence.step_over(step, look, 0.0)
            if look == "sampled":
                cadence.adopt(step + LAG, Prices(0.5, 1.0, 0.5 * seen.count("sampled"), step + 1.0))
        looks.append(seen)
    assert looks[0] == looks[1]
    assert 10 < looks[0].count("sampled") < 40
