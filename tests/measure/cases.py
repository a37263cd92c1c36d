"""Networks of every shape the graph can have, in float64, each with a batch and a loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint


@dataclass(frozen=True)
class Case:
    name: str
    build: Callable[[], tuple[nn.Module, Any, Callable[[Any, Any], Tensor]]]


CASES: list[Case] = []


def case(build: Callable[[], Any]) -> Callable[[], Any]:
    def seeded() -> Any:
        torch.manual_seed(0)
        model, batch, loss_fn = build()
        return model.double(), batch, loss_fn

    CASES.append(Case(build.__name__, seeded))
    return seeded


def data(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def labels(count: int, classes: int = 5) -> Tensor:
    return torch.randint(0, classes, (count,), generator=torch.Generator().manual_seed(2))


def cross_entropy(target: Tensor) -> Callable[[Any, Any], Tensor]:
    return lambda model, batch: functional.cross_entropy(model(batch), target)


@case
def mlp() -> Any:
    layers: list[nn.Module] = []
    for activation in (nn.Sigmoid(), nn.Tanh(), nn.ReLU(), nn.GELU(), nn.SiLU(), nn.LeakyReLU(0.2)):
        layers += [nn.Linear(12, 12), activation]
    return nn.Sequential(*layers, nn.Linear(12, 5)), data(8, 12), cross_entropy(labels(8))


@case
def convolutions() -> Any:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3),
        nn.GroupNorm(2, 6),
        nn.SiLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 5),
    )
    return model, data(4, 1, 8, 8), cross_entropy(labels(4))


class Residual(nn.Module):
    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.second(functional.relu(self.first(self.norm(x))))


@case
def residual() -> Any:
    model = nn.Sequential(
        nn.Linear(12, 12), *[Residual(12, 0.1) for _ in range(4)], nn.Linear(12, 5)
    )
    return model, data(8, 12), cross_entropy(labels(8))


class Attention(nn.Module):
    """Written by hand: softmax(q k^T / sqrt(d)) v."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.query(x) @ self.key(x).transpose(-1, -2) / x.shape[-1] ** 0.5
        return torch.softmax(scores, dim=-1) @ self.value(x)


@case
def attention() -> Any:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(6, 8)
            self.attention = Attention(8)
            self.head = nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            h = self.embed(x)
            return self.head((h + self.attention(h)).mean(dim=1))

    return Model(), data(4, 7, 6), cross_entropy(labels(4))


@case
def transformer() -> Any:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, norm_first=True)
    model = nn.Sequential(
        nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Flatten(), nn.Linear(40, 5)
    )
    return model, data(4, 5, 8), cross_entropy(labels(4))


@case
def auxiliary_loss() -> Any:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.front = nn.Linear(6, 8)
            self.back = nn.Linear(8, 8)
            self.head = nn.Linear(8, 5)
            self.auxiliary = nn.Linear(8, 5)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            h = torch.tanh(self.front(x))
            return self.head(torch.tanh(self.back(h))), self.auxiliary(h)

    target = labels(8)

    def loss_fn(model: Any, batch: Any) -> Tensor:
        main, auxiliary = model(batch)
        penalty = sum((parameter**2).sum() for parameter in model.parameters())
        return (
            functional.cross_entropy(main, target)
            + 0.3 * functional.cross_entropy(auxiliary, target)
            + 1e-3 * penalty
        )

    return Model(), data(8, 6), loss_fn


@case
def two_losses() -> Any:
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 5))
    target = labels(8)

    def loss_fn(model: Any, batch: Any) -> Tensor:
        out = model(batch)
        return functional.cross_entropy(out, target) + 0.1 * out.pow(2).mean()

    return model, data(8, 6), loss_fn


@case
def unet_with_time() -> Any:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.time = nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 4))
            self.down1 = nn.Conv2d(1, 4, 3, padding=1)
            self.down2 = nn.Conv2d(4, 4, 3, stride=2, padding=1)
            self.middle = nn.Conv2d(4, 4, 3, padding=1)
            self.up = nn.ConvTranspose2d(4, 4, 2, stride=2)
            self.out = nn.Conv2d(8, 1, 3, padding=1)

        def forward(self, batch: tuple[Tensor, Tensor]) -> Tensor:
            image, moment = batch
            h1 = functional.silu(self.down1(image))
            h2 = functional.silu(self.down2(h1) + self.time(moment)[:, :, None, None])
            h3 = functional.silu(self.middle(h2) + self.time(moment)[:, :, None, None])
            return self.out(torch.cat([self.up(h3), h1], dim=1))

    batch = (data(3, 1, 8, 8), data(3, 4))
    return Model(), batch, lambda model, b: functional.mse_loss(model(b), b[0])


