"""The rules of the families LH, UR and FS, and the finding that all is well."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tests.diagnose.builders import (
    ADAM,
    SGD,
    Net,
    a_parameter,
    codes,
    evidence,
    falling,
    finding,
    judge,
    stack,
    stuck,
)
from unvanish.records import LossHead, OptimizerFacts, Trace

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


def test_nll_loss_on_plain_outputs() -> None:
    net = Net().linear("0").relu("1").linear("2").loss("NllLossBackward0")
    found = judge([net.trace(step) for step in (0, 1)], falling())
    assert codes(found) == ["LH101"]
    assert "plain outputs" in finding(found, "LH101").title


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


# --- UR101 -----------------------------------------------------------------------------


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


# --- LH103, LH104, LH105 ------------------------------------------------------------------------


def with_head(step: int = 0, update: float = -3.0, **head: object) -> Trace:
    facts = {"op": "SubBackward0", "module": None, "output_shape": (64, 1), **head}
    return replace(updated(update, step), head=LossHead(**facts))  # type: ignore[arg-type]


def test_a_column_against_a_row() -> None:
    traces = [with_head(step, broadcast_shape=(64, 64)) for step in (0, 1)]
    found = judge(traces, stuck())
    assert (found.verdict, codes(found)) == ("loss-head", ["LH103"])
    assert "64 × 1" in finding(found, "LH103").title
    assert judge(traces, falling()).findings[0].severity == "warning"
    assert judge([with_head(0), with_head(1)], stuck()).verdict == "healthy"


RESTING = [200.0] * 5 + [150.0 + 0.3 * (-1) ** i for i in range(60)]  # fell, and stuck
DIVERGING = [2.0, 3.0, 8.0, 40.0, 300.0, 1e4, 1e6, 1e8, 1e9, 1e10, 1e11, 1e12]


@pytest.mark.parametrize(
    ("head", "update", "losses", "optimizer", "expected"),
    [
        ({"reduction": "sum", "entries": 64}, 0.5, DIVERGING, SGD, "LH104"),
        ({"reduction": "sum", "entries": 64}, 0.5, RESTING, SGD, "LH104"),
        ({"reduction": "sum", "entries": 64}, 0.5, falling(), SGD, None),
        ({"reduction": "sum", "entries": 64}, -2.0, DIVERGING, SGD, None),
        ({"reduction": "mean", "entries": 64}, 0.5, DIVERGING, SGD, "UR101"),
        ({"reduction": "sum", "entries": 64}, 0.5, DIVERGING, ADAM, "UR101"),
        (
            {"reduction": "sum", "entries": 64, "constant_log10": -1.8},
            0.5,
            DIVERGING,
            SGD,
            "UR101",
        ),
    ],
)
def test_a_sum_whose_steps_are_too_large(
    head: dict[str, object],
    update: float,
    losses: list[float],
    optimizer: OptimizerFacts,
    expected: str | None,
) -> None:
    traces = [with_head(step, update, **head) for step in (0, 1)]
    found = codes(judge(traces, losses, optimizer=optimizer))
    assert (found[0] if found else None) == expected


def judged_by(slope: float, step: int, owner: str) -> Trace:
    """A loss that reaches `net.0` through a judge `d.0`, and passes `slope` decades to it."""
    net = Net().linear("net.0").linear("d.0").sigmoid("d.1", 0.1)
    trace = net.loss("MeanBackward0", "LogBackward0", gain=0.1).trace(step)
    path = trace.main_path
    assert path is not None
    names = {"d.0": owner, "net.0": "net.0.weight"}
    edges = tuple(
        replace(
            edge,
            weight=names.get(edge.module or ""),
            level_log10=slope - 0.5 * math.log10(64) if edge.module == "d.0" else edge.level_log10,
        )
        for edge in path.edges
    )
    path = replace(path, edges=(*edges, replace(edges[-1], module="net.0", weight="net.0.weight")))
    head = LossHead("RsubBackward1", None, (64, 1), reduction="mean", entries=64)
    return replace(trace, main_path=path, head=head)


@pytest.mark.parametrize(
    ("slope", "owner", "losses", "fires"),
    [
        (-4.0, "d.0.weight", stuck(), True),
        (-0.3, "d.0.weight", stuck(), False),  # the judge guesses
        (-4.0, "net.1.weight", stuck(), False),  # one's own classifier: it has converged
        (-4.0, "d.0.weight", falling(), False),
    ],
)
def test_an_adversary_that_is_sure(
    slope: float, owner: str, losses: list[float], fires: bool
) -> None:
    traces = [judged_by(slope, step, owner) for step in (0, 1, 2)]
    own = [a_parameter("net.0.weight"), a_parameter("net.1.weight")]
    found = codes(judge(traces, losses, optimizer=ADAM, parameters=own))
    assert ("LH105" in found) == fires


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


def test_collapse_leads_a_vanishing_that_only_counts_because_training_is_stuck() -> None:
    def shrinking(weight: float, step: int) -> Trace:
        net = Net().linear("0", weight, sample_correlation=0.5, participation=9.0)
        for i in (1, 3, 5):
            net.tanh(str(i), sample_correlation=0.9998, participation=1.2)
            net.linear(str(i + 1), weight, sample_correlation=0.9998, participation=1.2)
        net.tanh("7").linear("8", weight, sample_correlation=0.9, participation=8.4)
        return net.loss().trace(step)

    found = judge([shrinking(0.4, step) for step in (0, 1)], stuck())  # 1.8 decades
    assert (found.verdict, codes(found)[0]) == ("forward-collapse", "FS101")
    assert "VG103" in finding(found, "FS101").explains
    found = judge([shrinking(0.1, step) for step in (0, 1)], stuck())  # 4.2 decades: clear
    assert (found.verdict, codes(found)[0]) == ("vanishing", "VG103")
    assert "FS101" in finding(found, "VG103").explains


@pytest.mark.parametrize(("off_from", "leader"), [(0, "DU101"), (8, "FS101")])
def test_of_a_collapse_and_units_that_are_off_the_first_seen_leads(
    off_from: int, leader: str
) -> None:
    def deep(step: int) -> Trace:
        half_off = 0.71 if step < off_from else 0.6  # 20 x log10(0.6 / 0.71): 1.5 decades more
        net = stack(20, "relu", 1.41, gain=half_off, sample_correlation=0.9999, participation=1.2)
        return net.trace(step)

    traces = [deep(step) for step in (0, 8, 16)]
    traces = [
        replace(trace, layers=(*trace.layers[:-1], replace(trace.layers[-1], participation=8.0)))
        for trace in traces
    ]
    found = judge(traces, stuck())
    assert codes(found)[0] == leader
    assert set(codes(found)) == {"DU101", "FS101"}
    assert len(finding(found, leader).explains) == 1


# --- FS103 ---------------------------------------------------------------------------------------


def scaled_to(*sizes: float, step: int = 0) -> Trace:
    """ReLU layers that keep the backward signal; the root mean squares of what they make."""
    net = Net()
    for i, size in enumerate(sizes):
        gain = math.sqrt(2) if i else 1.0
        net.linear(f"linear{i}", gain, forward_rms=size, weight_log10=1.0).relu(f"relu{i}")
    return net.linear("head", 1.0, forward_rms=0.0, weight_log10=-math.inf).loss().trace(step)


@pytest.mark.parametrize(
    ("sizes", "where", "words"),
    [
        ((1e-5, 1.2e-5, 2e-5), "linear0", "The input is out of scale"),
        ((1.4, 2e-2, 3e-5), "linear2", "goes from 1.4 in `linear0` to 3e−5 in `linear2`"),
        ((1e4, 1.1e4, 9e3), "linear0", "The input is out of scale"),
        ((1.4, 1e2, 1e4), "linear2", "goes from 1.4"),
    ],
)
def test_a_forward_signal_out_of_scale(sizes: tuple[float, ...], where: str, words: str) -> None:
    found = judge([scaled_to(*sizes, step=step) for step in (0, 1)], stuck())
    leader = finding(found, "FS103")
    assert (found.verdict, codes(found)) == ("forward-collapse", ["FS103"])
    assert leader.where.module == where
    assert words in leader.title
    assert judge([scaled_to(*sizes)], falling()).verdict == "healthy"


def test_a_forward_signal_whose_scale_is_no_fault() -> None:
    for sizes in ((4e-4, 1e-3), (200.0, 150.0), (1.0, 0.0)):  # the last: a branch that starts at 0
        assert judge([scaled_to(*sizes)], stuck()).verdict == "healthy"
    later = [scaled_to(1.0, 1.0), scaled_to(1e-6, 1e-6, step=8)]  # training made it so
    assert judge(later, stuck()).verdict == "healthy"


def test_weights_that_change_the_scale_both_ways_lead() -> None:
    net = Net().linear("0", 0.1, forward_rms=1.0, weight_log10=0.0)
    for i in range(6):
        net.relu(f"relu{i}").linear(f"{i + 1}", 0.1, forward_rms=10.0**-i, weight_log10=0.0)
    found = judge([net.loss().trace()], stuck())
    assert codes(found) == ["VG103", "FS103"]
    assert "FS103" in finding(found, "VG103").explains


def test_units_that_biases_switch_off_hang_under_the_scale_of_the_input() -> None:
    dead = [scaled_to(1e-5, 1e-5, step=step) for step in (0, 8, 16, 32)]
    dead = [dead[0]] + [
        replace(
            t,
            layers=tuple(replace(r, dead_share=0.9) if "relu" in r.module else r for r in t.layers),
        )
        for t in dead[1:]
    ]
    found = judge(dead, stuck())
    assert (found.verdict, codes(found)) == ("forward-collapse", ["FS103", "DU101"])


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


def test_what_else_to_look_at_comes_with_what_was_measured_of_it() -> None:
    head = LossHead("LogSoftmaxBackward0", None, (64, 10), reduction="mean", entries=64)
    net = Net().linear("0", forward_rms=1.25).relu("1").linear("2", update_ratio_log10=-2.0).loss()
    found = finding(judge([net.trace(head=head)], stuck()), "OK001")
    assert "the loss ends at 2.303, and guessing among 10 classes gives 2.303" in found.remedy
    assert "the learning rate (0.1: a step changes the weights by ×0.010" in found.remedy
    assert "the first layer makes 1.25 of them" in found.remedy
    assert evidence(found, "guessing_loss") == pytest.approx(math.log(10))
    summed = replace(head, reduction="sum")
    found = finding(judge([net.trace(head=summed)], stuck()), "OK001")
    assert "the loss ends at 2.303)" in found.remedy


def test_little_progress_is_said_with_its_numbers() -> None:
    losses = [2.8] + [2.3 - 0.0008 * i for i in range(300)]
    assert "falls little" in finding(judge([HEALTHY.trace()], losses), "OK001").title


# --- UR103 ---------------------------------------------------------------------------------------


def rounded_away(step: int, level: float = -1.8) -> Trace:
    net = Net().linear("0").relu("1").linear("2").add(None, "MulBackward0", "loss", -math.inf)
    return net.add(None, "MeanBackward0", "loss", level).trace(step, output_level_log10=-math.inf)


def test_gradients_below_float16() -> None:
    found = judge([rounded_away(step) for step in (0, 1, 2)], stuck())
    assert (found.verdict, codes(found)) == ("update-size", ["UR103"])
    assert finding(found, "UR103").where.op == "MulBackward0"


def test_a_loss_that_is_satisfied_is_not_rounded_away() -> None:
    hinge = (
        Net().linear("0").relu("1").linear("2").add(None, "ClampMinBackward0", "loss", -math.inf)
    )
    trace = hinge.add(None, "MeanBackward0", "loss", -1.8).trace(output_level_log10=-math.inf)
    assert judge([trace, replace(trace, step=1)], stuck()).verdict == "healthy"


def weak_layer(step: int, **row: float) -> Trace:
    return Net().linear("0").relu("1").linear("2", 0.0, **row).loss(gain=1e-5).trace(step)


def test_a_layer_with_weights_that_passes_nothing_rounds() -> None:
    found = judge([weak_layer(step, weight_log10=0.5) for step in (0, 1, 2)], stuck())
    assert codes(found) == ["UR103"]
    assert codes(judge([weak_layer(step) for step in (0, 1, 2)], stuck())) == ["VG103"]
