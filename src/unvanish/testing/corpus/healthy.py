"""Healthy, though something about them looks wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from unvanish.testing.corpus.classify import adam, classifier, cross_entropy, sgd
from unvanish.testing.corpus.vanishing import LastState
from unvanish.testing.data import digits
from unvanish.testing.experiment import Batch, Case, Experiment
from unvanish.testing.nets import he, init, mlp


def ok_relu_he_12_layers(cured: bool) -> Experiment:
    """12 ReLU layers, He."""
    model = mlp([64] * 13 + [10], nn.ReLU)
    init(model, he)
    # At 0.05 it is on the edge of divergence: the order of a sum's terms decides how it ends.
    return classifier(model, sgd(0.02, 0.9), steps=200)


class Block(nn.Module):
    """Two convolutions with batch norm, and a skip."""

    def __init__(self, channels: int, *, zero: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        if zero:
            nn.init.zeros_(self.norm2.weight)

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(x + self.norm2(self.conv2(inner)))


def _resnet(blocks: int, *, zero: bool) -> Experiment:
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        *(Block(8, zero=zero) for _ in range(blocks)),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 10),
    )
    inputs, labels = digits()
    # Faster steps leave the running statistics behind: a seed or a sum's order then decides.
    return classifier(
        model, adam(1e-3), steps=250, size=64, data=(inputs.view(-1, 1, 8, 8), labels)
    )


def ok_resnet_bn_20(cured: bool) -> Experiment:
    """18 convolutions in residual blocks with batch norm."""
    return _resnet(9, zero=False)


def ok_zero_init_last_bn(cured: bool) -> Experiment:
    """Residual blocks whose last batch norm starts at 0: no gradient in them at first."""
    return _resnet(6, zero=True)


def ok_frozen_backbone(cured: bool) -> Experiment:
    """A frozen backbone and a head that is trained."""
    backbone = mlp([64, 128, 64], nn.ReLU)
    init(backbone, he)
    backbone.requires_grad_(False)
    model = nn.Sequential(backbone, nn.ReLU(), nn.Linear(64, 10))
    experiment = classifier(model, adam(1e-2), steps=200)
    experiment.optimizer = adam(1e-2)(p for p in model.parameters() if p.requires_grad)
    return experiment


class TwoHeads(nn.Module):
    """A body with two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp([64, 64, 64], nn.ReLU)
        self.head = nn.Linear(64, 10)
        self.aux = nn.Linear(64, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.relu(self.body(x))
        return self.head(hidden), self.aux(hidden)


def ok_unused_aux_head(cured: bool) -> Experiment:
    """An auxiliary head that this loss does not use."""
    model = TwoHeads()
    inputs, labels = digits()

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return functional.cross_entropy(model(batch[0])[0], batch[1])

    experiment = classifier(model, adam(1e-3), steps=200, loss=loss)
    experiment.score = lambda: float((model(inputs)[0].argmax(1) == labels).float().mean())
    return experiment


def ok_tiny_loss_scale(cured: bool) -> Experiment:
    """The loss divided by 10,000 under Adam."""
    model = mlp([64, 64, 64, 64, 10], nn.ReLU)
    init(model, he)
    return classifier(
        model,
        adam(1e-3),
        steps=200,
        loss=lambda model, batch: cross_entropy(model, batch) / 1e4,
    )


class Rows(nn.Module):
    """Gives a digit's rows to a recurrent net."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.inner(x.view(-1, 8, 8))
        return answer


def ok_lstm_short(cured: bool) -> Experiment:
    """An LSTM over eight steps."""
    return classifier(Rows(LastState(nn.LSTM(8, 32, batch_first=True), 10)), adam(1e-2), steps=200)


def ok_compiled_model_late_hooks(cured: bool) -> Experiment:
    """A compiled net, traced before anyone could listen."""
    model = mlp([64, 64, 64, 10], nn.ReLU)
    init(model, he)
    compiled = cast(nn.Module, torch.compile(model, backend="eager"))
    with torch.no_grad():
        compiled(digits()[0][:64])
    return classifier(compiled, sgd(0.05), steps=200)


def _case(name: str, about: str, good: float, make: Callable[[bool], Experiment]) -> Case:
    return Case(name, "healthy", about, make, ("healthy",), good=good)


CASES = (
    _case("ok_relu_he_12_layers", "12 ReLU layers, He", 0.95, ok_relu_he_12_layers),
    _case("ok_resnet_bn_20", "18 convolutions, residual, batch norm", 0.95, ok_resnet_bn_20),
    _case(
        "ok_zero_init_last_bn",
        "the last batch norm of each block is 0: no gradient in the branches at step 0",
        0.93,
        ok_zero_init_last_bn,
    ),
    _case("ok_frozen_backbone", "frozen on purpose: no gradient", 0.9, ok_frozen_backbone),
    _case("ok_unused_aux_head", "a head that this loss does not use", 0.95, ok_unused_aux_head),
    _case("ok_tiny_loss_scale", "flat gradients of 1e-7, under Adam", 0.95, ok_tiny_loss_scale),
    _case("ok_lstm_short", "an LSTM over eight steps", 0.95, ok_lstm_short),
    _case(
        "ok_compiled_model_late_hooks",
        "compiled and traced before hooks came",
        0.9,
        ok_compiled_model_late_hooks,
    ),
)
