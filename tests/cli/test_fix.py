"""`unvanish fix`: its words, its files, its exit status; a script and a function."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner, Result

from tests.report import fix_builders
from unvanish.cli.fix import _apply, command
from unvanish.report.fix_document import schema

FUNCTION = """
import torch
from torch import nn

def make():
    print("made")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    batches = [(x, (x[:, 0] > 0).long()) for x in torch.randn(10, 32, 8)]
    loss = lambda model, batch: nn.functional.cross_entropy(model(batch[0]), batch[1])
    return model, batches, loss, torch.optim.SGD(model.parameters(), lr=0.1)

def wrong():
    return 1, 2
"""
HEAD = "import pathlib, sys, torch\nfrom torch import nn\n"
SCRIPT = (
    HEAD
    + """
torch.manual_seed(0)
layers = [part for _ in range(10) for part in (nn.Linear(16, 16), nn.ReLU())]
model = nn.Sequential(*layers, nn.Linear(16, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
labels = torch.arange(64) % 4
centres = 2 * torch.randn(4, 16)
pathlib.Path("written.txt").write_text("by the script")
print("on stdout")
for step in range(int(sys.argv[1])):
    inputs = centres[labels] + torch.randn(64, 16)
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(inputs), labels).backward()
    optimizer.step()
"""
)


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(FUNCTION)
    (tmp_path / "train.py").write_text(SCRIPT)
    return tmp_path


def typed(*words: str) -> Result:
    return CliRunner().invoke(command, list(words))


def failure(*words: str) -> str:
    result = typed(*words)
    assert result.exit_code != 0
    return str(result.exception)


# --- words ---------------------------------------------------------------------------------------


def test_a_healthy_function_is_left_alone_and_its_json_is_all_of_stdout() -> None:
    result = typed("--steps", "40", "--json", "net.py:make")
    assert result.exit_code == 0
    plain = json.loads(result.stdout)
    jsonschema.Draft202012Validator(schema()).validate(plain)
    assert plain["verdict_before"] == "healthy"
    assert plain["cures"] == []
    assert plain["best"] is None
    assert "Healthy: nothing was changed." in result.stderr
    assert "made" in result.stderr  # what the user's code prints is not part of the output


def test_options_may_follow_a_function(directory: Path) -> None:
    result = typed("net.py:make", "--steps", "5", "--json", "out.json", "-o", "page.html")
    assert result.exit_code == 0
    assert json.loads((directory / "out.json").read_text())["steps"] == 5
    assert (directory / "page.html").read_text().startswith("<!DOCTYPE html>")
    assert result.stdout == ""
    assert "Wrote out.json" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "there is no script to fix"),
        (("nothing.py",), "there is no file nothing.py"),
        (("net.py:nothing",), "unknown function of net.py 'nothing'"),
        (("net.py:wrong",), "returned 2 values, not (model, batches, loss_fn, optimizer)"),
        (("--json", "a", "-o", "a", "net.py:make"), "two results"),
    ],
)
def test_wrong_words_are_told(words: tuple[str, ...], message: str) -> None:
    assert message in failure(*words)


def test_a_file_is_not_overwritten(directory: Path) -> None:
    (directory / "out.json").write_text("mine")
    assert "exists already" in failure("net.py:make", "--json", "out.json")


# --- an unchanged script -------------------------------------------------------------------------


def fixed(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "unvanish", "fix", *words],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.slow
def test_a_script_is_cured_and_nothing_of_it_changes(directory: Path) -> None:
    done = fixed("--steps", "40", "--json", "out.json", "train.py", "60")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    plain = json.loads((directory / "out.json").read_text())
    assert plain["verdict_before"] == "vanishing"
    assert plain["best"] is not None
    assert plain["steps"] == 40
    best = plain["cures"][0]
    assert best["proof"]["seeds"] == [1, 2, 3]
    assert len({tuple(losses) for losses in plain["baseline"].values()}) == len(plain["baseline"])
    assert "each trial runs the script in a scratch copy" in done.stderr
    assert {path.name for path in directory.iterdir()} == {"net.py", "train.py", "out.json"}
    assert (directory / "train.py").read_text() == SCRIPT


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("input('how many? ')", "EOFError"),
        ("print('no training here')", "the script trained nothing that could be measured"),
        ("raise RuntimeError('theirs')", "the untreated script failed: RuntimeError: theirs"),
    ],
)
def test_a_script_that_cannot_be_tried_is_told_in_words(
    directory: Path, code: str, message: str
) -> None:
    (directory / "bad.py").write_text(HEAD + code)
    done = fixed("bad.py")
    assert done.returncode == 3
    assert message in done.stderr.splitlines()[-1]


ENDLESS = (
    SCRIPT.replace("range(int(sys.argv[1]))", "__import__('itertools').count()")
    + """
    pathlib.Path(sys.argv[1]).write_text(str(__import__('os').getpid()))
"""
)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_search_leaves_no_process_and_no_file(
    directory: Path, number: signal.Signals
) -> None:
    """Not even where nothing was known yet; the child trains without end."""
    (directory / "endless.py").write_text(ENDLESS)
    (directory / "rooms").mkdir()
    here = {path.name for path in directory.iterdir()}
    pid = directory.parent / f"{directory.name}-pid"
    running = subprocess.Popen(
        [sys.executable, "-m", "unvanish", "fix", "endless.py", str(pid)],
        env={**os.environ, "TMPDIR": str(directory / "rooms")},
        stderr=subprocess.PIPE,
        text=True,
        # A suite that is started in the background ignores it, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while not (child := pid.read_text() if pid.exists() else ""):  # it writes it again and again
        assert running.poll() is None
        time.sleep(0.1)
    running.send_signal(number)
    _out, told = running.communicate()
    assert running.returncode == 130, told
    assert told.splitlines()[-1] == "interrupted before anything was known"
    assert {path.name for path in directory.iterdir()} == here
    assert list((directory / "rooms").glob("unvanish*")) == []  # torch keeps a cache there
    with pytest.raises(ProcessLookupError):
        os.kill(int(child), 0)


def test_apply_without_a_proven_cure_writes_nothing(directory: Path) -> None:
    result = typed("net.py:make", "--steps", "5", "--apply")
    assert result.exit_code == 0
    assert "no cure is proven: nothing was written" in result.stderr
    assert (directory / "net.py").read_text() == FUNCTION


def test_apply_writes_the_first_proven_cure_that_has_a_place(directory: Path) -> None:
    found = fix_builders.proven()
    (directory / "train.py").write_text("optimizer = SGD(model.parameters())\n")
    _apply(found, ("train.py",), None)
    written = (directory / "train.py").read_text()
    assert written.startswith("optimizer = SGD(model.parameters())\n# --- by unvanish fix: swap")
    assert textwrap.indent(fix_builders.CODE, "    ") in written
