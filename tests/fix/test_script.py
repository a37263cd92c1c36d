"""Trials of an unchanged script in child processes: its seeds, its cures, its directory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from unvanish.errors import UserCodeError
from unvanish.fix import script, surgery
from unvanish.fix.script import ScriptTrainer, Target
from unvanish.fix.trial import UNTREATED, Outcome, Treatment
from unvanish.i18n import speaking

SCRIPT = """
import pathlib, torch
from torch import nn

torch.manual_seed(0)
layers = [part for _ in range(10) for part in (nn.Linear(16, 16), nn.ReLU())]
model = nn.Sequential(*layers, nn.Linear(16, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
labels = torch.arange(64) % 4
centres = 2 * torch.randn(4, 16)
pathlib.Path("written.txt").write_text("by the script")
for step in range(25):
    inputs = centres[labels] + torch.randn(64, 16)
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(inputs), labels).backward()
    optimizer.step()
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("script")
    (folder / "train.py").write_text(SCRIPT)
    return folder


@pytest.fixture(scope="module")
def trainer(directory: Path) -> ScriptTrainer:
    return ScriptTrainer(Target("train.py", False, ()), directory, steps=20)


@pytest.fixture(scope="module")
def untreated(trainer: ScriptTrainer) -> Outcome:
    return trainer.train(UNTREATED, 0, 20)


def test_the_untreated_script_is_diagnosed(trainer: ScriptTrainer, untreated: Outcome) -> None:
    assert untreated.diagnosis is not None
    assert untreated.diagnosis.verdict == "vanishing"
    assert len(untreated.losses) == trainer.steps == 20
    assert untreated.cost == 1.0


def test_cures_are_proposed_at_the_first_step(trainer: ScriptTrainer, untreated: Outcome) -> None:
    """Each is measured by a backward pass, which is none of the script's own."""
    found = trainer.propose(untreated)
    assert "critical-init" in [one.name for one in found]
    assert any(one.predicted is not None and one.predicted.after for one in found)
    assert trainer.notes == []


def test_a_cured_script_trains_another_network_on_the_same_seed(
    trainer: ScriptTrainer, untreated: Outcome
) -> None:
    cured = trainer.train(Treatment(("critical-init",)), 1, 10)
    assert cured.usable
    assert cured.edits
    assert "model.get_parameter" in cured.code
    # The first loss of another seed, and the first step of the untreated network, are not shown.
    assert cured.losses[0] != untreated.losses[0]


def test_a_cure_that_does_not_fit_is_refused(trainer: ScriptTrainer, untreated: Outcome) -> None:
    assert trainer.train(Treatment(("visible-key",)), 0, 10).refused


def test_what_the_script_writes_stays_in_its_copy(
    directory: Path, trainer: ScriptTrainer, untreated: Outcome
) -> None:
    assert [path.name for path in directory.iterdir()] == ["train.py"]


def test_the_plan_says_what_cannot_be_guarded(trainer: ScriptTrainer) -> None:
    assert any("absolute paths" in line for line in trainer.plan())


# --- bad scripts ---------------------------------------------------------------------------------


def tried(
    folder: Path, script: str, *arguments: str, steps: int = 10, name: str = "train.py"
) -> ScriptTrainer:
    (folder / name).write_text(script)
    return ScriptTrainer(Target(name, False, arguments), folder, steps=steps)


def test_a_script_that_a_cure_crashes_leaves_the_others(tmp_path: Path) -> None:
    """It counts on its activations: what swaps them fails, what redraws weights does not."""
    check = "    assert sum(isinstance(m, nn.ReLU) for m in model.modules()) == 10\n"
    made = tried(tmp_path, SCRIPT.replace("    inputs =", check + "    inputs ="))
    assert made.train(UNTREATED, 0, 10).usable
    swapped = made.train(Treatment(("gelu-swap",)), 0, 10)
    assert swapped.error is not None
    assert swapped.error.startswith("AssertionError")
    assert made.train(Treatment(("critical-init",)), 0, 10).usable
    made.close()


def test_a_script_that_never_steps_gets_no_cure_and_is_told_why(tmp_path: Path) -> None:
    by_hand = SCRIPT.replace(
        "    optimizer.step()",
        "    [p.data.sub_(0.05 * p.grad) for p in model.parameters()]",
    )
    made = tried(tmp_path, by_hand)
    first = made.train(UNTREATED, 0, 10)
    assert made.propose(first) == []
    (note,) = made.notes
    assert "no optimiser took a step" in note
    made.close()


def test_what_the_script_leaves_running_is_ended_and_waited_for_by_nobody(tmp_path: Path) -> None:
    """It would hold our end of its stderr open for an hour."""
    start = "import subprocess\nleft = subprocess.Popen(['sleep', '3600'])\n"
    tell = "import os\npathlib.Path(sys.argv[1]).write_text(str(left.pid))\n"
    pid = tmp_path / "pid"
    made = tried(tmp_path, start + "import sys\n" + SCRIPT + tell, str(pid), steps=50)
    made.train(UNTREATED, 0, 50)
    made.close()
    status = Path("/proc", pid.read_text(), "status")
    assert not status.exists() or "State:\tZ" in status.read_text()


def test_a_script_beside_the_directory_is_found(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "train.py").write_text("")
    outside = Target("../train.py", False, ()).seen_from(tmp_path / "here")
    assert outside.script == str(tmp_path / "train.py")
    within = Target(str(tmp_path / "train.py"), False, ()).seen_from(tmp_path)
    assert within.script == "train.py"  # not the user's own: the one in the copy
    plan = ScriptTrainer(outside, tmp_path / "here", steps=1).plan()
    assert any("lies outside this directory" in line for line in plan)


def test_a_file_that_the_copy_lacks_is_told_of(tmp_path: Path) -> None:
    made = tried(tmp_path, "open('../data.txt')")
    with pytest.raises(UserCodeError, match="start in the directory that holds all that it reads"):
        made.train(UNTREATED, 0, 10)
    made.close()


# --- what scripts are made of --------------------------------------------------------------------

FULL = """
import argparse, pathlib, random
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Rows(Dataset):
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return self.rows

    def __getitem__(self, index):
        draw = np.random.default_rng(index)
        label = index % 4
        return torch.tensor(draw.normal(size=16) + 2 * label, dtype=torch.float32), label


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int)
    parser.add_argument("--out")
    args = parser.parse_args()
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    loader = DataLoader(
        Rows(args.rows), batch_size=16, shuffle=True, num_workers=2,
        generator=torch.Generator().manual_seed(5),
    )
    model = nn.Sequential(*[p for _ in range(6) for p in (nn.Linear(16, 16), nn.ReLU())])
    model.append(nn.Linear(16, 4))
    optimizer = torch.optim.SGD(
        [{"params": model[:6].parameters(), "lr": 0.01}, {"params": model[6:].parameters()}],
        lr=0.05,
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, [lambda n: 0.9**n, lambda n: 0.5**n])
    scaler = torch.amp.GradScaler("cpu")
    for inputs, labels in loader:
        loss = nn.functional.cross_entropy(model(inputs), labels)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
        groups = [(g["lr"], sum(p.numel() for p in g["params"])) for g in optimizer.param_groups]
        with open(args.out, "a") as file:
            print(loss.item(), *groups, file=file)


if __name__ == "__main__":
    main()
"""


def test_a_script_with_workers_a_scheduler_and_a_scaler_is_treated_in_every_part(
    tmp_path: Path,
) -> None:
    """New parameters stand in the group of the layer that they belong to, under its schedule."""
    told = tmp_path.parent / f"{tmp_path.name}-told.txt"
    made = tried(tmp_path, FULL, "--rows", "96", "--out", str(told), steps=6)

    def lines() -> list[str]:
        found = told.read_text().splitlines()
        told.unlink()
        return found

    first = made.train(UNTREATED, 0, 6)
    untreated = lines()
    # The loss as it is, not as the scaler multiplies it. The last step ends the script.
    seen = [float(line.split()[0]) for line in untreated]
    assert first.losses[: len(seen)] == pytest.approx(seen, rel=1e-5)  # printed from float32
    assert made.train(UNTREATED, 1, 6).losses != first.losses
    told.unlink()
    cured = made.train(Treatment(("layer-norm",)), 0, 6)
    assert cured.usable, cured
    rates = [line.split(maxsplit=1)[1] for line in lines()]
    was = [line.split(maxsplit=1)[1] for line in untreated]
    sizes = [[int(n) for n in re.findall(r", (\d+)\)", line)] for line in (was[-1], rates[-1])]
    assert all(after > before for before, after in zip(*sizes, strict=True))
    assert [re.findall(r"\((\S+),", line) for line in rates] == [
        re.findall(r"\((\S+),", line) for line in was
    ]
    made.close()


def test_a_cure_that_scales_the_loss_leaves_the_yardstick_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.autograd, "backward", torch.autograd.backward)
    surgery._scale_losses(8.0)
    weight = torch.ones(2, requires_grad=True)
    loss: Any = 3 * weight.sum()
    loss.backward(retain_graph=True)
    assert loss.item() == 6.0
    assert weight.grad is not None
    assert weight.grad.tolist() == [24.0, 24.0]
    loss.backward()  # once more, not eight times as much again
    assert weight.grad.tolist() == [48.0, 48.0]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_child_names_what_it_did_in_the_language_in_use(
    language: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = tmp_path / "reply.txt"
    (tmp_path / "sitecustomize.py").write_text(
        "import pathlib\nfrom unvanish.i18n import current\n"
        f"pathlib.Path({str(reply)!r}).write_text(current())\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with speaking(language):
        script._run_child(tmp_path / "no order", tmp_path)
    assert reply.read_text() == language
