"""`unvanish cure`: every cure is listed, documented, and has a source."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from unvanish.cli.cure import command
from unvanish.fix.catalogue import cures
from unvanish.fix.cure import Cure


def run(*arguments: str) -> str:
    result = CliRunner().invoke(command, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


def test_the_list_has_every_cure() -> None:
    text = run()
    assert [one.name for one in cures() if one.name not in text] == []


def test_one_cure_is_told_in_full() -> None:
    text = run("relu-swap")
    assert "He et al. 2015" in text
    assert "VG101" in text


def test_the_json_has_all_that_is_shown() -> None:
    document = json.loads(run("--json"))
    assert document["schema"] == 1
    names = [one["name"] for one in document["cures"]]
    assert names == sorted(set(names))
    for one in document["cures"]:
        assert one["summary"]
        assert one["sources"]
        assert one["documentation"]
        assert one["proposed_for"]
        assert all(0 < word <= 1 for word in one["proposed_for"].values())


def test_an_unknown_name_lists_those_there_are() -> None:
    result = CliRunner().invoke(command, ["nope"])
    assert "relu-swap" in str(result.exception)


@pytest.mark.parametrize("cure", cures(), ids=lambda one: one.name)
def test_words_speak_of_rules_families_or_verdicts_that_exist(cure: Cure) -> None:
    from unvanish.diagnose.catalogue import rules
    from unvanish.records import VERDICTS

    known = {rule.code for rule in rules()} | {rule.family for rule in rules()} | set(VERDICTS)
    words = set(cure.words)
    assert words <= known
