"""The rules that hold a step against its gradient, and a backward against its forward."""

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
    over_time,
    stack,
    stuck,
)
from unvanish.records import CustomBackward, OptimizerFacts, ParameterSignal, StepGradient, Trace

HEALTHY = stack(5, "relu", math.sqrt(2))


def taking(fresh: float, taken: float, left: float | None, step: int, scale: float = 1.0) -> Trace:
    phase = "unscaled" if scale == 1.0 else "scaled"
    more = {"taken": StepGradient(fresh, taken, left), "phase": phase, "loss_scale": scale}
    return HEALTHY.trace(step, **more)


# --- UR102: gradients that add up ----------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [SGD, ADAM])
def test_gradients_left_over_from_earlier_steps(optimizer: OptimizerFacts) -> None:
    traces = [
        taking(0.0, 0.3 * step, -math.inf if step == 0 else 0.2 * step, step)
        for step in (0, 1, 2, 4)
    ]
    found = judge(traces, stuck(), optimizer=optimizer)
    leader = finding(found, "UR102")
    assert (found.verdict, codes(found), leader.step) == ("update-size", ["UR102"], 1)
    assert evidence(leader, "leftover_over_fresh_log10") == pytest.approx(0.4)
    assert judge(traces, falling(), optimizer=optimizer).findings[0].severity == "warning"


def test_what_is_cleaned_in_between_or_not_known_is_no_fault() -> None:
    clean = [taking(0.0, 0.9, -math.inf, step) for step in (0, 1, 2, 4)]  # micro-batches
    unknown = [taking(0.0, 0.9, None, step) for step in (0, 1, 2, 4)]
    once = [*clean[:3], taking(0.0, 0.9, 0.5, 8)]
    for traces in (clean, unknown, once):
        assert judge(traces, stuck()).verdict == "healthy"


def test_what_adding_up_does_later_hangs_under_it() -> None:
    blown = stack(5, "relu", 8.0)
    traces = [taking(0.0, 0.3, -math.inf if step == 0 else 0.5, step) for step in (0, 1, 2)]
    traces += [replace(blown.trace(step), taken=StepGradient(0.0, 1.0, 0.9)) for step in (32, 64)]
    found = judge(traces, [2.0] * 30 + [2.0 * 1.5**i for i in range(40)])
    assert codes(found)[0] == "UR102"
    assert "EG101" in finding(found, "UR102").explains


# --- UR102: gradients that something takes -------------------------------------------------------


@pytest.mark.parametrize("optimizer", [SGD, ADAM])
def test_clipping_before_unscaling(optimizer: OptimizerFacts) -> None:
    bound = -math.log10(65536)
    traces = [taking(0.4, bound, -math.inf, step, 65536.0) for step in (0, 1, 2)]
    found = judge(traces, falling(), optimizer=optimizer)
    assert (found.verdict, codes(found)) == ("update-size", ["UR102"])
    assert "65536" in finding(found, "UR102").title


def test_clipping_on_purpose_is_no_fault() -> None:
    clipped = [taking(0.4, -1.0, -math.inf, step, 65536.0) for step in (0, 1, 2)]
    small = [taking(-3.9, -4.0, -math.inf, step, 65536.0) for step in (0, 1, 2)]
    for traces in (clipped, small):
        assert judge(traces, stuck()).verdict == "healthy"


def test_a_gradient_of_which_nothing_is_left() -> None:
    eaten = [taking(0.0, -4.8, -math.inf, step) for step in (0, 1, 2)]
    assert codes(judge(eaten, stuck())) == ["UR102"]
    assert judge(eaten, falling()).verdict == "healthy"
    zeroed = [taking(0.0, -math.inf, -math.inf, step) for step in (0, 1, 2)]
    assert "zeroed" in finding(judge(zeroed, stuck()), "UR102").title


# --- UR105 ---------------------------------------------------------------------------------------


def tried(step: int, **one: object) -> Trace:
    facts = {"op": "Mine", "module": "1", "call": 0, "ignores_gradient": False, **one}
    return replace(HEALTHY.trace(step), custom=(CustomBackward(**facts),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "fires"),
    [
        ({"ignores_gradient": True}, True),
        ({"error": 0.67}, True),  # a third of the slope
        ({"error": 2.0}, True),  # the sign is wrong
        ({"error": 0.03}, False),
        ({"error": None}, False),  # nothing to compare: a straight-through estimator
    ],
)
def test_a_backward_that_is_wrong(one: dict[str, object], fires: bool) -> None:
    found = judge([tried(step, **one) for step in (0, 1)], stuck())
    assert codes(found) == (["UR105"] if fires else [])


