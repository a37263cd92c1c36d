"""`--sarif` and `--github` of the commands that measure."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from tests.report.sarif_schema import SARIF
from unvanish.cli import main

NET = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    layers = [layer for _ in range(12) for layer in (nn.Linear(16, 16), nn.Sigmoid())]
    batch = torch.randn(8, 16), torch.arange(8) % 16
    model = nn.Sequential(*layers, nn.Linear(16, 16))
    return model, batch, lambda model, b: nn.functional.cross_entropy(model(b[0]), b[1])
"""


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


def test_check_writes_both(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_WORKSPACE", raising=False)
    Path("ci_net.py").write_text(NET)
    arguments = ("check", "ci_net.py:make", "--no-save", "--github", "--sarif")
    assert call(*arguments, "-") == 1
    printed = capsys.readouterr()
    log = json.loads(printed.out)
    jsonschema.Draft202012Validator(SARIF).validate(log)
    place = log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "ci_net.py"
    (annotation,) = (line for line in printed.err.splitlines() if "title=VG101" in line)
    assert annotation.startswith(f"::error file=ci_net.py,line={place['region']['startLine']},")
    assert call(*arguments, "x.sarif") == 1
    assert json.loads(Path("x.sarif").read_text())["runs"][0]["results"]
    assert "Vanishing gradient" in capsys.readouterr().out, "a file leaves the report in place"


def test_run_leaves_stdout_to_the_script(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    script = NET + (
        "model, batch, loss_fn = make()\nloss_fn(model, batch).backward()\nprint('mine')\n"
    )
    Path("train.py").write_text(script)
    assert call("run", "--sarif", "-", "train.py") == 2
    assert "--sarif - is refused" in capsys.readouterr().err
    Path("x.sarif").write_text("mine")
    assert call("run", "--sarif", "x.sarif", "train.py") == 2
    assert "x.sarif exists already" in capsys.readouterr().err
    assert call("run", "--no-save", "--github", "--force", "--sarif", "x.sarif", "train.py") == 0
    printed = capsys.readouterr()
    assert printed.out == "mine\n"
    assert "::error file=train.py,line=" in printed.err
    assert json.loads(Path("x.sarif").read_text())["runs"][0]["results"]
