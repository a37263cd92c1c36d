"""The three models that benchmarks are run on, each with a batch and its optimiser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(slots=True)
class Workload:
    """One training step that can be repeated."""

    model: nn.Module
    inputs: Tensor
    targets: Tensor
    optimizer: torch.optim.Optimizer

    def loss(self) -> Tensor:
        return functional.cross_entropy(self.model(self.inputs), self.targets)

    def step(self) -> None:
        self.loss().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def workload(model: nn.Module, *shape: int) -> Workload:
    """Return a model with a random batch of `shape` and ten classes, under SGD."""
    return Workload(
        model,
        torch.randn(*shape),
        torch.randint(0, 10, (shape[0],)),
        torch.optim.SGD(model.parameters(), lr=1e-3),
    )


def mlp() -> Workload:
    """20 hidden layers of 512 units, batch 128."""
    layers: list[nn.Module] = []
    for _ in range(20):
        layers += [nn.Linear(512, 512), nn.ReLU()]
    return workload(nn.Sequential(*layers, nn.Linear(512, 10)), 128, 512)


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.first_norm(self.first(x)))
        return functional.relu(x + self.second_norm(self.second(inner)))


def resnet() -> Workload:
    """A small ResNet: 6 blocks of 32 channels on 32x32 images, batch 32."""
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        *[_Block(32) for _ in range(6)],
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )
    return workload(model, 32, 3, 32, 32)


def transformer() -> Workload:
    """6 pre-norm layers of width 256, sequences of 64, batch 16."""
    layer = nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True, norm_first=True)
    model = nn.Sequential(
        nn.TransformerEncoder(layer, 6, enable_nested_tensor=False),
        nn.Flatten(),
        nn.Linear(256 * 64, 10),
    )
    return workload(model, 16, 64, 256)


WORKLOADS: dict[str, Callable[[], Workload]] = {
    "MLP 20x512": mlp,
    "ResNet, 6 blocks": resnet,
    "transformer, 6 layers": transformer,
}
