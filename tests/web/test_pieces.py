"""Addresses, settings, the bounds of the playground, kept results of fix: without a browser."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("dash")

from tests.report import builders, fix_builders
from unvanish import store
from unvanish.chain import solve
from unvanish.errors import DependencyError, NotOurFileError, UnknownNameError, UsageError
from unvanish.web import address, playground
from unvanish.web.runs import Runs
from unvanish.web.views import setting
from unvanish.web.views.setting import Setting
from unvanish.web.views.stories import STORIES


def test_the_page_is_made_without_torch() -> None:
    code = "import sys, unvanish.web.server; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "made",
    [
        Setting(),
        Setting(depth=7, activation="relu", mode="z", weight=-1.25, bias=0.5, input=-2.0),
        Setting(own={3: (10.0, 0.5), 7: (-1.0, 0.0)}, step=250, neuron=3, target=0.25),
        *(story.setting for story in STORIES),
    ],
)
def test_an_address_says_the_whole_setting(made: Setting) -> None:
    query = address.write(made.differences(Setting()))
    assert setting.read(address.parse(query), Setting()) == made


@pytest.mark.parametrize(
    "query",
    [
        *("?depth=0", "?depth=41", "?depth=2.5", "?depth=ten", "?depth=nan", "?w=1e9", "?w=inf"),
        *("?activation=__import__", "?biases=q", "?own=1:2", "?own=x:1:1", "?own=3:99:0"),
        *("?step=501", "?x=-6", "?" + "a" * 5000),
    ],
)
def test_an_address_out_of_bounds_is_refused(query: str) -> None:
    with pytest.raises(UsageError):
        setting.read(address.parse(query), Setting())


def test_each_story_holds_what_it_tells() -> None:
    first, second, third, fourth, fifth, sixth = (story.setting for story in STORIES)
    assert abs(first.solution().input_gain) < 1
    saturated = [neuron.k for neuron in second.solution().neurons if neuron.saturated]
    others = [neuron.factor for neuron in second.solution().neurons if neuron.k != 5]
    assert saturated == [5]
    assert others == pytest.approx([1.0] * 9)
    assert max(third.solution().factors) <= 0.25
    assert fourth.trained(500).outcome == "still"
    assert fifth.solution().input_gain == 2.5**10
    assert fifth.trained(500).outcome == "dead"
    assert sixth.solution().factors == (1.0,) * 10
    assert sixth.trained(500).outcome == "learnt"
    for story in STORIES:
        assert all(story.tell(story.setting.solution()))


def test_the_command_of_a_setting_solves_the_same_chain() -> None:
    made = Setting(depth=3, weight=2.0, bias=-0.5, own={2: (-3.0, 1.0)}, input=0.5)
    chain = made.chain()
    assert chain.weights == (2.0, -3.0, 2.0)
    assert chain.biases == (-0.5, 1.0, -0.5)
    assert "--weight=2,-3,2 --bias=-0.5,1,-0.5 --input=0.5" in made.command()
    assert made.solution() == solve(chain, 0.5, 0.0)


def test_a_playground_beyond_its_bounds_is_refused() -> None:
    assert playground.checked({})["depth"] == "10"
    for asked in (
        {"depth": 31},
        {"depth": 0},
        {"depth": "9; rm"},
        {"width": 1e6},
        {"width": -8},
        {"activation": "os.system"},
        {"lr": "1e9"},
        {"start": None},
    ):
        with pytest.raises(UsageError, match=r"refused|unknown"):
            playground.checked(asked)


def test_no_more_trainings_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    spawn = subprocess.Popen
    monkeypatch.setattr(
        playground.subprocess, "Popen", lambda words, **options: spawn(sleeper, **options)
    )
    grounds = playground.Playground()
    try:
        started = [grounds.start({}) for _ in range(playground.MOST)]
        with pytest.raises(UsageError, match="trainings are running"):
            grounds.start({})
        grounds.stop(started[0].identity)
        assert not started[0].running
        assert grounds.start({}).running
        with pytest.raises(UnknownNameError):
            grounds.get("20260101-000000-00000000")
    finally:
        grounds.close()
    assert not any(training.running for training in started)
    assert not started[0].directory.exists()


def test_a_missing_package_of_the_playground_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playground.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DependencyError, match="pip install"):
        playground.Playground().start({})


def test_only_runs_of_the_directory_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    run = builders.every_diagnosis()["vanishing"].run
    store.save(replace(run, id="20260101-000000-00000001"), inside)
    store.save(replace(run, id="20260101-000000-00000002"), outside)
    monkeypatch.chdir(outside)
    runs = Runs(inside)
    assert runs.diagnosis("20260101-000000-00000001").verdict == "vanishing"
    for name in ("20260101-000000-00000002", "runs.db", str(outside / "runs.db"), "last", "2026"):
        with pytest.raises(UnknownNameError):
            runs.diagnosis(name)


def test_results_of_fix_are_kept(tmp_path: Path) -> None:
    fix = fix_builders.every_fix()["proven"]
    path = store.save_fix(fix, tmp_path / ".unvanish")
    assert store.load_fix(path) == fix
    ((identity, kept),) = store.fixes(tmp_path / ".unvanish")
    assert (identity, kept) == (path.stem, fix)
    assert Runs(tmp_path / ".unvanish").fix(identity) == fix
    with pytest.raises(UnknownNameError):
        Runs(tmp_path / ".unvanish").fix("../" + identity)
    for damage in (b"", b"unvanish fix\n2\n" + path.read_bytes(), path.read_bytes()[:-9]):
        path.write_bytes(damage)
        assert store.fixes(tmp_path / ".unvanish") == []
        with pytest.raises(NotOurFileError):
            store.load_fix(path)
