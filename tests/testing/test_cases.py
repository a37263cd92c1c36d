"""Every case: its labels are whole, it builds, it trains; and training shows what it says."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import torch

from unvanish.records import FACTORS, VERDICTS
from unvanish.testing import Answer, case, cases, judge, watched
from unvanish.testing.data import diabetes, excerpts, prose, source, tumours, wines

NAMES = [one.name for one in cases()]
OWN = [one.name for one in cases("own")]
# What the catalogue has to hold at least twice, sick and healthy.
TWICE = {
    "adapters under the Trainer": ("lora_*", "ok_lora", "ok_bottleneck_adapters"),
    "diffusion U-Net": ("diffusion_unet_*", "ok_diffusion_unet*"),
    "PPO": ("ppo_*", "ok_ppo_*"),
    "gradient penalty": ("wgan_gp_*", "ok_wgan_gp*"),
    "physics-informed net": ("pinn_*", "ok_pinn_*"),
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_there_are_cases_enough_of_our_own() -> None:
    sick = [one for one in cases("own") if not one.healthy]
    healthy = [one for one in cases("own") if one.healthy]
    assert len(sick) >= 40
    assert len(healthy) >= 40


@pytest.mark.parametrize("kind", TWICE)
def test_there_are_two_sick_and_two_healthy_of_each_kind_asked_for(kind: str) -> None:
    found = [o for o in cases("own") if any(fnmatchcase(o.name, each) for each in TWICE[kind])]
    assert sum(not one.healthy for one in found) >= 2
    assert sum(one.healthy for one in found) >= 2


@pytest.mark.parametrize("name", NAMES)
def test_labels_are_whole(name: str) -> None:
    one = case(name)
    assert one.about
    assert one.accepted
    assert set(one.accepted) <= set(VERDICTS)
    assert set(one.factors) <= set(FACTORS)
    assert one.good is not None or one.bad is not None, "nothing says whether it trained"
    assert (one.kind == "healthy") <= one.healthy
    if not one.healthy:
        assert one.cure
    if one.bad is not None and one.good is not None:
        # `depends` says what a result between sick and cured means.
        assert one.bad < one.good or one.depends is not None


@pytest.mark.parametrize("name", NAMES)
def test_it_builds_alike_for_a_seed_and_its_layers_exist(name: str) -> None:
    one = case(name)
    first, second = one.build(1), one.build(1)
    for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)
    paths = [path for path, _module in first.model.named_modules()]
    for pattern in one.layers:
        # hid*: layers in a Python list, which no module knows.
        found = any(fnmatchcase(path, pattern) for path in paths) or hasattr(first.model, "hid")
        # A model of two optimisers is watched as two, with paths of their own.
        inside = any(fnmatchcase(path.partition(".")[2], pattern) for path in paths)
        assert found or inside, pattern


@pytest.mark.parametrize(
    ("name", "cured"),
    [(o.name, cured) for o in cases() for cured in ((False, True) if o.cure else (False,))],
)
def test_it_takes_steps(name: str, cured: bool) -> None:
    experiment = case(name).build(0, cured=cured)
    torch.manual_seed(0)
    experiment.steps = 2
    experiment.train()
    assert len(experiment.losses) == 2
    if cured:
        assert all(map(math.isfinite, experiment.losses))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", OWN)
def test_it_shows_its_symptom_and_its_cure_cures(name: str, seed: int) -> None:
    one = case(name)
    for cured in (False, True) if one.cure else (False,):
        experiment = one.build(seed, cured=cured)
        torch.manual_seed(seed)
        result = experiment.train().result()
        assert one.shows(result, cured=cured), (cured, result)


def test_a_case_may_leave_the_severity_to_training() -> None:
    one = case("middle_sigmoid_3_sgd")
    experiment = one.build(0)
    experiment.losses.append(2.3)
    experiment.score = lambda: 0.1
    assert one.answer(experiment).accepted == ("vanishing",)
    assert one.answer(experiment).severities == ("error",)
    experiment.score = lambda: 0.95
    assert one.answer(experiment).accepted == ("healthy",)
    assert one.answer(experiment).severities == ("info",)
    experiment.score = lambda: 0.7
    assert set(one.answer(experiment).accepted) == {"vanishing", "healthy"}
    experiment.losses.append(math.nan)
    assert one.answer(experiment).severities == ("error",)


def test_a_severity_that_training_does_not_bear_out_is_judged_wrong() -> None:
    one = case("learning_rate_1e_6")
    experiment = one.build(0)
    experiment.steps = 30
    torch.manual_seed(0)
    run = watched(experiment)
    said = judge(one, Answer(("update-size", "healthy")), run)
    severity = said.severity or "info"
    others = tuple({"info", "warning", "error"} - {severity})
    assert judge(one, Answer(said.accepted, (severity,)), run).grave is True
    assert judge(one, Answer(said.accepted, others), run).grave is False
    assert said.grave is None


@pytest.mark.trainer
def test_a_trainer_does_the_steps_of_its_case() -> None:
    experiment = case("ok_lora").build(0)
    experiment.steps = 1
    assert len(experiment.train().losses) == 1


def test_tables_and_texts() -> None:
    assert [len(table()[0]) for table in (tumours, wines, diabetes)] == [569, 178, 442]
    assert torch.allclose(diabetes()[0].std(0), torch.ones(10), atol=1e-4)
    for text in (prose(), source()):
        assert int(text.min()) >= 0
        assert int(text.max()) <= 95
    assert excerpts(prose(), 20, 3).shape == (3, 20)


def test_the_script_writes_its_answer(tmp_path: Path) -> None:
    answer = tmp_path / "answer.json"
    words = ["dead_second_layer", "--steps", "2", "--answer", str(answer)]
    command = [sys.executable, "-m", "unvanish.testing", *words]
    subprocess.run(command, check=True, capture_output=True)
    assert '"accepted": ["dead-units"]' in answer.read_text()


def test_the_page_lists_the_catalogue() -> None:
    path = Path(__file__).parents[2] / "docs" / "write_cases_page.py"
    spec = importlib.util.spec_from_file_location("write_cases_page", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert path.with_name("cases.md").read_text() == module.page(), "run `make pages`"
