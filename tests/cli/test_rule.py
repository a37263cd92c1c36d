"""`unvanish rule`."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from unvanish import i18n, words
from unvanish.cli import main
from unvanish.diagnose.catalogue import rules
from unvanish.diagnose.rule import HEADINGS


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    i18n.choose("en")
    yield
    i18n.choose("en")


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
    for heading in HEADINGS:
        assert heading not in out
    assert "发现什么" in out
    assert "vanishing-clear = 2.7 个数量级" in out
    assert "# default weights: 30 layers of ×0.41" in out  # code stays as it is
    assert "- He et al. 2015" in out or "• He et al. 2015" in out


def test_chinese_json_keeps_its_keys(capsys: pytest.CaptureFixture[str]) -> None:
    out, _err = run(capsys, "VG103", "--json", "-", "--lang", "zh")
    (rule,) = json.loads(out)["rules"]
    assert tuple(rule["documentation"]) == HEADINGS
    assert rule["documentation"]["What it finds"].startswith("反向信号消失")
    assert rule["thresholds"][0]["unit"] == "个数量级"


def test_lines_of_chinese_are_full(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    out, _err = run(capsys, "VG101", "--lang", "zh")
    text = out.split("为什么重要")[0].strip().splitlines()[4:]
    assert len(text) > 3
    # A line ends where the next word (at most "sigmoid", with its space and a full stop) is due.
    assert all(50 <= words.width(line) <= 60 for line in text[:-1])
    assert not any(line[0] in "，。：；）、" for line in text)
