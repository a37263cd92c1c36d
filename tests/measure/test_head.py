"""What lies between the network's output and the loss, and derivatives inside the loss."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from unvanish.checking import check
from unvanish.records import InnerDerivative, LossHead, Trace

Y = torch.linspace(-1, 1, 16)


def traced(loss: Callable[[Tensor], Tensor], outputs: int = 1) -> Trace:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, outputs))
    diagnosis = check(net, torch.randn(16, 4), lambda model, batch: loss(model(batch)))
    return diagnosis.run.models[0].traces[0]


def head(loss: Callable[[Tensor], Tensor], outputs: int = 1) -> LossHead:
    found = traced(loss, outputs).head
    assert found is not None
    return found


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize(
    "loss",
    [
        lambda out: F.mse_loss(out, Y),
        lambda out: F.l1_loss(out, Y),
        lambda out: F.huber_loss(out, Y),
        lambda out: ((out - Y) ** 2).mean(),
        lambda out: ((Y - out) ** 2).sum(),
        lambda out: F.mse_loss(out.squeeze(1), Y[:, None]),
    ],
)
def test_a_column_against_a_row_is_seen(loss: Callable[[Tensor], Tensor]) -> None:
    assert head(loss).broadcast_shape == (16, 16)


def ranking(out: Tensor) -> Tensor:
    score = out.squeeze(1)
    return ((score[:, None] - score[None]) - (Y[:, None] - Y[None])).pow(2).mean()


@pytest.mark.parametrize(
    "loss",
    [
        lambda out: F.mse_loss(out.squeeze(1), Y),
        lambda out: F.mse_loss(out, Y[:, None]),
        lambda out: (out - out.T).pow(2).mean(),  # all pairs, on purpose
        ranking,
        lambda out: (out - torch.randn(16, 3)).abs().mean(),  # three quantiles
        lambda out: (out * 2.0 + 1.0).mean(),
    ],
)
def test_equal_shapes_and_pairs_on_purpose_are_not(loss: Callable[[Tensor], Tensor]) -> None:
    assert head(loss).broadcast_shape is None


def test_reduction_entries_and_constants() -> None:
    labels = torch.arange(16) % 5
    found = head(lambda out: F.cross_entropy(out, labels, reduction="sum") / 100, 5)
    assert (found.reduction, found.entries) == ("sum", 16)
    assert found.constant_log10 == pytest.approx(-2.0)
    assert head(lambda out: F.mse_loss(out.squeeze(1), Y)).reduction == "mean"
    assert head(lambda out: (out.squeeze(1) - Y).pow(2).sum()).reduction == "sum"


# --- derivatives inside the loss -----------------------------------------------------------------


def derivatives(activation: nn.Module) -> tuple[InnerDerivative, ...]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 16), activation, nn.Linear(16, 1))

    def residual(model: nn.Module, points: Tensor) -> Tensor:
        x = points.clone().requires_grad_()
        u = model(x)
        first = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
        second = torch.autograd.grad(first.sum(), x, create_graph=True)[0]
        return (second + x).pow(2).mean() + u.pow(2).mean()

    before = torch.autograd.grad
    diagnosis = check(net, torch.linspace(-1, 1, 32)[:, None], residual)
    assert torch.autograd.grad is before
    found = diagnosis.run.models[0].traces[0].derivatives
    fired = any(each.code == "VG107" for each in diagnosis.findings)
    assert fired == (found[-1].level_log10 == -math.inf)
    return found


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.LeakyReLU(0.1), nn.Hardtanh()])
def test_straight_pieces_have_no_second_derivative(activation: nn.Module) -> None:
    first, second = derivatives(activation)
    assert (first.order, second.order) == (1, 2)
    assert math.isfinite(first.level_log10)
    assert second.level_log10 == -math.inf


@pytest.mark.parametrize("activation", [nn.Tanh(), nn.SiLU(), nn.Softplus()])
def test_curved_ones_have(activation: nn.Module) -> None:
    assert all(math.isfinite(one.level_log10) for one in derivatives(activation))


# --- what else is read off the forward ------------------------------------------------------------


class Checkpointed(nn.Module):
    """A frozen front, a body under a checkpoint, a head."""

    def __init__(self, *, reentrant: bool) -> None:
        super().__init__()
        self.front = nn.Linear(4, 8).requires_grad_(False)
        self.body = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
        self.head = nn.Linear(8, 1)
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        inner = checkpoint(self.body, self.front(x), use_reentrant=self.reentrant)
        out: Tensor = self.head(inner)
        return out


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("reentrant", [True, False])
def test_a_reentrant_checkpoint_behind_a_frozen_front_cuts_the_graph(reentrant: bool) -> None:
    model = Checkpointed(reentrant=reentrant)
    trained = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    found = check(model, torch.randn(16, 4), lambda m, b: m(b).pow(2).mean(), trained)
    cut = [each for each in found.findings if each.code == "CG101" and each.severity == "error"]
    assert bool(cut) == reentrant


def test_a_logarithm_on_a_masked_branch_names_the_branch() -> None:
    def loss(out: Tensor) -> Tensor:
        return torch.where(out > 0, out.clamp(min=0).log(), torch.zeros_like(out)).mean()

    trace = traced(loss)
    assert trace.nonfinite is not None
    assert (trace.nonfinite.direction, trace.nonfinite.op) == ("backward", "LogBackward0")
    assert "Where" in trace.nonfinite.detail


def test_a_weight_norm_of_zero_is_blamed_and_not_the_view_behind_it() -> None:
    layer = nn.Linear(4, 3)
    nn.init.zeros_(layer.weight)
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.utils.parametrizations.weight_norm(layer))
    found = check(net, torch.randn(8, 4), lambda model, batch: model(batch).pow(2).mean())
    fault = found.run.models[0].traces[0].nonfinite
    assert fault is not None
    assert fault.op.startswith("WeightNorm")
