"""The rules of the families LH, UR and FS, and the finding that all is well."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tests.diagnose.builders import (
    ADAM,
    SGD,
    Net,
    a_model,
    a_run,
    codes,
    evidence,
    falling,
    finding,
    judge,
    stack,
    stuck,
)
from unvanish.diagnose import diagnose
from unvanish.records import OptimizerFacts, StepRecord, Trace

HEALTHY = stack(3, "relu", math.sqrt(2))


def headed(*ops: str, loss: tuple[str, ...]) -> Trace:
    net = Net().linear("0").relu("1").linear("2")
    for i, op in enumerate(ops):
        factor = "attention" if op.startswith("Softmax") else "slope"
        net.add(f"out{i}", f"{op}Backward0", factor, -0.9)  # type: ignore[arg-type]
    return net.loss(*(f"{name}Backward0" for name in loss)).trace()


CROSS_ENTROPY = ("NllLoss", "LogSoftmax")


# --- LH101 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ops", "loss"),
    [
        (("Softmax",), CROSS_ENTROPY),
        (("Sigmoid",), CROSS_ENTROPY),
        (("Sigmoid",), ("BinaryCrossEntropyWithLogits",)),
        (("Softmax",), ("NllLoss",)),
    ],
)
def test_probabilities_where_logits_are_expected(
    ops: tuple[str, ...], loss: tuple[str, ...]
) -> None:
    found = judge([headed(*ops, loss=loss)] * 2, falling())
    assert (found.verdict, codes(found)) == ("loss-head", ["LH101"])
    assert finding(found, "LH101").where.module == "out0"
    assert judge([headed(*ops, loss=loss)], stuck()).findings[0].severity == "error"


@pytest.mark.parametrize(
    ("ops", "loss"),
    [
        ((), CROSS_ENTROPY),
        (("LogSoftmax",), CROSS_ENTROPY),
        (("Softmax",), ("NllLoss", "Log")),
        (("Sigmoid",), ("BinaryCrossEntropy",)),
        (("Sigmoid",), ("MseLoss",)),
        ((), ("BinaryCrossEntropyWithLogits",)),
    ],
)
def test_heads_that_are_right(ops: tuple[str, ...], loss: tuple[str, ...]) -> None:
    assert codes(judge([headed(*ops, loss=loss)] * 2, falling()), "info") == ["OK001"]


def test_softmax_inside_the_network_is_no_head() -> None:
    net = Net().linear("0").add("att", "SoftmaxBackward0", "attention", -0.3).linear("2").loss()
    assert judge([net.trace()], falling()).verdict == "healthy"


# --- LH102 ---------------------------------------------------------------------------------------


def output(share: float, step: int = 0) -> Trace:
    net = Net().linear("0").tanh("1").linear("2")
    net.sigmoid("3", 0.001, saturated_share=share)
    return net.loss("MseLossBackward0").trace(step)


def test_a_saturated_output_before_a_squared_error() -> None:
    found = judge(
        [output(0.95, step) for step in (0, 1, 2)], [0.5 + 1e-4 * (-1) ** i for i in range(60)]
    )
    assert (found.verdict, codes(found)) == ("loss-head", ["LH102"])
    assert finding(found, "LH102").where.module == "3"


def test_a_saturated_output_that_is_right_is_the_aim() -> None:
    converged = [0.001 + 1e-6 * (-1) ** i for i in range(60)]
    traces = [output(0.95, step) for step in (0, 1, 2)]
    assert judge(traces, converged).verdict == "healthy"
    assert judge(traces, falling()).verdict == "healthy"


# --- UR101 and UR102 -----------------------------------------------------------------------------


def updated(ratio: float, step: int = 0, **row: float) -> Trace:
    more = {"update_ratio_log10": ratio, "weight_log10": 0.0, **row}
    net = Net().linear("0", 1.41, **more).relu("1").linear("2", 1.0, **more).loss()
    return net.trace(step)


def test_steps_that_replace_the_weights() -> None:
    found = judge([updated(0.6)], stuck(), optimizer=ADAM)
    assert (found.verdict, codes(found)) == ("update-size", ["UR101"])
    assert judge([updated(0.6)], falling(), optimizer=ADAM).verdict == "healthy"
    assert judge([updated(0.6)], optimizer=ADAM).findings[0].severity == "warning"


def test_steps_too_small_for_the_weights() -> None:
    slow = OptimizerFacts("Adam", (1e-9,), rescales=True)
    found = judge([updated(-7.0, step) for step in (0, 1, 2)], stuck(), optimizer=slow)
    assert (found.verdict, codes(found)) == ("update-size", ["UR101"])


def test_small_steps_from_small_gradients_are_convergence() -> None:
    found = judge([updated(-7.0, step) for step in (0, 1, 2)], stuck(), optimizer=SGD)
    assert found.verdict == "healthy"


def sgd_steps(excess: list[float], **changes: object) -> str:
    """The verdict where step i exceeds lr times gradient by `excess[i]` decades."""
    traces = [updated(-3.0 + e, i, lr=0.1, grad_log10=-2.0) for i, e in enumerate(excess)]
    model = replace(a_model(traces, stuck()), **changes)  # type: ignore[arg-type]
    return diagnose(a_run(model)).verdict


def test_gradients_that_add_up() -> None:
    assert sgd_steps([0.0, 0.3, 0.5, 0.7, 0.95]) == "update-size"


def test_momentum_and_micro_batches_are_allowed_for() -> None:
    excess = [0.0, 0.3, 0.5, 0.7, 0.95]
    momentum = OptimizerFacts("SGD", (0.1,), rescales=False, momentum=0.9)
    assert sgd_steps(excess, optimizer=momentum) == "healthy"
    several = tuple(StepRecord(i, 2.3, backwards=8) for i in range(60))
    assert sgd_steps([0.9] * 5, steps=several) == "healthy"
    assert sgd_steps(excess, optimizer=ADAM) == "healthy"


def test_clipping_that_takes_everything() -> None:
    assert sgd_steps([-4.8] * 4) == "update-size"
    assert sgd_steps([-1.5] * 4) == "healthy"


# --- FS101 ---------------------------------------------------------------------------------------


def collapsed(cosine: float, participation: float, step: int = 0) -> Trace:
    net = Net().linear("0", 1.41, sample_correlation=0.5, participation=9.0)
    net.relu("1", sample_correlation=cosine, participation=participation)
    net.linear("2", 1.0, sample_correlation=0.9, participation=8.4)
    return net.loss().trace(step)


def test_samples_that_have_become_one() -> None:
    found = judge([collapsed(0.9998, 1.2, step) for step in (0, 1)], stuck())
    assert (found.verdict, codes(found)) == ("forward-collapse", ["FS101"])
    assert finding(found, "FS101").where.module == "1"


@pytest.mark.parametrize(
    ("cosine", "participation", "losses"),
    [
        (0.999, 5.8, stuck()),  # all activations positive: a healthy sigmoid layer
        (0.7, 1.7, stuck()),  # few samples dominate: a net that has converged
        (0.9998, 1.2, falling()),
        (0.9998, 1.2, []),
    ],
)
def test_only_both_together_and_only_when_training_does_not_work(
    cosine: float, participation: float, losses: list[float]
) -> None:
    traces = [collapsed(cosine, participation, step) for step in (0, 1)]
    assert judge(traces, losses).verdict == "healthy"


# --- OK001 ---------------------------------------------------------------------------------------


def test_healthy_comes_with_its_evidence() -> None:
    found = finding(judge([HEALTHY.trace()], falling()), "OK001")
    assert found.title == "The backward signal is healthy, and the loss falls."
    assert abs(float(evidence(found, "trunk_ratio_log10_lowest"))) < 0.2
    assert evidence(found, "dead_share_highest") == 0.0


def test_stuck_and_healthy_is_said_plainly_with_what_else_to_look_at() -> None:
    found = finding(judge([updated(-2.0)], stuck()), "OK001")
    assert "the loss does not fall: it went from 2.320 to 2.303" in found.title
    for word in ("labels", "learning rate", "×0.010", "data", "overfit"):
        assert word in found.remedy


def test_little_progress_is_said_with_its_numbers() -> None:
    losses = [2.8] + [2.3 - 0.0008 * i for i in range(300)]
    assert "falls little" in finding(judge([HEALTHY.trace()], losses), "OK001").title
