"""What click says by itself is Chinese under `--lang zh`, and the process is as before."""

from __future__ import annotations

import gettext
import os
import re
from collections.abc import Iterator

import click
import pytest

from unvanish import i18n
from unvanish.cli import main
from unvanish.cli.click_words import click_speaks
from unvanish.cli.help import HelpContext

WRONG = {
    "nope": "没有命令 'nope'。",
    "chain --nope": "没有选项 '--nope'。",
    "chain --depht 3": "（你是想输入 '--depth', '--weight' 吗？）",
    "chain --depth": "选项 '--depth' 需要 1 个值。",
    "chain --depth x": "'--depth' 的值无效：'x' 不是有效的数值（integer）。",
    "chain --train=yes": "选项 '--train' 不带值。",
    "cure a b": "多余的参数（b）",
    "check": "缺少参数 'FILE.py:FUNCTION'.",
    "check a.py:f --fail-on some": "不在 'error', 'warning', 'never' 之中。",
}


@pytest.fixture(autouse=True)
def english_again() -> Iterator[None]:
    yield
    i18n.choose("en")


def state() -> tuple[str, str | None]:
    return gettext.textdomain(), os.environ.get("LANGUAGE")


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_usage_is_told_in_chinese(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = state()
    said = run(["--lang", "zh", *words.split()], capsys)
    assert WRONG[words] in said
    assert not re.search(r"Error|Usage|Try|Missing|Invalid|[Nn]o such", said)
    assert state() == before


def test_english_stays_english_where_the_system_speaks_chinese(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANGUAGE", "zh")
    assert "No such command 'nope'." in run(["nope", "--lang=en"], capsys)


@pytest.mark.parametrize("language", [None, "de"])
def test_a_command_runs_with_the_language_that_the_user_set(
    language: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if language is None:
        monkeypatch.delenv("LANGUAGE", raising=False)
    else:
        monkeypatch.setenv("LANGUAGE", language)
    seen = []

    @click.command()
    def command() -> None:
        seen.append(state())

    command.context_class = HelpContext
    i18n.choose("zh")
    before = state()
    with click_speaks():
        assert state() == ("click", "zh")
        command(args=[], standalone_mode=False)
    assert seen == [before]
    assert before[1] == language
