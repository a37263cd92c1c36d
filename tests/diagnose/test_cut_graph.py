"""The rules of the family CG, and what is not a fault."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tests.diagnose.builders import (
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
from unvanish.records import ParameterFacts, Trace

TRACES = [stack(3, "relu", math.sqrt(2)).trace(step) for step in (0, 1, 2, 4)]


def parameters(**gradients: str) -> list[ParameterFacts]:
    return [
        a_parameter(f"{module}.{kind}", gradient)  # type: ignore[arg-type]
        for module, gradient in gradients.items()
        for kind in ("weight", "bias")
    ]


# --- CG101 ---------------------------------------------------------------------------------------


def test_a_front_without_a_gradient() -> None:
    found = judge(TRACES, falling(), parameters=parameters(a="none", b="none", c="some"))
    leader = finding(found, "CG101")
    assert (found.verdict, leader.severity) == ("cut-graph", "error")
    assert "between `b` and `c`" in leader.title
    assert leader.where.module == "b"
    assert evidence(leader, "parameters_without_gradient") == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"requires_grad": False},  # frozen
        {"called": False},  # never called, or under no_grad
        {"in_optimizer": False},  # left out on purpose, and detached
    ],
)
def test_a_front_that_is_not_to_be_trained(changes: dict[str, bool]) -> None:
    front = [a_parameter("a.weight", "none", **changes)]
    found = judge(TRACES, falling(), parameters=[*front, a_parameter("b.weight")])
    assert codes(found, "info") == ["OK001"]


def test_an_unused_head_is_a_remark() -> None:
    found = judge(TRACES, falling(), parameters=parameters(body="some", head="some", aux="none"))
    assert (found.verdict, finding(found, "CG101").severity) == ("healthy", "info")
    stopped = judge(TRACES, stuck(), parameters=parameters(body="some", head="some", aux="none"))
    assert stopped.verdict == "healthy"


def test_a_cut_in_the_middle_matters_when_training_does_not_work() -> None:
    facts = parameters(a="some", b="none", c="some")
    assert judge(TRACES, falling(), parameters=facts).verdict == "healthy"
    assert finding(judge(TRACES, stuck(), parameters=facts), "CG101").severity == "warning"


def test_an_unused_parameter_of_the_root_is_no_front() -> None:
    token = a_parameter("mask_token", "none", type="Encoder")
    found = judge(TRACES, falling(), parameters=[token, *parameters(a="some", b="some")])
    assert found.verdict == "healthy"


# --- CG102 ---------------------------------------------------------------------------------------


def test_layers_in_a_python_list() -> None:
    lost = [a_parameter(f"hidden[{i}].weight", registered=False, in_optimizer=None) for i in (0, 1)]
    found = judge(TRACES, falling(), parameters=[*lost, *parameters(head="some")])
    leader = finding(found, "CG102")
    assert (found.verdict, leader.severity) == ("cut-graph", "error")
    assert "`hidden[0].weight`" in leader.title
    assert "ModuleList" in leader.remedy


def test_unregistered_but_given_to_the_optimiser_is_fine() -> None:
    lost = a_parameter("hidden[0].weight", registered=False, in_optimizer=True)
    assert judge(TRACES, falling(), parameters=[lost, a_parameter("head.weight")]).verdict == (
        "healthy"
    )


def test_parameters_missing_from_the_optimiser() -> None:
    middle = [
        a_parameter("a.weight"),
        a_parameter("b.weight", in_optimizer=False),
        a_parameter("c.weight"),
    ]
    found = judge(TRACES, falling(), parameters=middle)
    assert (found.verdict, finding(found, "CG102").severity) == ("cut-graph", "warning")


def test_an_optimiser_of_parameters_that_are_gone() -> None:
    """Its layers were replaced after it was made: no feature extraction, whatever the loss does."""
    facts = [a_parameter("a.weight", in_optimizer=False), a_parameter("head.weight")]
    found = judge(TRACES, falling(), parameters=facts, optimizer=replace(SGD, orphans=1))
    leader = finding(found, "CG102")
    assert (found.verdict, leader.severity) == ("cut-graph", "error")
    assert "does not have" in leader.title


def test_a_front_left_out_of_the_optimiser_is_feature_extraction() -> None:
    facts = [a_parameter("a.weight", in_optimizer=False), a_parameter("head.weight")]
    found = judge(TRACES, falling(), parameters=facts)
    assert (found.verdict, finding(found, "CG102").severity) == ("healthy", "info")
    assert judge(TRACES, stuck(), parameters=facts).verdict == "cut-graph"


def test_without_an_optimiser_nothing_is_missing() -> None:
    facts = [a_parameter("a.weight", in_optimizer=None), a_parameter("b.weight", in_optimizer=None)]
    assert codes(judge(TRACES, falling(), parameters=facts), "info") == ["OK001"]


# --- CG103 ---------------------------------------------------------------------------------------


def test_weights_whose_gradient_stays_zero() -> None:
    lora = [a_parameter("q.A", "zero"), a_parameter("q.B", "zero"), a_parameter("head.weight")]
    found = judge(TRACES, stuck(), parameters=lora)
    assert (found.verdict, codes(found)) == ("cut-graph", ["CG103"])
    assert judge(TRACES, falling(), parameters=lora).verdict == "healthy"


def test_zero_at_the_first_step_only_is_not_judged() -> None:
    facts = [a_parameter("q.A", "zero"), a_parameter("head.weight")]
    assert judge(TRACES[:1], parameters=facts).verdict == "healthy"


def test_biases_may_have_no_gradient() -> None:
    facts = [a_parameter("conv.bias", "zero"), a_parameter("conv.weight")]
    assert judge(TRACES, stuck(), parameters=facts).verdict == "healthy"


def rounded(step: int) -> Trace:
    net = Net().linear("enc").tanh("tanh")
    net.add("", "RoundBackward0", "slope", -math.inf, functional=True)
    return net.linear("dec").relu("relu").linear("head").loss().trace(step)


def test_a_step_function_on_the_trunk() -> None:
    found = judge([rounded(0), rounded(1)], falling())
    leader = finding(found, "CG103")
    assert (found.verdict, codes(found)) == ("cut-graph", ["CG103"])
    assert leader.where.op == "RoundBackward0"
    assert "x.round()" in leader.remedy
