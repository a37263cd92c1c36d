"""The rules of the family EG, each with what must fire and what must not."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tests.diagnose.builders import (
    ADAM,
    SGD,
    Net,
    codes,
    evidence,
    falling,
    finding,
    judge,
    over_time,
    resting,
    stack,
    stuck,
)
from unvanish.records import NonFinite, Trace

FORWARD = NonFinite("forward", "AddmmBackward0", "12", 0, "inf")


def wide(gain: float, depth: int = 20) -> Trace:
    return stack(depth, "relu", gain).trace()


def diverging() -> list[float]:
    return [2.3, 50.0, math.inf, math.nan, math.nan]


def test_large_weights_are_to_blame() -> None:
    found = judge([wide(8.0)], diverging())
    leader = finding(found, "EG101")
    assert (found.verdict, leader.severity, leader.factor) == ("exploding", "error", "weight")
    assert "×5.7 a layer over 20 layers" in leader.title
    assert evidence(leader, "trunk_ratio_log10") == pytest.approx(20 * math.log10(8 * 0.5**0.5))


def test_the_nan_that_comes_of_it_hangs_under_it() -> None:
    bad = Trace(step=1, loss=math.nan, layers=(), main_path=None, nonfinite=FORWARD)
    found = judge([wide(8.0), bad], diverging())
    assert codes(found) == ["EG101", "NF101"]
    assert finding(found, "EG101").explains == ("NF101",)
    assert found.verdict == "exploding"


@pytest.mark.parametrize(
    ("gain", "depth", "losses", "optimizer", "severity"),
    [
        (2.83, 5, stuck(), SGD, "error"),  # twice He's weights, 1.5 decades
        (2.83, 5, falling(), SGD, "info"),
        (2.83, 10, [], SGD, "error"),  # 3.0 decades
        (2.83, 10, [], ADAM, "warning"),
        (2.83, 10, resting(), SGD, "warning"),
        (2.83, 10, falling(), SGD, "info"),  # the loss goes all the way in spite of it
        (2.83, 10, falling(), ADAM, "info"),
        (8.0, 20, falling(), ADAM, "error"),
    ],
)
def test_severity_follows_training_and_the_optimiser(
    gain: float, depth: int, losses: list[float], optimizer: object, severity: str
) -> None:
    found = judge([wide(gain, depth)] * 2, losses, optimizer=optimizer)
    assert finding(found, "EG101").severity == severity


def test_residual_sums_are_named() -> None:
    net = Net().linear("0")
    for i in range(64):
        net.add(f"block{i}", "AddBackward0", "merge", 0.0, merge=math.log10(math.sqrt(2)))
    found = judge([net.linear("head").loss().trace()], diverging())
    assert (codes(found)[0], finding(found, "EG103").factor) == ("EG103", "merge")


def batch_norms(depth: int, growth: float = 1.21) -> Trace:
    """Convolution, BatchNorm, ReLU: together they grow by `growth` a layer."""
    net = Net().linear("0")
    for i in range(depth):
        net.norm(f"n{i}", 20.0).relu(f"r{i}").linear(f"c{i}", growth * math.sqrt(2) / 20.0)
    return net.norm("n", 1.0).relu("r").linear("head").loss().trace()


def test_batch_norm_without_skips_is_healthy_by_design() -> None:
    assert judge([batch_norms(60)], falling()).verdict == "healthy"  # x3,300
    assert judge([batch_norms(50)], stuck()).verdict == "healthy"  # x480, as in image models


def halting() -> list[float]:
    """Down by a sixth, on and on: from beyond chance to chance."""
    return [2.76 - 0.007 * i + 0.01 * (-1) ** i for i in range(60)]


def test_growth_by_design_is_no_excuse_where_training_comes_to_little() -> None:
    for losses in (stuck(), halting()):
        assert codes(judge([batch_norms(60)], losses)) == ["EG104"]
    # The first step blows the front's weights up, and what comes back is small from then on.
    started = [batch_norms(80), replace(batch_norms(40), step=1), replace(batch_norms(20), step=2)]
    assert codes(judge(started, halting())) == ["EG104"]
    assert codes(judge(started, falling())) == []
    later = [replace(started[2], step=0), started[1], replace(started[0], step=2)]
    assert codes(judge(later, halting())) == []  # a single odd batch


def test_the_growth_of_residual_blocks_with_norms_is_by_design() -> None:
    """A ResNet-50 grows by some 700 over its 53 norms, booked under its sums and its ReLUs."""

    def blocks(norms: bool) -> Trace:
        net = Net().linear("in")
        for i in range(16):
            for j in range(3):
                if norms:
                    net.norm(f"n{i}{j}", 1.0)
                net.relu(f"r{i}{j}", 0.74).linear(f"c{i}{j}", math.sqrt(2))
            net.add(f"b{i}", "AddBackward0", "merge", 0.0, merge=math.log10(1.25))
        return net.linear("head").loss().trace()

    assert judge([blocks(True)]).verdict == "healthy"
    assert judge([blocks(False)]).verdict == "exploding"


def test_a_hundred_batch_norms_are_not() -> None:
    found = judge([batch_norms(100)], stuck())
    assert codes(found) == ["EG104"]


def test_growth_by_norms_beyond_their_pace_is_not_excused() -> None:
    found = judge([batch_norms(20, growth=2.0)], stuck())
    assert codes(found) == ["EG104"]


def test_steep_activations_are_named() -> None:
    net = Net().linear("0")
    for i in range(6):
        net.add(f"{i}", "ExpBackward0", "slope", 1.0, row={"activation": "exp"}).linear(f"l{i}")
    found = judge([net.loss().trace()], diverging())
    assert codes(found)[0] == "EG105"


def recurrent(per_step: float, steps: int) -> Trace:
    net = Net().linear("head").linear("out").loss()
    return net.trace(recurrences=(over_time(per_step, steps),))


def test_growth_over_time() -> None:
    found = judge([recurrent(0.3, 50)], diverging())
    leader = finding(found, "EG102")
    assert (found.verdict, leader.factor, leader.severity) == ("exploding", "recurrence", "error")
    assert leader.explains == ("NF101",)
    assert judge([recurrent(0.3, 50)] * 2, falling()).findings[0].severity == "warning"
    assert judge([recurrent(0.02, 50)], stuck()).verdict == "healthy"


def test_what_comes_later_hangs_under_what_came_first() -> None:
    growing = wide(8.0)
    dying = stack(20, "tanh", 0.1).trace(step=8)
    found = judge([growing, dying], stuck())
    assert finding(found, "EG101").explains == ("VG103",)
    assert found.verdict == "exploding"


def test_units_that_an_explosion_kills_hang_under_it() -> None:
    blown = stack(5, "relu", 4.0)
    dead = stack(5, "relu", 4.0, gain=0.0, off_share=1.0, dead_share=1.0)
    traces = [blown.trace(0), blown.trace(1), *(dead.trace(step) for step in (8, 16, 32))]
    found = judge(traces, [2.0 * 3**i for i in range(40)])
    assert codes(found)[0] == "EG101"
    assert "DU101" in finding(found, "EG101").explains
