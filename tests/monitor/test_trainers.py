"""Third-party trainers, watched: seen step by step, and not changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from trainers import ALL, STEPS

from unvanish.records import ModelRun, Run

pytestmark = [
    pytest.mark.trainer,
    pytest.mark.filterwarnings("ignore"),  # the trainers' own
]


def trained(trainer: Callable[..., nn.Module], directory: Path, accumulate: int) -> nn.Module:
    torch.manual_seed(3)
    return trainer(directory, accumulate=accumulate)


def only_model(run: Run) -> ModelRun:
    assert len(run.models) == 1
    return run.models[0]


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("trainer", ALL, ids=lambda trainer: trainer.__name__)
def test_trainer_is_followed_and_not_changed(
    trainer: Callable[..., nn.Module],
    accumulate: int,
    tmp_path: Path,
    watch_loop: Callable[..., Run],
) -> None:
    bare = trained(trainer, tmp_path, accumulate).state_dict()
    watched: list[nn.Module] = []
    run = watch_loop(lambda: watched.append(trained(trainer, tmp_path, accumulate)))
    for name, value in watched[0].state_dict().items():
        assert torch.equal(value, bare[name]), name
    model = only_model(run)
    assert [(step.step, step.sampled, step.backwards) for step in model.steps] == [
        (step, True, accumulate) for step in range(STEPS)
    ]
    assert [trace.step for trace in model.traces] == list(range(STEPS))
    assert all(facts.in_optimizer for facts in model.parameters)
    trace = model.traces[0]
    assert trace.main_path is not None
    assert any(layer.update_ratio_log10 is not None for layer in trace.layers)


def test_names_of_a_lightning_module_begin_at_the_module(
    tmp_path: Path, watch_loop: Callable[..., Run]
) -> None:
    run = watch_loop(lambda: trained(ALL[0], tmp_path, 1))
    model = only_model(run)
    assert model.type == "Classifier"
    assert {layer.module for layer in model.traces[0].layers} >= {"net.0", "net.1", "net.2"}
