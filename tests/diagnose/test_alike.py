"""Over-smoothing, tiny inputs, attention entropy, losses that rise against their gradient."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tests.diagnose.builders import SGD, Net, codes, falling, finding, judge, stack, stuck
from unvanish.diagnose.config import Config
from unvanish.records import (
    AttentionHead,
    LossHead,
    LossTerm,
    OpGain,
    ParameterSignal,
    StepGradient,
    Trace,
)

HEALTHY = stack(5, "relu", math.sqrt(2))

# --- FS102 ---------------------------------------------------------------------------------------


def smoothed(cosines: list[float], mixings: int, step: int) -> Trace:
    net = Net().linear("0", sample_correlation=cosines[0])
    for i, cosine in enumerate(cosines[1:], start=1):
        net.linear(str(i), sample_correlation=cosine)
    ops = tuple(
        OpGain("MmBackward0", None, 0, order, 1, "scale", -0.1, -1.0) for order in range(mixings)
    )
    return net.loss().trace(step, ops=ops)


@pytest.mark.parametrize(
    ("cosines", "mixings", "losses", "fires"),
    [
        ([0.1, 0.6, 0.97, 0.999, 0.9999], 4, stuck(), True),
        ([0.1, 0.6, 0.97, 0.999, 0.9999], 4, falling(), False),
        ([0.1, 0.6, 0.97, 0.999, 0.9999], 0, stuck(), False),  # no averages: not this rule's
        ([0.1, 0.2, 0.3, 0.3, 0.4], 4, stuck(), False),
        ([0.995, 0.995, 0.995, 0.996], 4, stuck(), False),  # positive features from the start
    ],
)
def test_over_smoothing(
    cosines: list[float], mixings: int, losses: list[float], fires: bool
) -> None:
    found = judge([smoothed(cosines, mixings, step) for step in (0, 1)], losses)
    assert codes(found) == (["FS102"] if fires else [])
    if fires:
        assert finding(found, "FS102").where.module == "3"


# --- FS104 ---------------------------------------------------------------------------------------


def faded(rms: float, cosine: float, step: int) -> Trace:
    net = Net().linear("0", forward_rms=1.0, weight_log10=0.0, sample_correlation=0.1)
    net.linear("1", forward_rms=rms, weight_log10=0.0, sample_correlation=0.1)
    net.linear("2", forward_rms=0.04, weight_log10=0.0, sample_correlation=cosine)
    return net.loss().trace(step)


@pytest.mark.parametrize(
    ("rms", "cosines", "losses", "fires"),
    [
        (0.003, (0.9999, 0.998), stuck(), True),
        (0.003, (0.9999, 0.998), falling(), False),
        (0.003, (0.9999, 0.9), stuck(), False),  # later it tells the samples apart
        (0.3, (0.9999, 0.9999), stuck(), False),  # biases alone: nothing has faded
    ],
)
def test_a_forward_signal_that_fades(
    rms: float, cosines: tuple[float, float], losses: list[float], fires: bool
) -> None:
    found = judge([faded(rms, cosine, step) for step, cosine in enumerate(cosines)], losses)
    assert codes(found) == (["FS104"] if fires else [])
    if fires:
        assert finding(found, "FS104").where.module == "1"


# --- EG106 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end", "head", "severity"),
    [
        (40.0, 12.0, "LogSoftmaxBackward0", "warning"),
        (40.0, 45.0, "LogSoftmaxBackward0", "error"),
        (40.0, 1.0, "LogSoftmaxBackward0", None),  # it came below a guess
        (3.0, 2.6, "LogSoftmaxBackward0", None),  # it did not start far above it
        (40.0, 12.0, "MseLossBackward0", None),
    ],
)
def test_an_output_that_starts_far_too_large(
    start: float, end: float, head: str, severity: str | None
) -> None:
    facts = LossHead(head, None, (64, 10), None, "mean", 64)
    traces = [replace(HEALTHY.trace(step), head=facts) for step in (0, 1)]
    losses = [end + (start - end) * 0.9**i for i in range(60)]
    found = [each for each in judge(traces, losses).findings if each.code == "EG106"]
    assert [each.severity for each in found] == ([severity] if severity else [])


def test_a_sum_of_losses_has_no_guess_to_be_held_to() -> None:
    """Two heads over two classes each, one of which is to stay at chance: an adversary's."""
    facts = LossHead("LogSoftmaxBackward0", None, (64, 2), None, "mean", 64)
    terms = (LossTerm("NllLossBackward0", None, 0.0),) * 2
    alone = [replace(HEALTHY.trace(step), head=facts) for step in (0, 1)]
    both = [replace(trace, loss_terms=terms) for trace in alone]
    losses = [0.74 + 4.0 * 0.9**i for i in range(60)]
    assert "EG106" in codes(judge(alone, losses))
    assert judge(both, losses).verdict == "healthy"


