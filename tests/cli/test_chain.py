"""`unvanish chain` from the command line."""

import functools
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from unvanish import i18n
from unvanish.chain import run_claims
from unvanish.cli import main
from unvanish.codec import number


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Result]]:
    monkeypatch.setenv("UNVANISH_LANG", "en")
    monkeypatch.setenv("COLUMNS", "200")

    def call(*words: str) -> Result:
        with pytest.raises(SystemExit) as ending:
            main([*words])
        captured = capsys.readouterr()
        code = ending.value.code
        return Result(code if isinstance(code, int) else 0, captured.out, captured.err)

    yield call
    i18n.choose("en")


Run = Callable[..., Result]
TEXTBOOK = ["chain", "--depth", "10", "--activation", "sigmoid", "--weight", "10"]


def document(run: Run, *words: str) -> dict[str, Any]:
    result = run(*words, "--json", "-")
    assert (result.code, result.err) == (0, "")
    return json.loads(result.out)  # and nothing else is on stdout


def test_the_textbook_command(run: Run) -> None:
    got = document(run, *TEXTBOOK, "--pre-activation", "0")
    assert got["factors"] == [2.5] * 10
    assert got["input_gain"] == 9536.7431640625
    assert not got["saturated"]


def test_the_same_with_given_biases_saturates_and_says_so(run: Run) -> None:
    got = document(run, *TEXTBOOK, "--bias", "0", "--input", "0")
    assert got["input_gain"] < 1e-20
    assert got["saturated"] == [2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert any("saturate" in note for note in got["notes"])
    text = run(*TEXTBOOK, "--bias", "0", "--input", "0").out
    assert "9 of 10 units saturate" in text
    assert "9536.7431640625" in text  # what chosen biases would give
    # no bias at all means the same
    assert document(run, *TEXTBOOK, "--input", "0") == got


def test_it_runs_as_a_program_without_torch() -> None:
    probe = (
        "import sys; from unvanish.cli import main\n"
        "try: main()\n"
        "finally: print('torch' in sys.modules, file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", probe, *TEXTBOOK, "--pre-activation", "0", "--json", "-"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(result.stdout)["input_gain"] == 9536.7431640625
    assert result.stderr.splitlines()[-1] == "False"


def test_the_json_adds_up(run: Run) -> None:
    got = document(run, "chain", "--weight", "1.5,-2,5", "--bias", "0.1,0,-1", "--target", "0.3")
    assert (got["kind"], got["schema"], got["depth"]) == ("chain", 1, 3)
    assert got["cost"] == 0.5 * (got["output"] - 0.3) ** 2
    assert math.prod(got["factors"]) == pytest.approx(got["input_gain"], rel=1e-14)
    before, behind = got["input"], got["input_gain"]
    for k, layer in enumerate(got["layers"]):
        assert layer["z"] == pytest.approx(got["weights"][k] * before + got["biases"][k], rel=1e-14)
        assert layer["factor"] == got["factors"][k]
        behind /= layer["factor"]
        assert layer["da_db"] == pytest.approx(behind * layer["slope"], rel=1e-13)
        assert layer["da_dw"] == pytest.approx(layer["da_db"] * before, rel=1e-13)
        assert layer["dC_dw"] == pytest.approx(layer["da_dw"] * got["error"], rel=1e-13)
        assert layer["dC_db"] == pytest.approx(layer["da_db"] * got["error"], rel=1e-13)
        for name in ("slope", "factor", "da_dw", "da_db", "dC_dw", "dC_db"):
            log10 = math.log10(abs(layer[name]))
            assert layer[f"{name}_log10"] == pytest.approx(log10, rel=1e-14)
        before = layer["a"]
    assert before == got["output"]
    assert got["layers"][0]["band"] is None
    low, high = got["layers"][2]["band"]
    assert got["layers"][2]["in_band"] == (low <= got["layers"][1]["a"] <= high)


def keys_in(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(keys_in, value.values()))
    return set().union(*map(keys_in, value)) if isinstance(value, list) else set()


@pytest.mark.parametrize(
    "words", [[], ["--activation", "relu"], ["--train", "--steps", "2"], ["--claims"]], ids=" ".join
)
def test_the_help_documents_every_key(
    run: Run, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unvanish.chain.run_claims", functools.partial(run_claims, draws=20))
    help_words = set(re.findall(r"\w+", run("chain", "--help").out))
    keys = keys_in(document(run, "chain", *words))
    assert len(keys) > 10
    assert not {key for key in keys if not {key, key.removesuffix("_log10")} & help_words}


def test_lists_show_the_neuron_that_kills_the_product(run: Run) -> None:
    result = run("chain", "--weight", "10", "--pre-activation", "0,0,0,40,0,0,0,0,0,0")
    assert result.code == 0
    assert "Neuron 4 alone kills the product" in result.out
    assert "[1·4.248e-18]·10" in result.out
    weights = run("chain", "--weight", "4,4,1e-12,4", "--pre-activation=0")
    assert "Neuron 3 alone kills the product" in weights.out


def test_the_formula_is_printed_in_symbols_and_in_numbers(run: Run) -> None:
    text = run("chain", "--depth", "3", "--weight", "10", "--pre-activation", "0").out
    assert "∂C/∂w_1 = (a_3 − y)·σ'(z_3)·w_3·σ'(z_2)·w_2·σ'(z_1)·a_0" in text
    assert "= (0.5 − 0)·[0.5·0.5]·10·[0.5·0.5]·10·[0.5·0.5]·1" in text
    assert "= 0.5·2.5·2.5·0.25·1" in text
    assert "= 0.7812" in text
    assert "σ'(z) = σ(z)·(1 − σ(z))" in text


def test_negative_numbers_need_no_trick(run: Run) -> None:
    spaced = document(run, "chain", "--weight", "-1,2", "--bias", "-0.5", "--input", "-3")
    assert spaced["weights"] == [-1, 2]
    assert spaced["biases"] == [-0.5, -0.5]
    assert spaced["input"] == -3


def test_a_comma_makes_a_list_of_one(run: Run) -> None:
    assert document(run, "chain", "--weight", "2,")["depth"] == 1


def test_depths_beyond_the_table_and_the_floats(run: Run) -> None:
    result = run("chain", "--depth", "2000", "--weight", "0.5")
    assert result.code == 0
    assert len(result.out.splitlines()) < 60
    got = document(run, "chain", "--depth", "2000", "--weight", "0.5")
    assert got["input_gain"] == 0.0
    assert got["input_gain_log10"] == pytest.approx(
        math.fsum(layer["factor_log10"] for layer in got["layers"]), rel=1e-12
    )


@pytest.mark.parametrize("weight", ["1e200", "-1e200", "1e308"])
@pytest.mark.parametrize("activation", ["sigmoid", "relu", "linear", "tanh", "softplus"])
def test_overflow_is_shown_and_does_not_crash(run: Run, weight: str, activation: str) -> None:
    words = ["chain", "--weight", weight, "--activation", activation]
    assert run(*words).code == 0
    got = document(run, *words)
    assert len(got["factors"]) == 10
    for layer in got["layers"]:
        assert isinstance(number(layer["dC_dw"]), float)


def test_infinities_survive_in_json(run: Run) -> None:
    got = document(run, "chain", "--weight", "1e200", "--activation", "linear")
    assert got["output"] == "Infinity"
    assert got["input_gain_log10"] == pytest.approx(2000)
    assert document(run, "chain", "--weight", "-1", "--activation", "relu")["input_gain_log10"] == (
        "-Infinity"
    )


def test_training_alone_shows_five_chains(run: Run) -> None:
    got = document(run, "chain", "--train")
    outcomes = {chain["name"]: chain["outcome"] for chain in got["chains"]}
    assert outcomes == {
        "sigmoid": "still",
        "sigmoid w=10 b=0": "still",
        "sigmoid w=10 z=0": "dead",
        "tanh": "learnt",
        "relu": "learnt",
    }
    saturated = got["chains"][1]
    assert -34 < math.log10(saturated["steps"][0]["dC_dw"][0]) < -32
    giant = got["chains"][2]
    assert giant["largest_steps"][0] > 5
    assert abs(giant["steps"][1]["dC_dw"][0]) < 1e-15
    for chain in got["chains"]:
        assert len(chain["losses"]) == len(chain["steps"]) == 501
        assert chain["steps"][-1]["movement"] == chain["movement"]
        assert [step["loss"] for step in chain["steps"]] == chain["losses"]
    text = run("chain", "--train").out
    assert "The front stands still" in text
    assert "One giant step: at step 0" in text
    assert "6.9e-34" in text
    assert "▃" in text


def test_training_one_chain_shows_every_weight(run: Run) -> None:
    words = ["chain", "--train", "--activation", "tanh", "--depth", "4", "--steps", "30"]
    got = document(run, *words, "--lr", "0.5", "--input", "0,1", "--target", "0.2,0.6")
    (chain,) = got["chains"]
    assert (chain["depth"], len(chain["steps"]), got["lr"]) == (4, 31, 0.5)
    assert got["samples"] == [[0, 0.2], [1, 0.6]]
    text = run(*words).out
    assert "movement by step" in text
    assert [line.split()[0] for line in text.splitlines() if re.match(r" +[1-4] +1 ", line)] == [
        "1", "2", "3", "4",
    ]  # fmt: skip
    assert re.search(r"^ +20 +0\.0", text, re.MULTILINE)  # the row of step 20


def test_a_training_that_blows_up_is_told(run: Run) -> None:
    words = ["chain", "--train", "--activation", "linear", "--weight", "5"]
    assert "It blows up" in run(*words).out
    (chain,) = document(run, *words)["chains"]
    assert chain["outcome"] == "diverged"
    assert not math.isfinite(number(chain["losses"][-1]))
    huge = ["--input", "1e308,1e308,-1", "--target", "1e308,1e308,-1e308"]
    for extra in (["--activation", "relu", "--weight", "1e200"], ["--bias", "1e308"]):
        assert run("chain", "--train", "--steps", "5", *huge, *extra).code == 0
        assert run("chain", "--train", "--steps", "5", "--lr", "1e300", *extra).code == 0


def test_claims_are_measured(run: Run) -> None:
    got = document(run, "chain", "--claims")
    assert got["slope"]["worst_on"] < 1e-6
    assert {row["scheme"] for row in got["spread"]} == {"default", "xavier", "he"}
    assert all(row["draws"] == 1000 for row in got["spread"])
    assert got["cost"]["from_z"] > 0
    assert "True of he" in got["notes"][1]


def test_claims_are_shown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unvanish.chain.run_claims", functools.partial(run_claims, draws=40))
    text = run("chain", "--claims").out
    assert "layers of 16 ReLU neurons, over 40 draws" in text
    assert len([line for line in text.splitlines() if line.startswith(" he ")]) == 5
    assert "1. The slope is 1 where z > 0: true." in text


CHINESE = re.compile(r"[\u4e00-\u9fff]")


@pytest.mark.parametrize(
    "words",
    [
        ["--weight", "10", "--bias", "0"],
        ["--weight", "10", "--pre-activation", "0"],
        ["--train", "--steps", "20"],
        ["--train", "--activation", "tanh", "--steps", "20"],
    ],
    ids=" ".join,
)
def test_chinese_says_the_same_numbers(run: Run, words: list[str]) -> None:
    english = run("chain", *words).out
    before, after = (
        run("--lang", "zh", "chain", *words).out,
        run("chain", *words, "--lang", "zh").out,
    )
    assert before == after
    assert CHINESE.search(before)
    assert not CHINESE.search(english)
    numeric = re.compile(r"\d[\d.e+-]*\d|\d")
    assert sorted(numeric.findall(before)) == sorted(numeric.findall(english))
    # and the JSON differs in its sentences only
    plain, chinese = document(run, "chain", *words), document(run, "--lang", "zh", "chain", *words)
    assert all(CHINESE.search(note) for note in chinese.pop("notes"))
    plain.pop("notes")
    assert plain == chinese


def test_help_follows_the_language_each_time(run: Run) -> None:
    english = run("chain", "--help")
    chinese = run("chain", "--lang", "zh", "--help")
    assert run("--lang", "zh", "chain", "--help") == chinese
    assert run("chain", "--help") == english
    assert (english.code, chinese.code) == (0, 0)
    assert "Options:" in english.out
    assert not CHINESE.search(english.out)
    words = re.findall(r"[A-Za-z]{3,}", "".join(re.findall(r".*[\u4e00-\u9fff].*", chinese.out)))
    assert "Options" not in words
    assert "show" not in words
    assert "选项" in chinese.out
    assert CHINESE.search(run("--lang", "zh", "--help").out)


def test_chinese_help_keeps_to_the_terminal_s_width(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unicodedata import east_asian_width

    monkeypatch.setenv("COLUMNS", "80")
    for line in run("chain", "--lang", "zh", "--help").out.splitlines():
        assert sum(2 if east_asian_width(c) in "WF" else 1 for c in line) <= 80


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("words", [["--help"], ["--weight", "10"], ["--train", "--steps", "5"]])
def test_an_ascii_terminal_gets_ascii(lang: str, words: list[str]) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "unvanish", "--lang", lang, "chain", *words],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=True,
    )
    text = result.stdout.decode("ascii")
    assert not result.stderr
    if lang == "en":
        assert "?" not in text
        assert "dC/dw" in text or words == ["--help"]


def test_a_full_stdout_is_one_line_and_exit_2() -> None:
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            [sys.executable, "-m", "unvanish", "chain"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "Free some space" in result.stderr


def test_json_goes_to_a_file_which_is_not_overwritten(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "chain.json"
    first = run("chain", "--json", str(target))
    assert first.code == 0
    assert "∂C/∂w_1" in first.out  # the report is still on stdout
    assert first.err == f"Wrote {target}\n"
    content = target.read_text("utf-8")
    assert json.loads(content)["depth"] == 10
    second = run("chain", "--depth", "3", "--json", str(target))
    assert second.code == 2
    assert second.out == ""
    assert "--force" in second.err
    assert target.read_text("utf-8") == content
    assert run("chain", "--depth", "3", "--json", str(target), "--force").code == 0
    assert json.loads(target.read_text("utf-8"))["depth"] == 3
    missing = run("chain", "--json", str(tmp_path / "no" / "x.json"))
    assert missing.code == 2
    assert "Create it first" in missing.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--activation", "swish"], r"unknown activation 'swish' \(known: sigmoid, .*Choose"),
        (["--depth", "0"], "no neuron.*--depth of 1"),
        (["--depth", "-3"], "no neuron"),
        (["--depth", "1000000000"], "too deep.*100000 or less"),
        (
            ["--depth", "3", "--weight", "1,2"],
            "2 numbers.*3 neurons.*Give one number for all, or 3",
        ),
        (["--weight", "1,2", "--bias", "1,2,3"], "--bias has 3 numbers.*2 neurons"),
        (["--weight", ""], "no neuron"),
        (["--weight", "ten"], "--weight 'ten' is not a number.*Write numbers"),
        (["--weight", "nan"], "not finite.*Give ordinary"),
        (["--bias", "0", "--pre-activation", "0"], "not both.*Leave out"),
        (["--weight", "1e30", "--pre-activation", "0.1"], "no bias puts z_1.*smaller weights"),
        (["--input", "1,2"], "--input takes one number.*--train"),
        (["--target", "inf"], "--target holds a number that is not finite"),
        (["--steps", "3"], "--steps has no use here.*--train"),
        (["--lr", "0.1"], "--lr has no use here"),
        (["--train", "--lr", "-1"], "learning rate.*Try"),
        (["--train", "--lr", "nan"], "learning rate.*Try"),
        (["--train", "--steps", "0"], "no step.*--steps of 1"),
        (["--train", "--steps", "1000000"], "10000000 weights.*too many.*fewer --steps"),
        (["--train", "--input", "1,2"], "--input has 2 numbers and --target 0.*as many"),
        (["--train", "--input", "", "--target", ""], "nothing to learn from"),
        (["--claims", "--train"], "--train has no use here.*alone"),
        (["--claims", "--depth", "3"], "--depth has no use here.*alone"),
        (["--claims", "--pre-activation", "0"], "--pre-activation has no use here"),
    ],
)
def test_bad_input_is_one_line_with_a_remedy(run: Run, words: list[str], message: str) -> None:
    result = run("chain", *words)
    assert result.code == 2
    assert result.out == ""
    assert len(result.err.splitlines()) == 1
    assert re.search(message, result.err)


def test_errors_are_chinese_too(run: Run) -> None:
    result = run("--lang", "zh", "chain", "--activation", "swish")
    assert result.code == 2
    assert "未知的激活函数 'swish'" in result.err
