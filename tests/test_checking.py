"""`check`: what it says, what it refuses, and that nothing is changed by it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules import module as hooks_of_torch

import unvanish
from tests.measure.cases import CASES, Case, cross_entropy, data, labels
from unvanish.errors import NoSignalError, UsageError, UserCodeError
from unvanish.measure.trace import BackwardTracer


def plain(depth: int, activation: type[nn.Module], width: int = 64) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(width, width), activation()]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def check(model: nn.Module, **options: Any) -> unvanish.Diagnosis:
    batch = data(64, 64).float()
    return unvanish.check(model, batch, cross_entropy(labels(64, 10)), **options)


def test_a_deep_sigmoid_net_vanishes_by_slope_first_and_weights_second() -> None:
    torch.manual_seed(0)
    result = check(plain(20, nn.Sigmoid))
    assert result.verdict == "vanishing"
    assert [finding.code for finding in result.findings[:2]] == ["VG101", "VG103"]
    assert [finding.factor for finding in result.findings[:2]] == ["slope", "weight"]
    gain = next(item for item in result.findings[0].evidence if item.name == "gain_per_layer")
    # 1/sqrt(3) (nn.Linear's default) times the root mean square slope 0.247: 0.143; one net of
    # width 64 and 20 layers strays from the mean by a few hundredths of it.
    assert gain.value == pytest.approx(0.143, rel=0.05)


@pytest.mark.parametrize("depth", [30, 34])
def test_badly_scaled_relu_is_the_weights_fault(depth: int) -> None:
    torch.manual_seed(0)
    model = plain(depth, nn.ReLU)
    if depth == 34:
        for layer in model:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
    result = check(model)
    assert result.verdict == "vanishing"
    assert result.findings[0].factor == "weight"
    assert "slope" not in {finding.factor for finding in result.findings}


def test_he_initialised_relu_is_healthy() -> None:
    torch.manual_seed(0)
    model = plain(20, nn.ReLU)
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    assert check(model).verdict == "healthy"


def test_large_weights_explode() -> None:
    torch.manual_seed(0)
    model = plain(20, nn.ReLU)
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight)
    result = check(model)
    assert result.verdict == "exploding"
    assert result.findings[0].factor == "weight"


def test_a_frozen_backbone_is_healthy() -> None:
    torch.manual_seed(0)
    model = plain(6, nn.ReLU)
    for parameter in list(model.parameters())[:-2]:
        parameter.requires_grad_(False)
    assert check(model).verdict == "healthy"


def test_a_converged_net_with_tiny_gradients_is_healthy() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)
    )
    x = data(32, 8).float()
    y = torch.sin(x.sum(1, keepdim=True))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(800):
        optimizer.zero_grad()
        functional.mse_loss(model(x), y).backward()
        optimizer.step()
    result = unvanish.check(model, (x, y), lambda m, b: functional.mse_loss(m(b[0]), b[1]))
    trace = result.run.models[0].traces[0]
    assert trace.loss < 1e-3  # from 0.5: it has converged
    assert trace.output_level_log10 is not None
    assert trace.output_level_log10 < -2.0
    assert result.verdict == "healthy"


# --- nothing is changed -------------------------------------------------------------------------


@dataclass
class State:
    """All that a check could change, as values that compare bit for bit."""

    tensors: dict[str, bytes]
    versions: dict[str, int]
    gradients: dict[str, tuple[int, bytes] | None]
    flags: dict[str, Any]
    random: Any

    @classmethod
    def of(cls, model: nn.Module) -> State:
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        return cls(
            tensors={name: bits(tensor) for name, tensor in tensors.items()},
            versions={name: tensor._version for name, tensor in tensors.items()},
            gradients={
                name: None if p.grad is None else (id(p.grad), bits(p.grad))
                for name, p in model.named_parameters()
            },
            flags={
                "training": [part.training for part in model.modules()],
                "requires_grad": [p.requires_grad for p in model.parameters()],
                "attributes": [sorted(vars(part)) for part in model.modules()],
                "hooks": [
                    len(part._forward_hooks)
                    + len(part._forward_pre_hooks)
                    + len(part._backward_hooks)
                    for part in model.modules()
                ],
                "global hooks": (
                    len(hooks_of_torch._global_forward_hooks),
                    len(hooks_of_torch._global_forward_pre_hooks),
                ),
                "grad mode": torch.is_grad_enabled(),
                "backward": torch.autograd.backward,
                "mkldnn": torch.backends.mkldnn.enabled,
            },
            random=(
                bits(torch.get_rng_state()),
                random.getstate(),
                np.random.get_state()[1].tobytes(),  # type: ignore[union-attr]
            ),
        )


def bits(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    before = State.of(model)
    yield
    assert State.of(model) == before


each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@each_case
def test_nothing_is_changed(case: Case) -> None:
    model, batch, loss_fn = case.build()
    loss_fn(model, batch).backward()  # so that there are gradients to keep
    with unchanged(model):
        unvanish.check(model, batch, loss_fn)


@pytest.mark.parametrize("training", [True, False])
def test_nothing_is_changed_by_batch_norm_dropout_and_in_place_ops(training: bool) -> None:
    model = nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(8, 5)
    ).train(training)
    with unchanged(model):
        unvanish.check(model, data(8, 6).float(), cross_entropy(labels(8)))


def test_a_model_that_draws_random_numbers_everywhere() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 5)
            self.calls = 0
            self.kept: list[Tensor] = []

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            self.kept.append(x)
            noise = random.random() + float(np.random.rand())
            return self.layer(x + torch.randn_like(x)) * noise

    model = Noisy()
    with unchanged(model):
        unvanish.check(model, data(8, 6).float(), cross_entropy(labels(8)))
    assert model.calls == 0
    assert model.kept == []


@dataclass
class Output:
    logits: Tensor
    hidden: Tensor


@pytest.mark.parametrize("kind", ["dict", "tuple", "dataclass"])
def test_models_that_return_containers_and_take_several_inputs(kind: str) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right, self.head = nn.Linear(4, 8), nn.Linear(6, 8), nn.Linear(8, 5)

        def forward(self, a: Tensor, *, b: Tensor) -> Any:
            hidden = torch.tanh(self.left(a) + self.right(b))
            logits = self.head(hidden)
            if kind == "dict":
                return {"logits": logits, "hidden": hidden}
            return (logits, hidden) if kind == "tuple" else Output(logits, hidden)

    def loss_fn(model: Any, batch: Any) -> Tensor:
        out = model(batch[0], b=batch[1])
        logits = {"dict": lambda: out["logits"], "tuple": lambda: out[0]}.get(
            kind, lambda: out.logits
        )()
        return functional.cross_entropy(logits, labels(8))

    model = Model()
    with unchanged(model):
        result = unvanish.check(model, (data(8, 4).float(), data(8, 6).float()), loss_fn)
    assert result.run.models[0].traces[0].probe is not None


class BoomError(Exception):
    pass


def raising_forward(_model: Any, _batch: Any) -> Tensor:
    raise BoomError("in the forward")


def raising_late(model: Any, batch: Any) -> Tensor:
    model(batch)
    raise BoomError("in the loss")


class RaisesInBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        raise BoomError("in the backward")


def raising_backward(model: Any, batch: Any) -> Tensor:
    return RaisesInBackward.apply(model(batch)).sum()


@pytest.mark.parametrize("loss_fn", [raising_forward, raising_late, raising_backward])
def test_nothing_is_changed_when_the_users_code_raises(loss_fn: Callable[..., Any]) -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 5))
    with unchanged(model), pytest.raises(UserCodeError, match="BoomError: in the"):
        unvanish.check(model, data(8, 6).float(), loss_fn)


def test_nothing_is_changed_when_a_hook_of_the_users_raises() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 5))

    def hook(*_arguments: Any) -> None:
        raise BoomError("in a hook")

    model[2].register_forward_hook(hook)
    with unchanged(model), pytest.raises(UserCodeError, match="in a hook"):
        unvanish.check(model, data(8, 6).float(), cross_entropy(labels(8)))


def test_nothing_is_changed_when_our_own_code_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: Any, **_keywords: Any) -> None:
        raise BoomError("ours")

    monkeypatch.setattr(BackwardTracer, "pending", broken)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 5))
    with unchanged(model), pytest.raises(BoomError):
        unvanish.check(model, data(8, 6).float(), cross_entropy(labels(8)))


def test_the_grad_mode_of_the_caller_does_not_matter() -> None:
    model = nn.Linear(6, 5)
    with torch.no_grad():
        result = unvanish.check(model, data(8, 6).float(), cross_entropy(labels(8)))
        assert not torch.is_grad_enabled()
    assert result.verdict == "healthy"


def test_a_teacher_in_the_loss_keeps_its_buffers() -> None:
    teacher = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5))

    def loss_fn(model: Any, batch: Any) -> Tensor:
        with torch.no_grad():
            target = teacher(batch)
        return functional.mse_loss(model(batch), target)

    model = nn.Linear(6, 5)
    with unchanged(teacher):
        unvanish.check(model, data(8, 6).float(), loss_fn)


# --- bad input ----------------------------------------------------------------------------------


def test_a_loss_that_is_not_one_number() -> None:
    with pytest.raises(UsageError, match=r"shape \(8, 5\).*loss.mean\(\)"):
        unvanish.check(nn.Linear(6, 5), data(8, 6).float(), lambda m, b: m(b))


def test_a_loss_that_is_not_a_tensor() -> None:
    with pytest.raises(UsageError, match="returned float"):
        unvanish.check(nn.Linear(6, 5), data(8, 6).float(), lambda m, b: float(m(b).sum()))


def test_a_loss_without_a_graph() -> None:
    with pytest.raises(NoSignalError, match="requires a gradient"):
        unvanish.check(nn.Linear(6, 5), data(8, 6).float(), lambda m, b: m(b).sum().detach())


def test_nan_in_the_batch() -> None:
    batch = data(8, 6).float()
    batch[3, 2] = float("nan")
    with pytest.raises(UsageError, match="NaN: 1 of 48 entries"):
        unvanish.check(nn.Linear(6, 5), batch, lambda m, b: m(b).sum())


def test_a_model_without_parameters() -> None:
    with pytest.raises(UsageError, match="no parameter"):
        unvanish.check(nn.ReLU(), data(8, 6).float(), lambda m, b: m(b).sum())


def test_an_optimizer_that_is_none() -> None:
    with pytest.raises(UsageError, match="optimiser is of type str"):
        check(plain(1, nn.ReLU), optimizer="adam")


def test_the_optimizer_is_known_and_does_not_step() -> None:
    model = plain(2, nn.ReLU)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    with unchanged(model):
        result = check(model, optimizer=optimizer)
    facts = result.run.models[0].optimizer
    assert facts is not None
    assert (facts.name, facts.rescales, facts.lr) == ("Adam", True, (0.1,))
    assert optimizer.state == {}


def test_a_diagnosis_shows_itself() -> None:
    result = check(plain(20, nn.Sigmoid))
    assert "Vanishing" in str(result)
    assert repr(result).startswith("<Diagnosis vanishing: VG101, VG103")
    assert "<script" not in result._repr_html_()
