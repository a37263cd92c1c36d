"""The rules of the family VG, each with what must fire and what must not."""

from __future__ import annotations

import math

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
from unvanish.records import LayerSignal, OptimizerFacts, Trace


def sigmoid_net(depth: int = 20) -> Trace:
    return stack(depth, "sigmoid", 0.577).trace()


# --- slope and weights ---------------------------------------------------------------------------


def test_a_deep_default_sigmoid_net() -> None:
    found = judge([sigmoid_net()], stuck())
    assert found.verdict == "vanishing"
    assert codes(found) == ["VG101", "VG103"]
    leader = finding(found, "VG101")
    assert leader.severity == "error"
    assert leader.factor == "slope"
    assert leader.explains == ("VG103",)
    assert "×0.14 a layer over 20 layers" in leader.title
    assert "slope of the sigmoid 72 % (×0.25 each), weights 28 % (×0.58 each)" in leader.title
    assert evidence(leader, "trunk_ratio_log10") == pytest.approx(20 * math.log10(0.245 * 0.577))
    assert finding(found, "VG103").explains == ()


def test_default_relu_layers_are_to_blame_on_the_weights() -> None:
    found = judge([stack(30, "relu", 0.577).trace()], stuck())
    assert codes(found) == ["VG103"]
    assert finding(found, "VG103").factor == "weight"
    assert "weights 100 % (×0.58 each, ×1.4 keeps it)" in finding(found, "VG103").title


def test_he_layers_are_healthy() -> None:
    found = judge([stack(30, "relu", math.sqrt(2)).trace()], falling())
    assert (found.verdict, codes(found, "info")) == ("healthy", ["OK001"])


def test_one_bad_layer_is_named() -> None:
    net = Net().linear("first")
    for i in range(6):
        net.relu(f"relu{i}").linear(f"linear{i}", 0.0005 if i == 3 else math.sqrt(2))
    found = judge([net.loss().trace()], stuck())
    assert finding(found, "VG103").where.module == "linear3"


def test_a_closed_gate_and_a_post_norm_are_named() -> None:
    gate = Net().linear("0")
    norm = Net().linear("0")
    for i in range(10):
        gate.add(f"gate{i}", "MulBackward0", "gate", -0.5).linear(f"{i + 1}")
        norm.add(f"sum{i}", "AddBackward0", "merge", 0.0).norm(f"norm{i}", 0.5)
    found = judge([gate.loss().trace()], stuck())
    assert (codes(found), finding(found, "VG106").factor) == (["VG106"], "gate")
    found = judge([norm.linear("head").loss().trace()], stuck())
    assert (codes(found), finding(found, "VG105").factor) == (["VG105"], "norm")


# --- how grave -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("depth", "losses", "optimizer", "severity"),
    [
        (3, stuck(), SGD, "error"),  # 2.6 decades: stays at chance under SGD
        (3, falling(), ADAM, "info"),
        (3, [], SGD, "info"),
        (4, [], SGD, "error"),  # 3.4 decades
        (4, [], ADAM, "warning"),
        (4, resting(), SGD, "warning"),
        (4, falling(), SGD, "info"),  # the loss goes all the way in spite of it
        (4, falling(), ADAM, "info"),
        (5, resting(), ADAM, "warning"),  # 4.2 decades
        (7, falling(), SGD, "error"),  # 5.9 decades
        (20, falling(), ADAM, "error"),
    ],
)
def test_severity_follows_training_and_the_optimiser(
    depth: int, losses: list[float], optimizer: object, severity: str
) -> None:
    found = judge([sigmoid_net(depth)] * 2, losses, optimizer=optimizer)
    assert finding(found, "VG101").severity == severity
    assert found.verdict == ("healthy" if severity == "info" else "vanishing")


def test_a_healthy_ratio_is_not_blamed_when_stuck() -> None:
    mild = stack(1, "sigmoid", 0.577).trace()  # 0.85 decades
    assert judge([mild], stuck()).verdict == "healthy"


# --- when ----------------------------------------------------------------------------------------


def healthy(step: int) -> Trace:
    return stack(10, "relu", math.sqrt(2)).trace(step)


def sick(step: int) -> Trace:
    return stack(10, "relu", 0.3).trace(step)


def test_a_signal_that_dies_during_training_is_seen_with_its_step() -> None:
    found = judge([healthy(0), healthy(1), sick(8), sick(16)], stuck())
    assert finding(found, "VG103").step == 8


def test_one_odd_batch_in_a_good_run_is_no_finding() -> None:
    traces = [healthy(0), sick(1), healthy(2), healthy(4)]
    assert judge(traces, falling()).verdict == "healthy"


def test_a_signal_that_recovers_was_sick_nevertheless() -> None:
    found = judge([sick(0), sick(1), sick(2), healthy(64), healthy(128)], falling())
    assert (found.verdict, finding(found, "VG103").step) == ("vanishing", 0)


