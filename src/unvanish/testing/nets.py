"""Small nets and initialisations that the cases share."""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Init = Callable[[Tensor], object]


class Exp(nn.Module):
    """The exponential as an activation."""

    def forward(self, x: Tensor) -> Tensor:
        return x.exp()


def mlp(
    widths: Sequence[int],
    activation: Callable[[], nn.Module] | None,
    *,
    norm: Callable[[int], nn.Module] | None = None,
    last: nn.Module | None = None,
) -> nn.Sequential:
    """Return linear0, (norm0), act0, linear1, … and a linear head, with `last` behind it."""
    layers: list[tuple[str, nn.Module]] = []
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(widths[:-1])):
        layers.append((f"linear{i}", nn.Linear(fan_in, fan_out)))
        if norm is not None:
            layers.append((f"norm{i}", norm(fan_out)))
        if activation is not None:
            layers.append((f"act{i}", activation()))
    layers.append(("head", nn.Linear(widths[-2], widths[-1])))
    if last is not None:
        layers.append(("last", last))
    return nn.Sequential(OrderedDict(layers))


def init(model: nn.Module, weight: Init | None = None, bias: Init | None = nn.init.zeros_) -> None:
    """Draw the weights of all linear and convolution layers by `weight`, the biases by `bias`."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            if weight is not None:
                weight(module.weight)
            if bias is not None and module.bias is not None:
                bias(module.bias)


def he(weight: Tensor) -> Tensor:
    """He's normal initialisation for ReLU."""
    return nn.init.kaiming_normal_(weight, nonlinearity="relu")


def lecun(weight: Tensor) -> Tensor:
    """Normal with variance 1 / fan-in."""
    return nn.init.kaiming_normal_(weight, nonlinearity="linear")


def unit_normal(weight: Tensor) -> Tensor:
    """N(0, 1)."""
    return nn.init.normal_(weight)


def scaled(factor: float) -> Init:
    """He's initialisation times `factor`."""

    def draw(weight: Tensor) -> Tensor:
        with torch.no_grad():
            return he(weight).mul_(factor)

    return draw


def dead_units(activations: Sequence[Tensor]) -> list[float]:
    """Share of units, by layer, that are 0 for every sample. Shapes (samples, units)."""
    return [float((one <= 0).all(0).float().mean()) for one in activations]


class Residual(nn.Module):
    """x + scale * branch(x)."""

    def __init__(self, branch: nn.Module, scale: float = 1.0) -> None:
        super().__init__()
        self.branch = branch
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.branch(x)


class TokenEncoder(nn.Module):
    """A transformer encoder that reads the rows of a digit as 8 tokens, then averages."""

    def __init__(self, layers: int, *, norm_first: bool, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.position = nn.Parameter(torch.randn(8, width) / math.sqrt(width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, norm_first=norm_first, batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        for parameter in self.encoder.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x.view(-1, 8, 8)) + self.position
        logits: Tensor = self.head(self.encoder(tokens).mean(1))
        return logits
