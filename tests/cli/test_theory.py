"""`unvanish theory` from the command line."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from unvanish import i18n
from unvanish.cli import main


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Result]]:
    monkeypatch.setenv("UNVANISH_LANG", "en")
    monkeypatch.setenv("COLUMNS", "80")

    def call(*words: str) -> Result:
        with pytest.raises(SystemExit) as ending:
            main(["theory", *words])
        captured = capsys.readouterr()
        code = ending.value.code
        return Result(code if isinstance(code, int) else 0, captured.out, captured.err)

    yield call
    i18n.choose("en")


Run = Callable[..., Result]


def document(run: Run, *words: str) -> dict[str, Any]:
    result = run(*words, "--json")
    assert (result.code, result.err) == (0, "")
    return json.loads(result.out)  # and nothing else is on stdout


def test_the_sigmoid_as_json(run: Run) -> None:
    got = document(run, "sigmoid")
    assert (got["schema"], got["kind"], got["activation"]) == (1, "theory", "sigmoid")
    assert got["critical"]["kind"] == "isolated"
    (point,) = got["critical"]["points"]
    assert point["sigma_w"] == pytest.approx(10.149263710019527, rel=1e-9)
    assert point["q"] == pytest.approx(45.62427779737971, rel=1e-9)
    assert got["gains"]["forward"] == pytest.approx(1.8462285453386054, rel=1e-12)
    critical = got["settings"][-1]
    assert critical["fixed_point"]["trainable_depth"] == "Infinity"
    assert critical["trains"] is None


def test_given_weights_and_depth_as_json(run: Run) -> None:
    words = ["--sigma-w", str(math.sqrt(3.0)), "--sigma-b", str(math.sqrt(0.05))]
    got = document(run, "tanh", *words, "--depth", "60", "--width", "96")
    given = got["settings"][0]
    assert given["name"] == "given"
    assert given["fixed_point"]["phase"] == "chaotic"
    assert given["fixed_point"]["trainable_depth"] == pytest.approx(54.3, abs=0.05)
    assert given["trains"] is False
    assert len(given["prediction"]["gains_log10"]) == 60
    assert given["prediction"]["spread_log10"] > 0.0


def test_every_key_of_the_json_is_in_the_help(run: Run) -> None:
    got = document(run, "gelu", "--depth", "3")
    keys = {*got, *got["gains"], *got["critical"]} - {"activation"}
    for setting in got["settings"]:
        keys |= {*setting, *setting["fixed_point"], *setting["prediction"]}
    shown = " ".join(run("--help").out.split())
    assert not {key for key in keys if key not in shown}


def test_on_the_terminal(run: Run) -> None:
    result = run("gelu", "--depth", "50", "--width", "64")
    assert result.code == 0
    for text in ("1.5335", "1.4811", "PyTorch default", "50 layers", "chaotic", "█", "6 ξ_c"):
        assert text in result.out
    assert max(map(len, result.out.splitlines())) <= 80
    assert "…" not in result.out  # no cell is cut off


def test_equal_settings_are_one_line(run: Run) -> None:
    assert run("relu").out.count("1.4142 ") == 1


def test_the_page(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "gelu.html"
    result = run("gelu", "--sigma-w", "1.4", "--sigma-b", "0.4", "-o", str(page))
    assert result.code == 0
    assert f"Wrote {page}" in result.err
    text = page.read_text("utf-8")
    assert 'id="slope-data"' in text
    assert 'id="phase-data"' in text
    assert "src=" not in text.replace("img-src", "").split("<script>")[0]  # loads nothing
    assert run("gelu", "-o", str(page)).code == 2  # exists already


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gellu"], "known: linear, sigmoid"),
        (["gelu", "--sigma-b", "0.1"], "without σ_w"),
        (["gelu", "--width", "10"], "--depth"),
        (["gelu", "--sigma-w", "0"], "σ_w > 0"),
        (["gelu", "--depth", "0"], "at least 1"),
        (["gelu", "--depth", "1000000"], "too deep"),
        (["gelu", "--depth", "3", "--width", "0"], "at least 1"),
        (["gelu", "--q", "nan"], "positive"),
        (["leaky_relu(x)"], "leaky_relu(0.2)"),
    ],
)
def test_what_is_wrong_is_said_with_a_remedy(run: Run, words: list[str], message: str) -> None:
    result = run(*words)
    assert result.code == 2
    assert message in result.err
    assert result.out == ""


def test_in_chinese(run: Run) -> None:
    result = run("sigmoid", "--lang", "zh", "--depth", "5")
    assert "平均场理论" in result.out
    assert "critical" not in result.out


MINE = """
import torch

def bent(z):
    return torch.where(z > 0, z, 0.2 * z)

def broken(z):
    return z / 0

size = 3
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine_theory.py"
    path.write_text(MINE)
    return path


@pytest.mark.parametrize(
    "given", ["torch.nn.functional.leaky_relu", "torch.nn.LeakyReLU", "torch.relu"]
)
def test_functions_and_modules_by_dotted_name(run: Run, given: str) -> None:
    name = "relu" if given == "torch.relu" else "leaky_relu"
    assert document(run, given)["activation"].startswith(name)
    assert document(run, given)["critical"]["kind"] == "scale_invariant"


def test_a_function_of_a_file(run: Run, mine: Path) -> None:
    got = document(run, f"{mine}:bent", "--depth", "10", "--sigma-w", "1.2", "--sigma-b", "0.1")
    known = document(run, "leaky_relu(0.2)")
    assert got["activation"] == "bent"
    assert got["gains"]["forward"] == pytest.approx(known["gains"]["forward"], rel=1e-9)
    assert got["settings"][0]["prediction"]["gain_log10"] < 0.0


def test_what_is_not_there_is_told_in_one_line(run: Run, mine: Path) -> None:
    for given, words in (
        (f"{mine}:bend", "known: bent, broken"),
        (f"{mine}:size", "known: bent, broken"),
        ("nowhere.py:act", "there is no file nowhere.py"),
        ("torch.nn.functional.gelly", "torch.nn.functional has no gelly"),
        ("no_such_module.act", "there is no module no_such_module"),
        (f"{mine}:broken", "'broken' is not finite"),
    ):
        result = run(given)
        assert result.code in (2, 3)
        assert len(result.err.splitlines()) == 1
        assert words in result.err


def test_a_file_that_fails(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "fails_theory.py"
    path.write_text("raise RuntimeError('not today')\n")
    result = run(f"{path}:act")
    assert result.code == 3
    assert "not today" in result.err


def test_a_page_of_a_function_of_a_file(run: Run, mine: Path, tmp_path: Path) -> None:
    target = tmp_path / "theory.html"
    assert run(f"{mine}:bent", "-o", str(target)).code == 0
    assert "bent" in target.read_text("utf-8")