# --- saturation ----------------------------------------------------------------------------------


def saturated(gain: float, **first: object) -> Net:
    net = Net().linear("0", forward_rms=1000.0, weight_log10=math.log10(64), **first)
    net.sigmoid("1", gain, saturated_share=0.1, off_share=0.88).linear("2")
    return net.sigmoid("3", 0.2).linear("4").loss()


def test_saturation_is_told_from_nature_and_the_raw_input_is_named() -> None:
    found = judge([saturated(1e-4).trace()], stuck())
    leader = finding(found, "VG102")
    assert codes(found)[0] == "VG102"
    assert leader.where.module == "1"
    assert evidence(leader, "flat_share") == pytest.approx(0.98)
    # ||W||_F = 64 with 64 units: x_rms = 1000 * 8 / 64.
    assert evidence(leader, "input_rms") == pytest.approx(125.0)
    assert "root mean square of about 125" in leader.remedy


def test_scaled_inputs_are_not_named() -> None:
    net = Net().linear("0", forward_rms=8.0, weight_log10=math.log10(64))
    net.sigmoid("1", 1e-4, saturated_share=0.9).linear("2").loss()
    found = judge([net.trace()], stuck())
    assert "inputs" not in finding(found, "VG102").remedy


def front(size: float, flat: float, step: int = 0) -> Trace:
    """A net whose signal keeps its size, by the few pairs that are not flat."""
    net = Net().linear("0", forward_rms=size, weight_log10=math.log10(64))
    return net.tanh("1", 0.7, off_share=flat).linear("2").loss().trace(step)


def test_raw_inputs_that_saturate_the_front_are_named_though_no_signal_is_lost() -> None:
    for losses, severity in ((falling(), "warning"), (stuck(), "error")):
        found = judge([front(5000.0, 0.98), front(5000.0, 0.97, step=1)], losses)
        assert (found.verdict, codes(found)) == ("vanishing", ["VG102"])
        leader = finding(found, "VG102")
        assert (leader.severity, leader.where.module) == (severity, "1")
        assert evidence(leader, "input_rms") == pytest.approx(625.0)
        assert evidence(leader, "flat_share") == pytest.approx(0.97)


@pytest.mark.parametrize(
    ("size", "flat", "later"),
    [
        (8.0, 0.98, 0.98),  # inputs of order 1: steep weights on purpose
        (5000.0, 0.82, 0.82),  # a part of the units still answers
        (5000.0, 0.98, 0.4),  # it gets out by itself
    ],
)
def test_a_saturated_front_that_is_no_fault(size: float, flat: float, later: float) -> None:
    traces = [front(size, flat), front(size, later, step=1)]
    assert judge(traces, stuck()).verdict == "healthy"


def test_slopes_rounded_to_zero_stop_the_signal() -> None:
    found = judge([saturated(0.0).trace()], stuck())
    leader = finding(found, "VG102")
    assert "The backward signal stops at `1`" in leader.title
    assert leader.severity == "error"


def test_saturated_but_growing_is_not_vanishing() -> None:
    net = Net().linear("0", 8.0)
    for i in range(10):
        net.tanh(f"t{i}", 0.24, saturated_share=0.8).linear(f"l{i}", 8.0)
    found = judge([net.loss().trace()], resting())
    assert found.verdict == "exploding"
    assert codes(found) == ["EG101"]


# --- zero weights --------------------------------------------------------------------------------


def zero_head(step: int, gain: float = 0.0) -> Trace:
    return Net().linear("0").relu("1").linear("head", gain).loss().trace(step)


def test_a_zero_initialised_head_is_a_remark_at_the_first_step() -> None:
    found = judge([zero_head(0)])
    assert (found.verdict, codes(found, "info")) == ("healthy", ["VG103", "OK001"])


def test_a_zero_initialised_head_that_moves_is_nothing() -> None:
    found = judge([zero_head(0), zero_head(1, 0.1), zero_head(2, 0.5)], falling())
    assert codes(found, "info") == ["OK001"]


def test_a_gate_that_grows_from_zero_is_by_design() -> None:
    def gated(step: int, gain: float) -> Trace:
        log = -math.inf if gain == 0 else math.log10(gain)
        net = Net().linear("0").add("gate", "NativeBatchNormBackward0", "norm", log)
        return net.add("sum", "AddBackward0", "merge", 0.0).linear("head").loss().trace(step)

    gains = (0.0, 1e-3, 2e-3, 1e-2)
    assert judge([gated(i, gain) for i, gain in enumerate(gains)], falling()).verdict == "healthy"


def test_weights_that_stay_zero_are_an_error() -> None:
    found = judge([zero_head(step) for step in (0, 1, 2, 4)], stuck())
    assert finding(found, "VG103").severity == "error"
    assert finding(found, "VG103").where.module == "head"