# --- VG108: a preview rule -----------------------------------------------------------------------


def attending(entropies: list[float], step: int) -> Trace:
    heads = tuple(AttentionHead("attn", 0, i, value) for i, value in enumerate(entropies))
    return replace(HEALTHY.trace(step), attention=heads)


@pytest.mark.parametrize(
    ("entropies", "losses", "fires"),
    [
        ([0.01, 0.02, 0.01, 0.9], stuck(), True),
        ([0.01, 0.7, 0.8, 0.9], stuck(), False),
        ([1.0, 1.0], stuck(), True),
        ([0.95, 0.96], stuck(), False),
        ([0.01, 0.02], falling(), False),
    ],
)
def test_attention_that_is_sure_or_even(
    entropies: list[float], losses: list[float], fires: bool
) -> None:
    traces = [attending(entropies, step) for step in (0, 1, 2)]
    assert judge(traces, losses).verdict == "healthy"  # off by default
    chosen = judge(traces, losses, Config(preview=True))
    assert ("VG108" in codes(chosen)) == fires


# --- UR104: a preview rule -----------------------------------------------------------------------


def predicting(change: float, step: int) -> Trace:
    return replace(HEALTHY.trace(step), taken=StepGradient(0.0, 0.0, -math.inf, change))


RISING = [2.0 * 1.2**i for i in range(40)]


@pytest.mark.parametrize(
    ("change", "losses", "fires"),
    [
        (-3000.0, RISING, True),
        (-1e-6, RISING, False),  # nothing was to be gained: not the step's fault
        (-3000.0, stuck(), False),  # it does not rise either: the next batch is another one
        (-3000.0, falling(), False),
    ],
)
def test_a_loss_that_rises_against_its_gradient(
    change: float, losses: list[float], fires: bool
) -> None:
    traces = [predicting(change, step) for step in (0, 16, 30, 38)]
    chosen = Config(select=("UR104", "OK001"))
    found = judge(traces, losses, chosen, optimizer=SGD)
    assert ("UR104" in codes(found)) == fires


# --- FS105 ---------------------------------------------------------------------------------------


def dim(cosine: float, weight: float, step: int = 0, bias: float | None = -1.0) -> Trace:
    """A net whose first layer has this cosine between samples and this weight gradient (log10)."""
    net = Net().linear("0", 1.41, sample_correlation=cosine)
    net.relu("1", sample_correlation=cosine).linear("2", 1.41, sample_correlation=cosine)
    parameters = (
        ParameterSignal("0.weight", weight, 0.5),
        ParameterSignal("0.bias", bias, -0.5),
    )
    return net.loss().trace(step, parameters=parameters)


@pytest.mark.parametrize(
    ("cosine", "weight", "losses", "fires"),
    [
        (0.99999, -3.0, stuck(), True),
        (0.99999, -3.0, falling(), False),  # Adam may get there all the same
        (0.999, -3.0, stuck(), False),
        (0.99999, -0.6, stuck(), False),  # alike, but not small: a bandit's constant state
    ],
)
def test_inputs_that_are_next_to_nothing(
    cosine: float, weight: float, losses: list[float], fires: bool
) -> None:
    found = judge([dim(cosine, weight, step) for step in (0, 1)], losses)
    assert (codes(found), found.verdict) == (
        (["FS105"], "forward-collapse") if fires else ([], "healthy")
    )
    if fires:
        assert finding(found, "FS105").where.module == "0"
        assert "inputs" in finding(found, "FS105").remedy


def test_one_look_with_distinct_samples_is_enough_to_acquit_the_input() -> None:
    traces = [dim(0.99999, -3.0, 0), dim(0.9, -3.0, 1)]
    assert judge(traces, stuck()).verdict == "healthy"


def test_a_first_layer_without_a_bias_is_not_judged() -> None:
    assert judge([dim(0.99999, -3.0, step, bias=None) for step in (0, 1)], stuck()).verdict == (
        "healthy"
    )
