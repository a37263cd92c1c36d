from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import nn
from torch.nn.modules import module as registry
from torch.optim import SGD, Optimizer

from unvanish.monitor.optimizers import existing_optimizers
from unvanish.monitor.pace import Pace
from unvanish.monitor.scout import Scout

Found = list[tuple[nn.Module, list[Optimizer]]]


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Iterator[Found]:
    models: Found = []
    said: list[str] = []

    def tell(model: nn.Module, optimizers: Sequence[Optimizer]) -> None:
        models.append((model, [*optimizers]))

    older = {id(one) for one in existing_optimizers()}  # of other tests, not collected yet
    monkeypatch.setattr(
        "unvanish.monitor.scout.existing_optimizers",
        lambda: [one for one in existing_optimizers() if id(one) not in older],
    )
    scout = Scout(tell, said.append)
    before = (torch.autograd.backward, dict(registry._global_forward_pre_hooks))
    scout.install()
    yield models
    scout.remove()
    assert (torch.autograd.backward, dict(registry._global_forward_pre_hooks)) == before
    assert said == []


def step(model: nn.Module, optimizer: Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.randn(2, 3)).sum().backward()
    optimizer.step()


class Holder(nn.Module):
    """As a LightningModule: its parts are called, and it is not."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 3), nn.Tanh())


def test_a_model_is_told_once_with_its_optimisers(found: Found) -> None:
    holder = Holder()
    optimizers = [SGD(holder.net[0].parameters(), lr=0.1)]
    for _ in range(3):
        step(holder.net, optimizers[0])
    assert found == [(holder, optimizers)]
    assert not registry._global_forward_pre_hooks  # every optimiser has its model


def test_models_that_nobody_trains_are_passed_over(found: Found) -> None:
    teacher, student = nn.Linear(3, 3), nn.Linear(3, 3)
    optimizer = SGD(student.parameters(), lr=0.1)
    with torch.no_grad():
        teacher(torch.randn(2, 3))
        student(torch.randn(2, 3))  # a validation before the training
    teacher(torch.randn(2, 3))
    assert found == []
    step(student, optimizer)
    assert [model for model, _ in found] == [student]


def test_an_optimiser_that_comes_later_has_its_model_looked_for(found: Found) -> None:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    step(first, SGD(first.parameters(), lr=0.1))
    late = SGD(second.parameters(), lr=0.1)
    step(second, late)
    step(second, late)
    assert [model for model, _ in found] == [first, second]


def test_the_pace_is_that_of_steps_without_a_look() -> None:
    times = iter([0.0, 1.0, 10.0, 13.0, 50.0])
    pace = Pace(lambda: next(times))
    pace.step_ended(looked_at_next=False)  # at 0
    pace.backward_begins()  # at 1
    pace.backward_begins()  # of the same step: no look at the clock
    pace.step_ended(looked_at_next=True)
    pace.backward_begins()
    pace.step_ended(looked_at_next=False)  # at 10
    pace.backward_begins()  # at 13
    assert pace.seconds() == 2.0
    assert pace.seconds() == 2.0  # nothing new