# --- recurrence ----------------------------------------------------------------------------------


def recurrent(per_step: float, steps: int, cell: str = "RNN") -> Trace:
    row = LayerSignal(module="rnn", type=cell, call=0, op=None, level_log10=-1.0, gain_log10=0.0)
    trace = Net().linear("head").linear("out").loss().trace()
    rows = (row, *trace.layers)
    return Trace(
        step=0,
        loss=0.7,
        layers=rows,
        main_path=trace.main_path,
        output_level_log10=trace.output_level_log10,
        recurrences=(over_time(per_step, steps),),
    )


def test_a_plain_rnn_over_a_hundred_steps() -> None:
    found = judge([recurrent(-0.24, 100)], stuck())
    leader = finding(found, "VG104")
    assert (found.verdict, leader.severity, leader.factor) == ("vanishing", "error", "recurrence")
    assert leader.where.module == "rnn"
    assert evidence(leader, "gain_per_time_step") == pytest.approx(10**-0.24)


@pytest.mark.parametrize(
    ("trace", "losses"),
    [
        (recurrent(-0.25, 8, "LSTM"), falling()),  # 0.017 over 8 steps
        (recurrent(-0.3, 50), falling()),  # learns from its last steps
        (recurrent(-0.3, 50, "LSTM"), []),  # untrained gates forget
        (recurrent(0.0, 100), stuck()),
    ],
)
def test_recurrence_that_is_no_fault(trace: Trace, losses: list[float]) -> None:
    assert judge([trace], losses).verdict == "healthy"


def test_time_steps_without_any_signal_are_counted_to_the_last_finite_one() -> None:
    levels = over_time(-1.0, 60)
    dead = tuple(
        step if step.step > 20 else type(step)(step.step, -math.inf) for step in levels.levels
    )
    trace = (
        Net()
        .linear("a")
        .linear("b")
        .loss()
        .trace(recurrences=(type(levels)("rnn", "rnn.w", dead),))
    )
    found = finding(judge([trace], stuck()), "VG104")
    assert evidence(found, "time_ratio_log10") == pytest.approx(-38.0)


# --- further sources -----------------------------------------------------------------------------


def test_a_clearly_sick_path_of_another_source_is_found() -> None:
    good = stack(3, "relu", math.sqrt(2))
    bad = stack(15, "sigmoid", 0.577).renamed("tower.")
    trace = good.trace(paths=(bad.path(),))
    found = judge([trace], [])
    assert finding(found, "VG101").severity == "warning"  # what the other input teaches may do
    assert judge([trace], stuck()).findings[0].severity == "error"


def test_a_short_side_path_is_not_judged() -> None:
    good = stack(3, "relu", math.sqrt(2))
    side = Net().linear("time").add("gate", "MulBackward0", "gate", -4.0).linear("mix", 1.0).loss()
    assert judge([good.trace(paths=(side.path(),))], stuck()).verdict == "healthy"


# --- constants between the layers ----------------------------------------------------------------


def scaled(weight: float, constant: float, depth: int = 8) -> Trace:
    net = Net().linear("0", weight)
    for i in range(depth):
        net.tanh(f"t{i}", 0.98).add(f"t{i}", "MulBackward0", "scale", math.log10(constant))
        net.linear(f"l{i}", weight)
    return net.loss().trace()


def test_constants_that_shrink_the_signal_are_to_blame() -> None:
    found = judge([scaled(1.0, 0.2)] * 2, stuck())
    leader = finding(found, "VG106")
    assert (found.verdict, leader.factor) == ("vanishing", "scale")
    assert "constant factors" in leader.title
    assert "constant" in leader.remedy


@pytest.mark.parametrize(("weight", "constant"), [(1 / 30, 30.0), (11.0, 1 / 11)])
def test_weights_made_for_a_constant_are_judged_with_it(weight: float, constant: float) -> None:
    # SIREN's sin(30 W x), and the neural-tangent parametrisation W x / sqrt(n)
    assert judge([scaled(weight, constant)] * 2, falling()).verdict == "healthy"


@pytest.mark.parametrize(
    ("depth", "losses", "optimizer"),
    [(3, stuck(), SGD), (20, stuck(), ADAM), (20, [2.3], SGD)],  # 3: mild, an error where stuck
)
def test_the_threshold_shown_is_the_one_that_was_passed(
    depth: int, losses: list[float], optimizer: OptimizerFacts
) -> None:
    leader = judge([sigmoid_net(depth)], losses, optimizer=optimizer).findings[0]
    assert leader.severity == "error"
    (ratio,) = (one for one in leader.evidence if one.name == "trunk_ratio_log10")
    assert isinstance(ratio.value, float)
    assert isinstance(ratio.threshold, float)
    assert ratio.value <= ratio.threshold
