"""Cases with known answers: each shows what it is said to show, and is judged right."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from unvanish.testing import case, cases, judge, watched

# One of each kind, quick to train.
QUICK = (
    "relu_mlp_30_default_init",
    "relu_mlp_20_unit_normal",
    "rnn_tanh_first_token_T100",
    "sqrt_distance_identical_pair",
    "argmax_between_modules",
    "layers_in_python_list",
    "softmax_before_ce",
    "ok_relu_he_12_layers",
    "ok_frozen_backbone",
)


def test_there_are_all_public_cases_and_no_two_of_a_name() -> None:
    public = cases("public")
    assert len({one.name for one in public}) == len(public) == 37


@pytest.mark.parametrize("name", QUICK)
def test_a_case_is_judged_right(name: str) -> None:
    torch.manual_seed(0)
    experiment = case(name).build(0)
    run = watched(experiment)
    result = judge(case(name), case(name).answer(experiment), run)
    assert result.right, result
    assert result.factor in (True, None), result
    assert not result.alarm


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", [o.name for o in cases("own") if o.name.startswith("middle_")])
def test_verdict_and_severity_of_the_middle_ground_follow_training(name: str, seed: int) -> None:
    one = case(name)
    experiment = one.build(seed)
    torch.manual_seed(seed)
    run = watched(experiment, probe=False)
    result = judge(one, one.answer(experiment), run)
    assert result.right, result
    assert result.grave, result


@pytest.mark.slow
@pytest.mark.parametrize("name", [one.name for one in cases("public")])
def test_a_case_shows_its_symptom_and_its_cure_cures(name: str) -> None:
    one = case(name)
    for cured in (False, True) if one.cure else (False,):
        torch.manual_seed(0)
        result = one.build(0, cured=cured).train().result()
        assert one.shows(result, cured=cured), (name, cured, result)


def test_building_a_case_leaves_the_random_state() -> None:
    before = torch.get_rng_state()
    case("ok_relu_he_12_layers").build(3)
    assert torch.equal(torch.get_rng_state(), before)


def test_each_is_a_training_script() -> None:
    command = [sys.executable, "-m", "unvanish.testing", "ok_relu_he_12_layers", "--steps", "2"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("step 0: loss")
