from __future__ import annotations

from pathlib import Path

import loops
import pytest
import torch
from torch import nn

import unvanish
from unvanish import store


def vanishing() -> None:
    layers = [layer for _ in range(10) for layer in (nn.Linear(12, 12), nn.Sigmoid())]
    model = nn.Sequential(*layers, nn.Linear(12, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(4):
        inputs, targets = loops.batch()
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_watch_prints_saves_and_shows_the_verdict(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with unvanish.watch() as watched:
        vanishing()
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Vanishing gradient" in printed.err
    assert watched.diagnosis is not None
    assert watched.diagnosis.verdict == "vanishing"
    assert watched.saved is not None
    assert store.load(str(watched.saved), directory).kind == "watch"
    assert "Vanishing gradient" in str(watched)
    assert repr(watched).startswith("<unvanish.watch: Diagnosis vanishing: VG101")
    assert "Vanishing gradient" in watched._repr_html_()
    assert str(watched.saved) in watched._repr_html_()


def test_watch_can_be_quiet_save_nothing_and_run_again(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watched = unvanish.watch(save=False, quiet=True, every=0, probe=False)
    for _ in range(2):
        with watched:
            vanishing()
        assert watched.diagnosis is not None
        assert len(watched.diagnosis.run.models[0].steps) == 4
    assert capsys.readouterr() == ("", "")
    assert not list(directory.iterdir())


def test_an_exception_of_the_cell_passes_after_the_verdict(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def cell() -> None:
        vanishing()
        raise KeyError("mine")

    with pytest.raises(KeyError), unvanish.watch() as watched:
        cell()
    assert watched.diagnosis is not None
    assert watched.diagnosis.run.ending == "crashed"
    assert watched.diagnosis.run.error == "KeyError: 'mine'"
    assert "Vanishing gradient" in capsys.readouterr().err


def test_a_cell_without_backward_says_so_and_an_exception_goes_before() -> None:
    with pytest.raises(unvanish.UnvanishError, match="never called backward"), unvanish.watch():
        torch.zeros(1)
    with pytest.raises(KeyError), unvanish.watch() as watched:
        raise KeyError
    assert repr(watched) == "<unvanish.watch: no verdict yet>"
