"""SARIF: valid by the standard, places below the checkout, nothing untrusted read as a link."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.report import builders
from tests.report.sarif_schema import SARIF
from unvanish import codec
from unvanish.i18n import speaking
from unvanish.records import Diagnosis, Finding, SourceLine, Where
from unvanish.report.sarif import sarif

DIAGNOSES = builders.every_diagnosis()
ROOT = Path("/home/ada")


def log(diagnosis: Diagnosis, root: Path = ROOT) -> dict[str, Any]:
    """Return the log as a reader gets it: through strict JSON."""
    read: dict[str, Any] = json.loads(codec.dumps(sarif(diagnosis, root)))
    jsonschema.Draft202012Validator(SARIF).validate(read)
    return read["runs"][0]


def with_finding(finding: Finding, **run: Any) -> Diagnosis:
    diagnosis = builders.vanishing()
    return replace(diagnosis, findings=(finding,), run=replace(diagnosis.run, **run))


@pytest.mark.parametrize("name", DIAGNOSES)
def test_every_diagnosis_is_valid_and_has_a_result_for_each_finding(name: str) -> None:
    one = log(DIAGNOSES[name])
    sick = [each for each in DIAGNOSES[name].findings if each.verdict != "healthy"]
    assert [result["ruleId"] for result in one["results"]] == [each.code for each in sick]
    ids = [rule["id"] for rule in one["tool"]["driver"]["rules"]]
    assert len(set(ids)) == len(ids)
    for result in one["results"]:
        assert ids[result["ruleIndex"]] == result["ruleId"]
    assert one["properties"]["verdict"] == DIAGNOSES[name].verdict


def test_the_schema_of_these_tests_rejects_what_is_broken() -> None:
    good = sarif(builders.vanishing(), ROOT)
    for damage in (
        lambda log: log.update(version="2.0.0"),
        lambda log: log["runs"][0].pop("tool"),
        lambda log: log["runs"][0]["results"][0].update(level="fatal"),
        lambda log: log["runs"][0]["results"][0]["message"].update(text="a [link](http://x)"),
        lambda log: log["runs"][0]["results"][0]["message"].update(text="no {0} argument"),
        lambda log: log["runs"][0]["results"][0]["locations"][0].update(line=3),
    ):
        broken = json.loads(json.dumps(good))
        damage(broken)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft202012Validator(SARIF).validate(broken)


def test_severities_become_levels_and_health_is_no_result() -> None:
    levels = [result["level"] for result in log(builders.vanishing())["results"]]
    assert levels == ["error", "warning"]
    remark = replace(builders.VANISHING_BY_WEIGHTS, severity="info")
    assert log(with_finding(remark))["results"][0]["level"] == "note"
    assert log(builders.healthy())["results"] == []


def test_a_place_is_relative_to_the_checkout() -> None:
    result = log(builders.vanishing())["results"][0]
    assert result["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "train.py", "uriBaseId": "SRCROOT"},
        "region": {"startLine": 31},
    }
    assert result["locations"][0]["logicalLocations"][0]["fullyQualifiedName"] == "net.1"


def test_of_a_run_from_another_machine_places_are_relative_to_where_it_started() -> None:
    finding = replace(
        builders.VANISHING_BY_SLOPE,
        where=Where("net.1", source=SourceLine("/home/ada/digits/nets/my net.py", 7)),
    )
    one = log(with_finding(finding), root=Path("/ci/checkout"))
    physical = one["results"][0]["locations"][0]["physicalLocation"]
    assert physical["artifactLocation"] == {"uri": "nets/my%20net.py", "uriBaseId": "SRCROOT"}
    assert one["originalUriBaseIds"]["SRCROOT"]["uri"] == "file:///ci/checkout/"
    outside = replace(finding, where=Where(source=SourceLine("/opt/lib/net.py", 7)))
    place = log(with_finding(outside), root=Path("/ci"))["results"][0]["locations"][0]
    assert place["physicalLocation"]["artifactLocation"] == {"uri": "file:///opt/lib/net.py"}


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("train.py", "--epochs", "3"), {"uri": "digits/train.py", "uriBaseId": "SRCROOT"}),
        (
            ("unvanish", "check", "nets/a.py:make"),
            {"uri": "digits/nets/a.py", "uriBaseId": "SRCROOT"},
        ),
        (("-m", "trainer"), None),
    ],
)
def test_without_a_line_the_script_is_named(
    command: tuple[str, ...], expected: dict[str, str] | None
) -> None:
    finding = replace(builders.VANISHING_BY_SLOPE, where=Where(source=SourceLine("<stdin>", 3)))
    location = log(with_finding(finding, command=command))["results"][0]["locations"][0]
    physical = location.get("physicalLocation")
    assert (physical and physical["artifactLocation"]) == expected
    assert physical is None or "region" not in physical


def test_names_in_a_message_are_neither_links_nor_placeholders() -> None:
    title = "`hidden[0]` says [click](http://evil.example) and {0}\n"
    finding = replace(builders.VANISHING_BY_SLOPE, title=title, remedy="")
    text = log(with_finding(finding))["results"][0]["message"]["text"]
    assert text == r"`hidden\[0\]` says \[click\](http://evil.example) and {{0}}\n"


def test_a_fingerprint_knows_a_finding_again_and_tells_two_apart() -> None:
    first, second = log(builders.vanishing())["results"]
    assert first["partialFingerprints"] != second["partialFingerprints"]
    later = replace(builders.VANISHING_BY_SLOPE, title="other numbers", step=8)
    again = log(with_finding(later))["results"][0]
    assert again["partialFingerprints"] == first["partialFingerprints"]


def test_rules_are_explained_and_a_rule_that_is_not_known_here_is_named() -> None:
    rule = log(builders.vanishing())["tool"]["driver"]["rules"][0]
    assert rule["id"] == "VG101"
    assert rule["shortDescription"]["text"]
    assert "## Cure" in rule["help"]["markdown"]
    foreign = with_finding(replace(builders.VANISHING_BY_SLOPE, code="XY101"))
    assert log(foreign)["tool"]["driver"]["rules"] == [{"id": "XY101"}]


def test_rules_are_explained_in_the_language_of_the_findings() -> None:
    assert log(builders.vanishing())["language"] == "en-US"
    with speaking("zh"):
        one = log(builders.vanishing())
    rule = one["tool"]["driver"]["rules"][0]
    assert one["language"] == "zh-CN"
    assert rule["shortDescription"]["text"] == "激活函数的斜率天生过小"
    assert rule["fullDescription"]["text"].startswith("反向信号")
    assert "## 疗法" in rule["help"]["markdown"]


def test_a_script_that_crashed_is_no_successful_execution() -> None:
    diagnosis = with_finding(builders.VANISHING_BY_SLOPE, ending="crashed", exit_code=1)
    assert log(diagnosis)["invocations"] == [{"executionSuccessful": False, "exitCode": 1}]
    assert log(builders.vanishing())["invocations"][0]["executionSuccessful"]