@case
def encoder_decoder() -> Any:
    model = nn.Transformer(
        8, 2, 1, 2, 16, dropout=0.0, batch_first=True, activation=functional.gelu
    )
    batch = (data(3, 6, 8), data(3, 4, 8) * 0.5)
    return model, batch, lambda m, b: functional.mse_loss(m(b[0], b[1]), b[1])


@case
def recurrent_with_a_loss_per_step() -> Any:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.RNNCell(4, 8)
            self.head = nn.Linear(8, 5)

        def forward(self, x: Tensor) -> list[Tensor]:
            state = torch.zeros(x.shape[0], 8, dtype=x.dtype)
            outputs = []
            for moment in range(x.shape[1]):
                state = self.cell(x[:, moment], state)
                outputs.append(self.head(state))
            return outputs

    target = labels(3)
    return (
        Model(),
        data(3, 6, 4),
        lambda m, b: sum(functional.cross_entropy(out, target) for out in m(b)),  # type: ignore[return-value]
    )


@case
def lstm() -> Any:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(4, 4)
            self.recurrent = nn.LSTM(4, 6, num_layers=2, batch_first=True)
            self.head = nn.Linear(6, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.recurrent(torch.tanh(self.first(x)))[0][:, -1])

    return Model(), data(3, 5, 4), cross_entropy(labels(3))


class RootMeanSquareNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class HandWrittenGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x * (1 + torch.tanh(0.7978845608 * (x + 0.044715 * x.pow(3))))


@case
def language_model() -> Any:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(20, 8)
            self.position = nn.Embedding(6, 8)
            self.norm = RootMeanSquareNorm(8)
            self.gate = nn.Linear(8, 16)
            self.up = nn.Linear(8, 16)
            self.down = nn.Linear(16, 8)
            self.activation = HandWrittenGELU()
            self.mix = nn.Linear(8, 8)

        def forward(self, tokens: Tensor) -> Tensor:
            h = self.embed(tokens) + self.position(torch.arange(tokens.shape[1]))
            z = self.norm(h)
            h = h + self.down(functional.silu(self.gate(z)) * self.up(z))
            h = h + self.mix(self.activation(h))
            return h @ self.embed.weight.T

    tokens = torch.randint(0, 20, (4, 6), generator=torch.Generator().manual_seed(3))
    return (
        Model(),
        tokens,
        lambda m, b: functional.cross_entropy(m(b)[:, :-1].flatten(0, 1), b[:, 1:].flatten()),
    )


class Checkpointed(nn.Module):
    def __init__(self, *, reentrant: bool) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.block = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh())
        self.head = nn.Linear(8, 5)
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        return self.head(checkpoint(self.block, h, use_reentrant=self.reentrant))


@case
def checkpointed_reentrant() -> Any:
    return Checkpointed(reentrant=True), data(8, 6), cross_entropy(labels(8))


@case
def checkpointed_not_reentrant() -> Any:
    return Checkpointed(reentrant=False), data(8, 6), cross_entropy(labels(8))


@case
def weight_tied() -> Any:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 6)
            self.head = nn.Linear(6, 5)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(4):
                x = torch.tanh(self.layer(x))
            return self.head(x)

    return Model(), data(8, 6), cross_entropy(labels(8))


@case
def parametrized() -> Any:
    model = nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(6, 8)),
        nn.Tanh(),
        nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8)),
        nn.ReLU(),
        nn.Linear(8, 5),
    )
    return model, data(8, 6), cross_entropy(labels(8))


class Doubling(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return 2 * gradients[0]


@case
def custom_function() -> Any:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(6, 8)
            self.head = nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(Doubling.apply(self.first(x)))

    return Model(), data(8, 6), cross_entropy(labels(8))


@case
def data_that_requires_a_gradient() -> Any:
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5))
    return model, data(8, 6).requires_grad_(), cross_entropy(labels(8))
