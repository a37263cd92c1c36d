"""`unvanish init` from the command line."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from unvanish import i18n
from unvanish.cli import main

FILE = """
import torch
from torch import nn

def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.Sigmoid(), nn.Linear(16, 4))

def with_batch():
    print("the user's own words")
    return model(), torch.randn(32, 8)

def for_check():
    return model(), torch.randn(32, 8), lambda m, x: m(x).square().mean()

def nonsense():
    return 1, 2, 3, 4, 5

def number():
    return 3

def wrong_batch():
    return model(), torch.randn(32, 9)
"""


class Result(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Run]:
    monkeypatch.setenv("UNVANISH_LANG", "en")
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(FILE)

    def call(*words: str) -> Result:
        with pytest.raises(SystemExit) as ending:
            main(["init", *words])
        captured = capsys.readouterr()
        code = ending.value.code
        return Result(code if isinstance(code, int) else 0, captured.out, captured.err)

    yield call
    i18n.choose("en")


def document(run: Run, *words: str) -> dict[str, Any]:
    result = run(*words, "--json")
    assert result.code == 0, result.err
    return json.loads(result.out)  # and nothing else is on stdout


def test_the_plan_as_a_table(run: Run) -> None:
    result = run("net.py:with_batch")
    assert result.code == 0
    assert "4 of 4 parameters set" in result.out
    assert "removes the mean of sigmoid" in result.out
    assert "the user's own words" in result.err
    assert "the user's own words" not in result.out


def test_a_dry_run_says_so(run: Run) -> None:
    assert "nothing was changed" in run("net.py:with_batch", "--dry-run").out
    got = document(run, "net.py:with_batch", "--dry-run")
    assert (got["schema"], got["kind"], got["applied"]) == (1, "init", False)


def test_json_has_a_row_for_each_parameter(run: Run) -> None:
    got = document(run, "net.py:for_check", "--scheme", "gaussian")
    assert [row["parameter"] for row in got["rows"]] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    row = got["rows"][2]
    assert (row["action"], row["follows"], row["feeds"]) == ("set", "sigmoid", "output")
    assert row["backward_gain"] > 0.0
    assert got["structure"] == "batch"
    assert got["scheme"] == "gaussian"


def test_a_model_alone_is_traced_on_random_input(run: Run) -> None:
    got = document(run, "net.py:model")
    assert (got["structure"], got["measured"]) == ("guessed input", False)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("net.py:with_batch", "--scheme", "magic"), 2, "auto, orthogonal"),
        (("net.py:nonsense",), 2, "Return model, (model, batch)"),
        (("net.py:number",), 2, "not a torch.nn.Module"),
        (("net.py:absent",), 2, "with_batch"),
        (("absent.py:model",), 2, "no file"),
        (("net.py",), 2, "does not name a function of a file"),
        (("net.py:wrong_batch",), 3, "the model failed on the batch"),
    ],
)
def test_errors(run: Run, words: tuple[str, ...], code: int, told: str) -> None:
    result = run(*words)
    assert result.code == code
    assert told in result.err


def test_a_file_is_not_overwritten(run: Run) -> None:
    Path("plan.json").write_text("mine")
    assert run("net.py:model", "--json", "plan.json").code == 2
    assert Path("plan.json").read_text() == "mine"
    result = run("net.py:model", "--json", "plan.json", "--force")
    assert "Wrote plan.json" in result.err
    assert json.loads(Path("plan.json").read_text())["kind"] == "init"


def test_in_chinese(run: Run) -> None:
    out = run("net.py:with_batch", "--lang", "zh").out
    assert "正交" in out
    assert "sigmoid" in out
