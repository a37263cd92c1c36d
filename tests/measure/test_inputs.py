"""The histogram of what goes into an activation, and the slopes that the backward pass gives."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.measure.cases import CASES, Case, data
from tests.measure.tracing import trace
from unvanish.measure.forward import thinned
from unvanish.records import INPUT_BINS, INPUT_REACH, ActivationInput

EDGES = np.linspace(-INPUT_REACH, INPUT_REACH, INPUT_BINS + 1)


class Net(nn.Module):
    """z = linear(x), and whatever is to be done with it."""

    def __init__(self, after: Callable[[Tensor], Tensor] | nn.Module, scale: float = 4.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.after, self.out = nn.Linear(6, 10), after, nn.Linear(10, 3)
        self.double()
        with torch.no_grad():
            self.linear.weight *= scale

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.after(self.linear(x)))


def only(model: nn.Module, batch: Tensor) -> ActivationInput:
    (found,) = trace(model, batch, lambda m, b: m(b).square().mean()).inputs
    return found


def spread(found: ActivationInput) -> list[int]:
    """Return the counts in all bins."""
    before = [0] * found.first
    return [*before, *found.counts, *[0] * (INPUT_BINS - found.first - len(found.counts))]


def histogram(z: Tensor) -> list[int]:
    values = z.detach().flatten().numpy().clip(-INPUT_REACH, INPUT_REACH)
    return list(np.histogram(values, EDGES)[0])


class Written(nn.Module):
    """x·σ(1.7 x), an activation that no table knows."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.7 * x)


WAYS: dict[str, tuple[Callable[[Tensor], Tensor] | nn.Module, str | None]] = {
    "a module": (nn.Sigmoid(), "sigmoid"),
    "a module in place": (nn.ReLU(inplace=True), "relu"),
    "a module with a parameter": (nn.PReLU(), "prelu"),
    "a function": (torch.tanh, "tanh"),
    "a function in place": (torch.relu_, "relu"),
    "a function after an op, from its result": (lambda z: torch.tanh(z + 0.0), "tanh"),
    "a function after an op, from its input": (lambda z: functional.silu(z + 0.0), "silu"),
    "a module after an op": (nn.Sequential(nn.Identity(), nn.GELU()), "gelu"),
    "written by hand": (Written(), None),
}


@pytest.mark.parametrize("way", WAYS)
def test_counts_are_those_of_every_entry_and_slopes_those_of_autograd(way: str) -> None:
    after, name = WAYS[way]
    model, batch = Net(after), data(20, 6)
    found = only(model, batch)
    z = (batch @ model.linear.weight.T + model.linear.bias).detach()
    assert spread(found) == histogram(z)
    assert (found.entries, found.unseen, found.activation) == (200, 0, name)

    leaf = z.clone().requires_grad_()
    output = after(leaf.clone())
    (slope,) = torch.autograd.grad(output.sum(), leaf)
    places = np.clip(np.digitize(z.numpy(), EDGES) - 1, 0, INPUT_BINS - 1)
    for offset, (count, mean) in enumerate(zip(found.counts, found.slopes, strict=True)):
        own = slope.numpy()[places == found.first + offset]
        assert len(own) == count
        if count:
            assert mean == pytest.approx(own.mean(), abs=1e-5)  # summed in float32
        else:
            assert math.isnan(mean)


def test_of_a_relu_that_nobody_fed_in_view_only_the_upper_half_is_known() -> None:
    model, batch = Net(lambda z: functional.relu(z + 0.0)), data(20, 6)
    found = only(model, batch)
    z = (batch @ model.linear.weight.T + model.linear.bias).detach()
    assert found.unseen == int((z <= 0).sum())
    assert spread(found) == histogram(z[z > 0])


def test_what_lies_beyond_is_in_the_outermost_bins() -> None:
    model, batch = Net(nn.Tanh(), scale=100.0), data(20, 6)
    found = only(model, batch)
    z = (batch @ model.linear.weight.T + model.linear.bias).detach()
    counts = spread(found)
    assert counts[0] == int((z < -INPUT_REACH + 0.25).sum())
    assert counts[-1] == int((z >= INPUT_REACH - 0.25).sum())
    assert sum(counts) == 200


def test_thinning_takes_every_unit_its_turn_and_the_same_places_each_time() -> None:
    units = torch.arange(64.0).expand(1024, 64)
    few = thinned(units)
    assert few is not None
    assert 3000 < len(few) <= 4096
    counts = torch.bincount(few.long(), minlength=64)
    assert counts.max() - counts.min() <= 1
    other = thinned(units.clone() * 2)
    assert other is not None
    assert torch.equal(other, 2 * few)
    assert thinned(torch.arange(3)) is None
    assert thinned(None) is None
    assert thinned(torch.zeros(0)) is None


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_shapes_of_every_network(case: Case) -> None:
    result = trace(*case.build())
    assert not result.notes or "Error" not in " ".join(result.notes)
    for found in result.inputs:
        assert sum(found.counts) + found.unseen == found.entries
        assert len(found.counts) == len(found.slopes) <= INPUT_BINS - found.first
        assert found.counts[0] > 0 < found.counts[-1]


def test_it_can_be_left_out() -> None:
    model, batch = Net(nn.Sigmoid()), data(20, 6)
    assert trace(model, batch, lambda m, b: m(b).square().mean(), inputs=False).inputs == ()
