"""DU101: the culprit by more than chance, not its victims."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.diagnose.builders import Net, codes, evidence, falling, finding, judge, stack, stuck
from unvanish.diagnose.dead import chance
from unvanish.records import Trace


def dead_net(dead: dict[int, float], step: int = 0, depth: int = 6, units: int = 64) -> Trace:
    """ReLU layers 1, 3, 5, …; `dead` gives the share of dead units of some of them."""
    net = Net().linear("0", 1.41, forward_rms=1.0)
    for i in range(depth):
        share = dead.get(2 * i + 1, 0.1)
        gain = (0.5 * (1 - share)) ** 0.5
        net.relu(f"{2 * i + 1}", gain, dead_share=share, units=units, forward_rms=0.5)
        net.linear(f"{2 * i + 2}", 1.41, forward_rms=1.0)
    return net.loss().trace(step)


def test_a_dead_layer_is_the_culprit() -> None:
    found = judge([dead_net({5: 1.0, 7: 0.5})], stuck())
    leader = finding(found, "DU101")
    assert (found.verdict, codes(found)) == ("dead-units", ["DU101"])
    assert leader.where.module == "5"
    assert leader.title == "All 64 units of `5` are off for every sample."
    assert (leader.severity, leader.factor) == ("error", "slope")


def test_a_dead_layer_is_an_error_even_where_the_loss_falls() -> None:
    assert finding(judge([dead_net({5: 1.0})] * 3, falling()), "DU101").severity == "error"


def test_the_layer_that_died_first_is_named_and_when() -> None:
    alive, later, last = dead_net({}, 0), dead_net({9: 0.98}, 8), dead_net({9: 0.98, 3: 0.98}, 16)
    traces = [alive, later, later, last, last, last]
    traces = [Trace(**{**_fields(t), "step": 2**i}) for i, t in enumerate(traces)]
    found = finding(judge(traces, stuck()), "DU101")
    assert (found.where.module, found.step) == ("9", 2)
    assert "63 of 64 units of `9` are off for every sample from step 2 on" in found.title
    assert "(2 dead layers in all)" in found.title
    assert "learning rate" in found.remedy


def test_layers_whose_output_is_zero_count_although_no_gradient_reaches_them() -> None:
    net = Net().linear("0", forward_rms=0.0).relu("1", forward_rms=0.0)
    net.linear("2", forward_rms=0.0).relu("3", 0.0, dead_share=1.0, forward_rms=0.0)
    found = judge([net.linear("4").loss("MseLossBackward0").trace()], stuck())
    assert finding(found, "DU101").where.module == "1"


def test_a_rectifier_that_is_fed_zeros_is_no_culprit() -> None:
    """As in the gate of a residual branch whose last normalisation starts at zero."""
    net = dead_net({})
    fed = [row for row in net.layers if row.module == "5"]
    gate = [
        replace(fed[0], module="gate.fc", weight_log10=0.0, forward_rms=0.0, dead_share=None),
        replace(fed[0], module="gate.act", weight_log10=None, forward_rms=0.0, dead_share=None),
    ]
    assert judge([replace(net, layers=(*gate, *net.layers))]).verdict == "healthy"
    gate[0] = replace(gate[0], forward_rms=1.0)  # its inputs are below zero instead
    assert judge([replace(net, layers=(*gate, *net.layers))]).verdict == "dead-units"


@pytest.mark.parametrize("training", [stuck(), falling(), []])
def test_half_of_a_wide_layer_dead_is_chance(training: list[float]) -> None:
    shares = {2 * i + 1: 0.45 for i in range(6)}
    assert "DU101" not in codes(judge([dead_net(shares)], training), "info")


def test_more_than_chance_is_judged_by_training() -> None:
    assert "DU101" in codes(judge([dead_net({5: 0.8})], stuck()))
    assert judge([dead_net({5: 0.8})] * 2, falling()).verdict == "healthy"


def test_few_samples_say_little() -> None:
    few = Trace(**{**_fields(dead_net({5: 0.8})), "batch_size": 2})
    assert "DU101" not in codes(judge([few]), "info")


def test_one_of_two_units_is_too_few_when_stuck() -> None:
    found = judge([dead_net({1: 0.5}, depth=1, units=2)], stuck())
    assert finding(found, "DU101").severity == "error"
    assert evidence(finding(found, "DU101"), "units_alive") == 1
    alive = judge([dead_net({1: 0.0}, depth=1, units=2)], stuck())
    assert alive.verdict == "healthy"
    assert alive.training == "stuck"


def test_units_that_are_off_too_often_can_lose_the_signal() -> None:
    net = Net().linear("0", 1.41)
    for i in range(6):
        net.relu(f"r{i}", 0.2, off_share=0.96, dead_share=0.1).linear(f"l{i}", 1.41)
    found = judge([net.loss().trace()], stuck())
    assert (found.verdict, codes(found)) == ("dead-units", ["DU101"])


def test_smooth_activations_are_not_dead_units() -> None:
    found = judge([stack(3, "sigmoid", 4.0, dead_share=1.0, off_share=1.0).trace()], stuck())
    assert "DU101" not in codes(found)


def test_chance_is_the_binomial_tail() -> None:
    assert chance(1, 1) == 0.5
    assert chance(2, 3) == pytest.approx(0.5)
    assert chance(10, 10) == pytest.approx(2**-10)
    assert chance(0, 7) == 1.0


def _fields(trace: Trace) -> dict[str, object]:
    return {name: getattr(trace, name) for name in trace.__dataclass_fields__}
