"""NF101: the first op that makes a NaN or an infinity, and why."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tests.diagnose.builders import (
    ADAM,
    SGD,
    a_model,
    a_run,
    codes,
    evidence,
    falling,
    finding,
    judge,
    stack,
)
from unvanish.diagnose import diagnose
from unvanish.diagnose.nonfinite import usual_cause
from unvanish.records import NonFinite, StepRecord, Trace

HEALTHY = stack(5, "relu", math.sqrt(2))


def broken(
    direction: str = "backward", op: str = "SqrtBackward0", step: int = 0, **more: object
) -> Trace:
    fault = NonFinite(direction, op, "dist", 0, "nan")  # type: ignore[arg-type]
    path = HEALTHY.path()
    edges = tuple(replace(edge, gain_log10=math.nan, level_log10=math.nan) for edge in path.edges)
    path = replace(path, edges=edges, source_level_log10=math.nan)
    values = {"loss": 0.2, "layers": (), "output_level_log10": math.nan, **more}
    return Trace(step=step, main_path=path, nonfinite=fault, **values)  # type: ignore[arg-type]


def test_the_op_is_named_with_its_usual_cause() -> None:
    found = judge([broken()], [0.2, math.nan, math.nan])
    leader = finding(found, "NF101")
    assert (found.verdict, codes(found), leader.severity) == ("non-finite", ["NF101"], "error")
    assert (leader.where.module, leader.where.op) == ("dist", "SqrtBackward0")
    assert "at step 0" in leader.title
    assert "infinite" in leader.title
    assert "sqrt(x + eps)" in leader.remedy
    assert evidence(leader, "direction") == "backward"


@pytest.mark.parametrize(
    ("direction", "op", "words"),
    [
        ("forward", "LogBackward0", "logarithm of 0"),
        ("backward", "LogBackward0", "slope of the logarithm"),
        ("backward", "AcosBackward0", "±1"),
        ("forward", "ExpBackward0", "overflows"),
        ("forward", "DivBackward0", "0/0"),
        ("forward", "WeightNormInterfaceBackward0", "weight_norm"),
        ("forward", "SoftmaxBackward0", "masked"),
        ("backward", "WhereBackward0", "torch.where"),
        ("forward", "AddmmBackward0", "not finite already"),
        ("backward", "BmmBackward0", "masked"),
        ("forward", "ReluBackward0", "the op before it"),
        ("forward", "MseLossBackward0", "target"),
        ("forward", "input", "data themselves"),
        ("forward", "MyOwnBackward", "inputs were finite"),
        ("backward", "MyOwnBackward", "its own derivative"),
    ],
)
def test_causes_by_op(direction: str, op: str, words: str) -> None:
    fault = NonFinite(direction, op, None, 0, "nan")  # type: ignore[arg-type]
    assert words in usual_cause(fault, SGD, scaled=False).why


def test_an_infinity_in_a_linear_layer_is_an_overflow() -> None:
    fault = NonFinite("forward", "AddmmBackward0", None, 0, "inf")
    assert "outgrew" in usual_cause(fault, SGD, scaled=False).why


def test_what_overflows_only_later_was_driven_there_by_training() -> None:
    fault = NonFinite("forward", "AddmmBackward0", "2", 0, "inf", "input in [0, 1e+28]")
    late = replace(broken(step=30), nonfinite=fault)
    found = finding(judge([HEALTHY.trace(0), late], [1.3, 1.2, math.inf]), "NF101")
    assert "at step 30 (input in [0, 1e+28]). It was finite at first" in found.title
    assert "learning rate" in found.remedy
    at_once = finding(judge([replace(late, step=0)], [math.inf] * 3), "NF101")
    assert "outgrew" in at_once.title
    assert "inputs to unit variance" in at_once.remedy


def test_the_optimisers_own_nan() -> None:
    fault = NonFinite("parameters", "Adam.step", "0", 0, "nan")
    cause = usual_cause(fault, ADAM, scaled=False)
    assert "eps" in cause.why
    assert "eps=1e-4" in cause.remedy
    assert "learning rate" in usual_cause(fault, SGD, scaled=False).remedy
    found = judge([broken("parameters", "Adam.step")], [2.3, math.nan], optimizer=ADAM)
    assert "gradients were finite" in finding(found, "NF101").title


def test_a_loss_that_breaks_between_traces_is_named_by_its_step() -> None:
    found = judge([HEALTHY.trace(0)], [2.3, 2.0, math.nan, math.nan, math.nan])
    assert finding(found, "NF101").severity == "error"
    assert finding(found, "NF101").step == 2


def test_an_accident_that_passes_is_a_warning() -> None:
    losses = falling()
    losses[8] = math.nan
    traces = [HEALTHY.trace(0), broken(step=8), HEALTHY.trace(16), HEALTHY.trace(32)]
    assert finding(judge(traces, losses), "NF101").severity == "warning"


def with_scaler(skipped: int, count: int = 60) -> list[StepRecord]:
    return [StepRecord(i, 2.3 * 0.95**i, skipped=i < skipped) for i in range(count)]


def test_a_scaler_that_finds_its_scale_is_no_fault() -> None:
    traces = [broken(step=i, phase="scaled", loss_scale=65536.0) for i in (0, 1, 2)]
    traces += [HEALTHY.trace(step) for step in (4, 8, 16, 32)]
    model = replace(a_model(traces), steps=tuple(with_scaler(3)))
    assert diagnose(a_run(model)).verdict == "healthy"


def test_a_scaler_that_never_finds_its_scale_is() -> None:
    traces = [broken(step=i, phase="scaled", loss_scale=65536.0) for i in (0, 1, 2, 4, 8, 16, 32)]
    model = replace(a_model(traces), steps=tuple(with_scaler(60)))
    found = diagnose(a_run(model))
    assert found.verdict == "non-finite"
    assert evidence(finding(found, "NF101"), "skipped_share") == 1.0


def test_finite_runs_have_no_such_finding() -> None:
    assert "NF101" not in codes(judge([HEALTHY.trace()], falling()), "info")
