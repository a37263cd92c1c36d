"""The engine: leaders and followers, verdicts, choices, failures, and what must not matter."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.diagnose.builders import (
    Net,
    a_model,
    a_parameter,
    a_run,
    codes,
    falling,
    finding,
    judge,
    over_time,
    stack,
    stuck,
)
from unvanish.diagnose import catalogue, diagnose, engine, failing
from unvanish.diagnose.config import Config
from unvanish.diagnose.engine import arrange
from unvanish.diagnose.rule import Rule
from unvanish.diagnose.view import View
from unvanish.errors import NoSignalError
from unvanish.records import Finding, Severity, StepGradient, Trace, Verdict, Where

HEALTHY = stack(3, "relu", math.sqrt(2))


def found(
    code: str,
    severity: Severity = "error",
    verdict: Verdict = "vanishing",
    explains: tuple[str, ...] = (),
) -> Finding:
    return Finding(
        code, code[:2], verdict, severity, code, Where(), None, (), "", explains=explains
    )


def arranged(*findings: Finding) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(each.code, each.severity, each.explains) for each in arrange(findings)]


# --- leaders and followers -----------------------------------------------------------------------


def test_a_claim_keeps_only_what_fired() -> None:
    leader = found("VG101", explains=("VG102", "VG103"))
    assert arranged(found("VG103"), leader) == [
        ("VG101", "error", ("VG103",)),
        ("VG103", "error", ()),
    ]


def test_a_leader_is_as_grave_as_what_it_leads() -> None:
    leader = found("EG101", "warning", explains=("NF101",))
    assert arranged(found("NF101", "error"), leader)[0] == ("EG101", "error", ("NF101",))


def test_followers_of_followers_hang_under_the_top() -> None:
    chain = (found("DU101", explains=("VG101",)), found("VG101", explains=("VG103",)))
    assert arranged(*chain, found("VG103"))[0] == ("DU101", "error", ("VG101", "VG103"))


def test_of_two_models_the_one_whose_finding_explains_others_gives_the_verdict() -> None:
    def taking(step: int, left: float) -> Trace:
        taken = StepGradient(0.0, 0.5, -math.inf if step == 0 else left)
        blown = stack(5, "relu", 8.0 if step > 4 else math.sqrt(2))
        return replace(blown.trace(step), taken=taken)

    rising = [2.0] * 30 + [2.0 * 1.5**i for i in range(40)]
    culprit = a_model([taking(step, 0.5) for step in (0, 1, 2, 32, 64)], rising, name="head")
    net = Net().linear("in").linear("out").loss()
    forgets = [net.trace(step, recurrences=(over_time(-1.0, 8),)) for step in (32, 64)]
    judged = diagnose(a_run(a_model(forgets, rising, name="cell"), culprit))
    assert judged.findings[0].code == "UR102"
    assert judged.verdict == "update-size"


def test_two_that_claim_each_other_have_one_leader() -> None:
    both = [
        found("DU101", verdict="dead-units", explains=("VG101",)),
        found("VG101", explains=("DU101",)),
    ]
    assert [each[2] for each in arranged(*both)] == [("VG101",), ()]


def test_each_finding_has_one_leader_only() -> None:
    leaders = (
        found("EG101", verdict="exploding", explains=("NF101",)),
        found("UR102", verdict="update-size", explains=("NF101",)),
    )
    claims = [each[2] for each in arranged(*leaders, found("NF101", verdict="non-finite"))]
    assert sum("NF101" in claim for claim in claims) == 1


def test_the_gravest_comes_first_and_leaders_before_followers() -> None:
    order = [
        each[0]
        for each in arranged(
            found("CG101", "info", "cut-graph"),
            found("VG103"),
            found("UR101", "warning", "update-size"),
            found("VG101", explains=("VG103",)),
        )
    ]
    assert order == ["VG101", "VG103", "UR101", "CG101"]


# --- verdicts ------------------------------------------------------------------------------------


def test_the_gravest_model_gives_the_verdict() -> None:
    well = a_model([HEALTHY.trace()] * 2, falling(), name="generator")
    ill = a_model([stack(20, "sigmoid", 0.577).trace()], stuck(), name="discriminator")
    diagnosis = diagnose(a_run(well, ill))
    assert (diagnosis.verdict, diagnosis.training) == ("vanishing", "stuck")
    assert [(model.name, model.verdict) for model in diagnosis.models] == [
        ("generator", "healthy"),
        ("discriminator", "vanishing"),
    ]
    assert diagnosis.findings[0].model == "discriminator"
    assert {each.model for each in diagnosis.findings} == {"generator", "discriminator"}


def test_nothing_traced_is_an_error_not_a_verdict() -> None:
    with pytest.raises(NoSignalError, match=r"loss\.backward"):
        diagnose(a_run(a_model([], stuck())))


def test_a_model_that_was_not_traced_is_said_to_be_unknown() -> None:
    diagnosis = diagnose(a_run(a_model([HEALTHY.trace()]), a_model([], name="other")))
    assert "nothing is known" in diagnosis.models[1].findings[0].title


@pytest.mark.parametrize(
    ("severity", "on_error", "on_warning"),
    [("error", True, True), ("warning", False, True), ("info", False, False)],
)
def test_failing(severity: Severity, on_error: bool, on_warning: bool) -> None:
    diagnosis = replace(judge([HEALTHY.trace()]), findings=(found("VG101", severity),))
    assert failing(diagnosis, "error") is on_error
    assert failing(diagnosis, "warning") is on_warning
    assert failing(diagnosis, "never") is False


# --- choices -------------------------------------------------------------------------------------


def test_an_ignored_leader_leaves_its_followers() -> None:
    trace = stack(20, "sigmoid", 0.577).trace()
    without = judge([trace], stuck(), Config(ignore=("VG101",)))
    assert (codes(without), without.verdict) == (["VG103"], "vanishing")
    only = judge([trace], stuck(), Config(select=("EG",)))
    assert (only.findings, only.verdict) == ((), "healthy")


def test_thresholds_can_be_set() -> None:
    trace = stack(3, "sigmoid", 0.577).trace()  # 2.5 decades
    assert judge([trace]).verdict == "healthy"
    assert judge([trace], config=Config(thresholds={"vanishing-clear": 2.0})).verdict == "vanishing"


def a_rule(code: str, check: object, **more: bool) -> Rule:
    return Rule(code, "vanishing", code, check, "", **more)  # type: ignore[arg-type]


def with_rules(monkeypatch: pytest.MonkeyPatch, *rules: Rule) -> None:
    monkeypatch.setattr(engine, "rules", lambda: rules)


def test_preview_rules_are_off_until_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with_rules(monkeypatch, a_rule("XX101", lambda view: [found("XX101")], preview=True))
    run = a_run(a_model([HEALTHY.trace()]))
    assert diagnose(run).findings == ()
    assert diagnose(run, Config(select=("XX",))).findings == ()
    assert codes(diagnose(run, Config(preview=True))) == ["XX101"]
    assert codes(diagnose(run, Config(select=("XX101",)))) == ["XX101"]


# --- failures ------------------------------------------------------------------------------------


def failing_check(view: View) -> Sequence[Finding]:
    raise ZeroDivisionError("by design")


def test_a_rule_that_fails_is_noted_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    good = a_rule("XX102", lambda view: [found("XX102")])
    with_rules(monkeypatch, a_rule("XX101", failing_check), good)
    diagnosis = diagnose(a_run(a_model([HEALTHY.trace()])))
    assert codes(diagnosis) == ["XX102"]
    assert "XX101" in diagnosis.run.notes[0]
    assert "by design" in diagnosis.run.notes[0]


def test_problems_of_other_packages_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "problems", lambda: ("the rule X could not be loaded",))
    diagnosis = diagnose(a_run(a_model([HEALTHY.trace()])))
    assert diagnosis.run.notes == ("the rule X could not be loaded",)


# --- what must not matter ------------------------------------------------------------------------


def nets() -> list[Net]:
    dead = Net().linear("0", 1.41).relu("1", 0.0, dead_share=1.0, off_share=1.0)
    saturated = Net().linear("0").sigmoid("1", 1e-4, saturated_share=0.9).linear("2")
    softmax = Net().linear("0").linear("1").add("2", "SoftmaxBackward0", "attention", -1.0)
    return [
        HEALTHY,
        stack(20, "sigmoid", 0.577),
        stack(30, "relu", 0.577),
        stack(20, "relu", 8.0),
        dead.linear("2").loss(),
        saturated.loss(),
        softmax.loss(),
        Net().linear("0").relu("1").linear("2", 0.0).loss(),
    ]


@pytest.mark.parametrize("net", nets())
@pytest.mark.parametrize("offset", [-6.0, 5.0])
def test_scaling_the_loss_changes_no_finding(net: Net, offset: float) -> None:
    def diagnosed(shift: float) -> tuple[Finding, ...]:
        recurrence = over_time(-0.3, 50, last=-1.0 + shift)
        trace = net.trace(offset=shift, recurrences=(recurrence,))
        return judge([trace, replace(trace, step=1)], stuck()).findings

    plain, scaled = diagnosed(0.0), diagnosed(offset)
    assert [each.title for each in plain] == [each.title for each in scaled]
    assert [each.severity for each in plain] == [each.severity for each in scaled]
    assert [each.where for each in plain] == [each.where for each in scaled]


@pytest.mark.parametrize("net", nets())
def test_renaming_modules_changes_only_names(net: Net) -> None:
    def diagnosed(prefix: str) -> tuple[Finding, ...]:
        facts = [a_parameter(f"{prefix}front.weight", "none"), a_parameter(f"{prefix}0.weight")]
        return judge([net.renamed(prefix).trace()], stuck(), parameters=facts).findings

    for plain, renamed in zip(diagnosed(""), diagnosed("body."), strict=True):
        assert renamed.where.module in (None, f"body.{plain.where.module}")
        assert renamed.title.replace("body.", "") == plain.title
        assert (renamed.code, renamed.severity, renamed.explains) == (
            plain.code,
            plain.severity,
            plain.explains,
        )


def test_names_that_would_harm_a_terminal_are_made_printable() -> None:
    net = stack(20, "sigmoid", 0.577).renamed("\x1b[31m<b>\n")
    title = judge([net.trace()], stuck()).findings[0].title
    assert title.isprintable()


@pytest.mark.parametrize("level", [math.nan, math.inf, -math.inf])
def test_levels_that_are_no_numbers_harm_nothing(level: float) -> None:
    trace = stack(5, "sigmoid", 0.577).trace()
    path = trace.main_path
    assert path is not None
    for position in range(len(path.edges)):
        edges = list(path.edges)
        for i in range(position, len(edges)):
            edges[i] = replace(
                edges[i], gain_log10=level, merge_log10=level, level_log10=level, blame_log10=level
            )
        broken = replace(path, edges=tuple(edges), source_level_log10=level)
        rows = tuple(replace(row, level_log10=level, gain_log10=level) for row in trace.layers)
        judge([replace(trace, main_path=broken, layers=rows, output_level_log10=level)], stuck())


def calls_to_judge(depth: int) -> int:
    """How many Python functions are called to judge a chain of `depth` blocks."""
    trace, count = stack(depth, "relu", 1.3).trace(), 0

    def counted(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(counted)
    try:
        judge([trace], stuck())
    finally:
        sys.setprofile(None)
    return count


def test_judging_is_linear_in_the_number_of_ops() -> None:
    calls_to_judge(10)  # loads what is loaded once
    # Ten times the ops are ten times the calls, less what does not depend on them.
    assert calls_to_judge(2500) < 10.5 * calls_to_judge(250)


def test_the_engine_runs_the_catalogue() -> None:
    assert engine.rules is catalogue.rules
    assert finding(judge([Trace(step=0, loss=1.0, layers=(), main_path=None)]), "OK001")


def test_a_cause_that_was_seen_later_explains_nothing() -> None:
    """Weights too small at step 0, units dead from step 2 on: the weights lead."""
    first = Finding(
        "VG103", "VG", "vanishing", "error", "weights", Where(), "weight", (), "", step=0,
        explains=("DU101",),
    )  # fmt: skip
    second = Finding(
        "DU101", "DU", "dead-units", "error", "dead", Where(), "slope", (), "", step=2,
        explains=("VG103",),
    )  # fmt: skip
    for findings in ([first, second], [second, first]):
        arranged = arrange(findings)
        assert [(each.code, each.explains) for each in arranged] == [
            ("VG103", ("DU101",)),
            ("DU101", ()),
        ]