def test_a_wrong_backward_explains_the_profile() -> None:
    net = Net().linear("0").add("1", "MineBackward", "opaque", -7.0).linear("2").loss()
    one = CustomBackward("Mine", "1", 0, ignores_gradient=True)
    found = judge([replace(net.trace(step), custom=(one,)) for step in (0, 1)], stuck())
    assert codes(found)[0] == "UR105"
    assert finding(found, "UR105").explains == ("VG106",)


def test_adding_up_leads_what_it_does_to_a_recurrence() -> None:
    calm, dying = (over_time(rate, 8, last=0.0) for rate in (0.0, -1.0))
    traces = [
        replace(taking(0.0, 0.3, -math.inf if step == 0 else 0.5, step), recurrences=(calm,))
        for step in (0, 1, 2)
    ]
    traces += [replace(taking(0.0, 1.0, 0.9, step), recurrences=(dying,)) for step in (32, 64)]
    found = judge(traces, [2.0] * 30 + [2.0 * 1.5**i for i in range(40)])
    assert codes(found)[0] == "UR102"
    assert "VG104" in finding(found, "UR102").explains


# --- UR106: steps too short to get anywhere ------------------------------------------------------


def short(length: float, step: int, gradient: float = 0.3, taken: float | None = None) -> Trace:
    """A step of `length` (share of the weights, whose norm is 10) along a plain gradient."""
    kept = gradient if taken is None else taken
    promised = -length * 10 * kept
    weight = ParameterSignal("0.weight", math.log10(gradient), 1.0)
    ratio = math.log10(length) if length else -math.inf
    return HEALTHY.trace(
        step,
        parameters=(replace(weight, update_ratio_log10=ratio),),
        taken=StepGradient(math.log10(gradient), math.log10(kept), -math.inf, promised),
    )


STEPS = (0, 1, 2, 4, 8, 16, 32, 64, 100)


def run_of(*lengths: float, count: int = 120, **more: object) -> list[Trace]:
    """Traces at the usual steps; the last length holds on."""
    padded = [*lengths, *[lengths[-1]] * (len(STEPS) - len(lengths))]
    return [short(length, step, **more) for length, step in zip(padded, STEPS, strict=True)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("traces", "losses", "fires"),
    [
        (run_of(1e-6), stuck(120), True),
        (run_of(1e-3), stuck(120), False),  # usual steps: the cause lies elsewhere
        (run_of(1e-6), falling(120), False),
        (run_of(1e-6, gradient=1e-5), stuck(120), False),  # converged: no step promises anything
        (run_of(*(1e-7 * 4**i for i in range(9))), stuck(120), False),  # a warm-up
        (run_of(1e-3, 1e-3, 1e-4, 1e-5, 1e-6), stuck(120), True),  # decays too early
        (run_of(*[1e-3] * 8, 1e-6), stuck(120), False),  # decays late
    ],
)
def test_steps_that_promise_nothing(traces: list[Trace], losses: list[float], fires: bool) -> None:
    found = judge(traces, losses, optimizer=ADAM)
    assert ("UR106" in codes(found)) == fires
    assert found.verdict == ("update-size" if fires else "healthy")


PLAIN = OptimizerFacts("SGD", (3e-5,), rescales=False)  # 3e-5 x 0.3 = 1e-6 x 10


@pytest.mark.parametrize(
    ("traces", "optimizer", "words"),
    [
        (run_of(1e-6), PLAIN, "learning rate"),
        (run_of(1e-6), replace(PLAIN, lr=(1e-3,)), "float32"),
        (run_of(1e-6, taken=0.003), PLAIN, "clipping"),
        (run_of(1e-6), replace(ADAM, eps=1.0), "eps"),
        (run_of(1e-3, 1e-3, 1e-5, 1e-6), ADAM, "scheduler"),
    ],
)
def test_what_makes_steps_short(traces: list[Trace], optimizer: OptimizerFacts, words: str) -> None:
    found = judge(traces, stuck(120), optimizer=optimizer, parameters=[a_parameter("0.weight")])
    assert words in finding(found, "UR106").remedy


# --- UR107: an optimiser that never steps --------------------------------------------------------


def test_an_optimiser_that_never_steps() -> None:
    idle = replace(ADAM, stepped=False)
    found = judge([HEALTHY.trace()], stuck(), optimizer=idle)
    assert (found.verdict, codes(found)) == ("update-size", ["UR107"])
    assert "Adam never steps: 60 backward passes" in finding(found, "UR107").title


def test_a_few_backward_passes_without_a_step_may_be_micro_batches() -> None:
    idle = replace(ADAM, stepped=False)
    assert judge([HEALTHY.trace()], [2.3] * 20, optimizer=idle).verdict == "healthy"
    assert judge([HEALTHY.trace()], stuck(), optimizer=ADAM).verdict == "healthy"
