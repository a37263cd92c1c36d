"""`unvanish rule`."""

from __future__ import annotations

import json

import pytest

from unvanish.cli import main
from unvanish.diagnose.catalogue import rules
from unvanish.diagnose.rule import HEADINGS


def run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[str, str]:
    with pytest.raises(SystemExit) as exit_:
        main(["rule", *arguments])
    assert exit_.value.code == code
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_the_list_names_every_rule(capsys: pytest.CaptureFixture[str]) -> None:
    out, _err = run(capsys)
    for rule in rules():
        assert rule.code in out
        assert rule.verdict in out


def test_one_rule_is_printed_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    out, _err = run(capsys, "vg101")
    assert out.startswith("VG101: slope of the activation too small by nature")
    for heading in HEADINGS:
        assert heading in out
    assert "vanishing-clear = 2.7 decades" in out


def test_an_unknown_code_shows_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = run(capsys, "VG999", code=2)
    assert out == ""
    assert err.count("\n") == 1
    assert "VG999" in err
    assert "VG101" in err


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    out, _err = run(capsys, "--json", "-")
    document = json.loads(out)
    assert document["schema"] == 1
    assert [rule["code"] for rule in document["rules"]] == [rule.code for rule in rules()]
    out, _err = run(capsys, "EG104", "--json", "-")
    (rule,) = json.loads(out)["rules"]
    assert tuple(rule["documentation"]) == HEADINGS
    assert rule["verdict"] == "exploding"
    assert {"name", "value", "unit", "meaning", "why"} == set(rule["thresholds"][0])


def test_chinese(capsys: pytest.CaptureFixture[str]) -> None:
    out, _err = run(capsys, "VG103", "--lang", "zh")
    assert out.startswith("VG103：")
