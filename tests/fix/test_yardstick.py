"""The yardstick: the loss in float32, whatever the network trains in; autocast and scalers off."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from unvanish.fix.cure import Live
from unvanish.fix.yardstick import Yardstick, plainly

BATCHES = [(torch.randn(32, 8, generator=torch.Generator().manual_seed(i)),) for i in range(3)]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 1))


def plain(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
    loss: Tensor = model(batch[0]).square().mean()
    return loss


def in_autocast(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return plain(model, batch)


SCALER = torch.amp.GradScaler("cpu", init_scale=1024.0)


def scaled(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
    return SCALER.scale(plain(model, batch))


def lowered(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
    """As a loop writes it whose network is in float16."""
    target = torch.zeros(32, 1, dtype=torch.float16)
    return functional.mse_loss(model(batch[0].half()), target.to(torch.float16))


def score(model: nn.Module, loss_fn: object, notes: list[str] | None = None) -> float:
    made = Yardstick(loss_fn, None, BATCHES, notes if notes is not None else [])  # type: ignore[arg-type]
    live = Live(model, BATCHES[0], loss_fn, None, None, torch.Generator())  # type: ignore[arg-type]
    assert made.score(live) == made.score(live)
    return made.score(live)


@pytest.mark.parametrize("loss_fn", [in_autocast, scaled])
def test_autocast_and_gradient_scalers_do_not_count(loss_fn: object) -> None:
    model = network()
    assert score(model, loss_fn) == score(model, plain)
    # and afterwards they do what they did
    assert loss_fn(model, BATCHES[0]) != plain(model, BATCHES[0])  # type: ignore[operator]


def test_an_ambient_autocast_does_not_count() -> None:
    model = network()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert score(model, plain) == score(network(), plain)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_network_in_low_precision_is_scored_in_float32_and_keeps_its_type(
    dtype: torch.dtype,
) -> None:
    model = network().to(dtype)
    before = copy.deepcopy(model.state_dict())
    same = copy.deepcopy(model).float()  # the same rounded weights
    assert score(model, lowered) == score(same, plain)
    for name, value in model.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name])


def test_a_loss_that_only_float16_overflows_is_finite() -> None:
    """300² is beyond float16's 65504; a yardstick of +inf would call any other network better."""
    model = nn.Linear(8, 1).half()
    nn.init.zeros_(model.weight)
    nn.init.constant_(model.bias, 300.0)
    assert score(model, lowered) == 90_000.0


def test_a_network_that_float32_fails_is_scored_as_it_is_and_said_so() -> None:
    class Picky(nn.Linear):
        def forward(self, rows: Tensor) -> Tensor:
            if self.weight.dtype != torch.bfloat16:
                raise TypeError("bfloat16 only")
            return super().forward(rows.bfloat16())

    notes: list[str] = []
    assert score(Picky(8, 1).bfloat16(), plain, notes) > 0
    (note,) = notes
    assert "in the network's own precision" in note
    assert "bfloat16 only" in note


def test_float64_stays() -> None:
    model = network().double()
    with plainly(model):
        assert model(BATCHES[0][0].double()).dtype == torch.float64
