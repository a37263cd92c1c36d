"""Small trainings, each of the kind that one cure is for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from unvanish.fix.cure import Live, LossFunction
from unvanish.testing.nets import Residual, TokenEncoder, mlp

SEED = 7


def live(model: nn.Module, batch: Any, loss: LossFunction, **adam: Any) -> Live:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, **adam)
    return Live(model, batch, loss, optimizer, None, torch.Generator().manual_seed(SEED))


def classes(model: nn.Module, batch: Any) -> Tensor:
    return functional.cross_entropy(model(batch[0]), batch[1])


def squares(model: nn.Module, batch: Any) -> Tensor:
    return functional.mse_loss(model(batch[0]), batch[1])


def labelled(*shape: int, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    return torch.randn(*shape) * scale, torch.randint(0, 4, (shape[0],))


def plain(activation: Callable[[], nn.Module], *, scale: float = 1.0) -> Live:
    return live(mlp([8] + [16] * 4 + [4], activation), labelled(32, 8, scale=scale), classes)


class Functional(nn.Module):
    """Sigmoids that are called, not modules."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.sigmoid(layer(x))
        answer: Tensor = self.head(x)
        return answer


class Listed(Functional):
    """The same layers, in a list."""

    def __init__(self) -> None:
        super().__init__()
        hidden = list(self.layers)
        del self.layers
        self.layers = hidden  # type: ignore[assignment]


class Recurrent(nn.Module):
    """An LSTM and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(2, 8, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.head(self.rnn(x)[0][:, -1])
        return answer


class Masked(nn.Module):
    """Attention whose first row sees nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.zeros(x.shape[:2], dtype=torch.bool)
        mask[0] = True
        mixed, _weights = self.attention(x, x, x, key_padding_mask=mask, need_weights=True)
        answer: Tensor = self.head(mixed.mean(1))
        return answer


class Chosen(nn.Module):
    """A hard choice between an encoder and a decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(8, 4)
        self.decoder = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        code = functional.one_hot(self.encoder(x).argmax(-1), 4).float()
        answer: Tensor = self.decoder(code)
        return answer


def zero_direction() -> Live:
    head = nn.Linear(8, 4)
    nn.init.zeros_(head.weight)
    nn.utils.parametrizations.weight_norm(head)
    return live(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), head), labelled(16, 8), classes)


def half() -> Live:
    model = mlp([8, 16, 4], nn.ReLU).half()

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return functional.cross_entropy(model(batch[0].half()).float(), batch[1])

    return live(model, labelled(16, 8), loss)


def root(model: nn.Module, batch: Any) -> Tensor:
    """A distance of samples to themselves: sqrt(0)."""
    outputs = model(batch[0])
    return torch.sqrt((outputs - outputs.clone()).pow(2).sum(1)).mean() + outputs.pow(2).mean()


def saturating(model: nn.Module, batch: Any) -> Tensor:
    """A generator's loss against a fixed judge."""
    fake = model(batch[0])
    return torch.log(1 - torch.sigmoid(fake.sum(1) - 4)).mean()


def one_target() -> tuple[Tensor, Tensor]:
    return torch.randn(16, 8), torch.randint(0, 2, (16, 1)).float()


class Detached(nn.Module):
    """Two halves, the first of which is cut off."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Linear(8, 8)
        self.back = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.front(x).detach()
        answer: Tensor = self.back(hidden)
        return answer


def unlit() -> Live:
    """ReLUs that see only zeros."""
    model = mlp([8, 8, 8, 4], nn.ReLU, last=nn.ReLU())
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
    return live(model, (torch.zeros(16, 8), torch.ones(16, 4)), squares)


LIVES: dict[str, Callable[[], Live]] = {
    "adam-eps": half,
    "batch-norm": lambda: plain(nn.Sigmoid),
    "bce-head": lambda: live(mlp([8, 8, 1], nn.Tanh, last=nn.Sigmoid()), one_target(), squares),
    "centring-init": lambda: plain(nn.Sigmoid),
    "critical-init": lambda: plain(nn.ReLU),
    "float32": half,
    "gelu-swap": lambda: plain(nn.Sigmoid),
    "gradient-clipping": lambda: plain(nn.ReLU),
    "input-standardisation": lambda: plain(nn.Sigmoid, scale=100.0),
    "keep-gradient": lambda: live(Detached(), labelled(16, 8), classes),
    "layer-norm": lambda: plain(nn.ReLU),
    "leaky-relu-swap": lambda: plain(nn.ReLU),
    "linear-output": lambda: live(
        mlp([8, 8, 4], nn.ReLU, last=nn.ReLU()), (torch.randn(16, 8), torch.ones(16, 4)), squares
    ),
    "live-biases": unlit,
    "logits-head": lambda: live(
        mlp([8, 8, 4], nn.ReLU, last=nn.Softmax(-1)), labelled(16, 8), classes
    ),
    "loss-scaling": half,
    "lower-learning-rate": lambda: plain(nn.ReLU),
    "measured-init": lambda: plain(nn.ReLU),
    "mirrored-init": lambda: plain(nn.ReLU),
    "more-units": lambda: live(mlp([8, 4, 4, 4], nn.ReLU), labelled(16, 8), classes),
    "much-lower-learning-rate": lambda: plain(nn.ReLU),
    "non-saturating-loss": lambda: live(mlp([8, 8, 8], nn.ReLU), labelled(16, 8), saturating),
    "nonzero-direction": zero_direction,
    "orthogonal-init": lambda: plain(nn.ReLU),
    "orthogonal-recurrence": lambda: live(Recurrent(), labelled(16, 20, 2), classes),
    "pre-norm": lambda: live(TokenEncoder(2, norm_first=False), labelled(8, 64), classes),
    "register-parameters": lambda: live(Listed(), labelled(16, 8), classes),
    "relu-swap": lambda: live(Functional(), labelled(16, 8), classes),
    "residual": lambda: plain(nn.ReLU),
    "safe-functions": lambda: live(mlp([8, 8, 4], nn.ReLU), labelled(16, 8), root),
    "scaled-branches": lambda: live(
        nn.Sequential(*(Residual(mlp([8, 8, 8], nn.ReLU)) for _ in range(4)), nn.Linear(8, 4)),
        labelled(16, 8),
        classes,
    ),
    "shaped-init": lambda: plain(nn.Sigmoid),
    "silu-swap": lambda: plain(nn.Sigmoid),
    "straight-through": lambda: live(Chosen(), labelled(16, 8), classes),
    "tanh-swap": lambda: plain(nn.ReLU),
    "unscale-first": lambda: plain(nn.ReLU),
    "visible-key": lambda: live(Masked(), labelled(8, 5, 8), classes),
    "warm-up": lambda: plain(nn.ReLU),
    "zero-branches": lambda: live(
        nn.Sequential(*(Residual(mlp([8, 8, 8], nn.ReLU)) for _ in range(4)), nn.Linear(8, 4)),
        labelled(16, 8),
        classes,
    ),
    "zero-grad": lambda: plain(nn.ReLU),
}


def build(name: str) -> Live:
    """Make the training of the cure `name`, the same at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return LIVES[name]()
