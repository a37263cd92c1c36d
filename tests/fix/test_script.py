"""Trials of an unchanged script in child processes: its seeds, its cures, its directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from unvanish.fix import script
from unvanish.fix.scratch import LINKED_ABOVE, scratch, survey
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


def test_a_scratch_copy_links_what_is_large_and_leaves_out_what_is_not_needed(
    tmp_path: Path,
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "small.txt").write_text("small")
    (tmp_path / ".git").mkdir()
    with (tmp_path / "large.bin").open("wb") as file:
        file.truncate(LINKED_ABOVE + 1)
    taken = survey(tmp_path)
    assert (taken.files, taken.copied, taken.linked) == (2, 5, ("large.bin",))
    with scratch(tmp_path) as copy:
        assert sorted(path.name for path in copy.iterdir()) == ["data", "large.bin"]
        assert (copy / "large.bin").is_symlink()
        (copy / "data" / "small.txt").write_text("changed")
    assert not copy.exists()
    assert (tmp_path / "data" / "small.txt").read_text() == "small"


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
