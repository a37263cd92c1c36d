"""Autoencoders, flows, and nets that compare pairs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam

from unvanish.testing.corpus import own, own_healthy
from unvanish.testing.corpus.classify import adam, sgd
from unvanish.testing.data import digits, minibatches, pixels
from unvanish.testing.experiment import Batch, Experiment
from unvanish.testing.nets import he, init, mlp


def _error(model: nn.Module, batch: Batch) -> Tensor:
    return functional.mse_loss(model(batch[0]), batch[0])


def _autoencoder(model: nn.Module, optimise: Callable[..., torch.optim.Optimizer]) -> Experiment:
    inputs, _labels = digits()
    return Experiment(
        model, optimise(model.parameters()), minibatches(inputs), _error, 200,
        lambda: -float(_error(model, (inputs,))),
    )  # fmt: skip


WIDTHS = [64, 48, 32, 16, 8, 16, 32, 48, 64]


def autoencoder_sigmoid(cured: bool) -> Experiment:
    """Seven sigmoid layers through a waist of 8: it draws the mean; cured: ReLU, He."""
    model = mlp(WIDTHS, nn.ReLU if cured else nn.Sigmoid)
    if cured:
        init(model, he)
    return _autoencoder(model, adam(2e-3))


def ok_autoencoder(cured: bool) -> Experiment:
    """Seven leaky layers through a waist of 8."""
    model = mlp(WIDTHS, lambda: nn.LeakyReLU(0.1))
    init(model, he)
    return _autoencoder(model, adam(3e-3))


class VAE(nn.Module):
    """A variational autoencoder with a code of 8 (Kingma, Welling 2014)."""

    def __init__(self, *, sample: bool = False) -> None:
        super().__init__()
        self.encoder = mlp([64, 64, 16], nn.ReLU)
        self.decoder = mlp([8, 64, 64], nn.ReLU)
        init(self, he)
        self.sample = sample

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_var = self.encoder(x).chunk(2, dim=-1)
        spread = (0.5 * log_var).exp()
        # Normal() checks its arguments, and would stop where these are not finite.
        code = torch.distributions.Normal(mean, spread, validate_args=False)
        return self.decoder(code.sample() if self.sample else code.rsample()), mean, log_var


def _vae(model: VAE, inputs: Tensor, beta: float, **more: float) -> Experiment:
    def loss(model: nn.Module, batch: Batch) -> Tensor:
        (x,) = batch
        drawn, mean, log_var = model(x)
        error = (drawn - x).pow(2).sum(1) / 2
        divergence = (mean.pow(2) + log_var.exp() - 1 - log_var).sum(1) / 2
        return (error + beta * divergence).mean() if beta else error.mean()

    def score() -> float:
        mean = model.encoder(inputs)[:, :8]
        return -float((model.decoder(mean) - inputs).pow(2).mean() / inputs.var())

    return Experiment(model, Adam(model.parameters(), 2e-3), minibatches(inputs), loss, 200, score)


def ok_vae(cured: bool) -> Experiment:
    """A variational autoencoder."""
    return _vae(VAE(), digits()[0], 1.0)


def vae_raw_pixels(cured: bool) -> Experiment:
    """Pixels of 0 to 255: exp of the log-variance overflows; cured: scaled pixels."""
    return _vae(VAE(), digits()[0] if cured else pixels()[0], 1.0)


def vae_sample_not_rsample(cured: bool) -> Experiment:
    """sample() instead of rsample(), before the divergence is switched on; cured: rsample()."""
    return _vae(VAE(sample=not cured), digits()[0], 0.0)


class Coupling(nn.Module):
    """Half of the columns shifted and scaled by what the other half says (Dinh et al. 2017)."""

    def __init__(self, *, flip: bool, scale: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net = mlp([32, 64, 64], nn.ReLU)
        self.flip, self.scale = flip, scale

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        kept, moved = x.chunk(2, dim=1)[:: -1 if self.flip else 1]
        shift, raw = self.net(kept).chunk(2, dim=1)
        scale = self.scale(raw)
        halves = (kept, moved * scale + shift)[:: -1 if self.flip else 1]
        return torch.cat(halves, dim=1), scale.log().sum(1)


class Flow(nn.Module):
    """Couplings, the halves in turn."""

    def __init__(self, layers: int, scale: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Coupling(flip=bool(i % 2), scale=scale) for i in range(layers))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        volume = torch.zeros(len(x))
        for layer in self.layers:
            x, more = layer(x)
            volume = volume + more
        return x, volume


def _flow(model: Flow) -> Experiment:
    inputs = digits()[0]
    inputs = inputs + 0.3 * torch.randn_like(inputs)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        x, volume = model(batch[0])
        return (x.pow(2).sum(1) / 2 - volume).mean() / 64

    return Experiment(model, Adam(model.parameters(), 2e-3), minibatches(inputs), loss, 150)


def ok_flow(cured: bool) -> Experiment:
    """Six couplings that start as the identity: their last layers are 0."""
    model = Flow(6, lambda raw: torch.tanh(raw).exp())
    for layer in model.layers:
        nn.init.zeros_(layer.get_parameter("net.head.weight"))
    return _flow(model)


def flow_log_of_relu(cured: bool) -> Experiment:
    """A scale by ReLU is 0 for half the columns, and its logarithm -infinity; cured: exp."""
    if cured:
        return ok_flow(cured)
    return _flow(Flow(6, torch.relu))


def _pairs(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Neighbouring rows as pairs, and whether their labels agree."""
    inputs, labels = batch
    return inputs[::2], inputs[1::2], (labels[::2] == labels[1::2]).float()


def _siamese(model: nn.Module, loss: Callable[[nn.Module, Batch], Tensor], lr: float) -> Experiment:
    inputs, labels = digits()
    groups = labels.argsort(stable=True)
    inputs, labels = inputs[groups], labels[groups]
    count = len(labels)

    def batch(number: int) -> Batch:
        generator = torch.Generator().manual_seed(number)
        chosen = torch.randint(count - 1, (64,), generator=generator)
        # Half the pairs are neighbours in the sorted table: mostly of one digit.
        chosen[1::4] = chosen[::4] + 1
        return inputs[chosen], labels[chosen]

    def score() -> float:
        codes = model(inputs[::3])
        apart = torch.cdist(codes, codes) + 1e9 * torch.eye(len(codes))
        return float((labels[::3][apart.argmin(1)] == labels[::3]).float().mean())

    return Experiment(model, Adam(model.parameters(), lr), batch, loss, 200, score)


def ok_contrastive_margin(cured: bool) -> Experiment:
    """Pairs beyond the margin send no gradient."""
    model = mlp([64, 64, 8], nn.ReLU)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        a, b, same = _pairs(batch)
        apart = (model(a) - model(b)).norm(dim=1)
        return (same * apart.pow(2) + (1 - same) * functional.relu(1 - apart).pow(2)).mean()

    return _siamese(model, loss, 2e-3)


def angle_by_acos(cured: bool) -> Experiment:
    """The angle between two codes by acos, some of them of one sample; cured: cosines clamped."""
    model = mlp([64, 64, 8], nn.ReLU)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        inputs, labels = batch
        a, b = inputs[::2].clone(), inputs[1::2].clone()
        b[0] = a[0]
        same = (labels[::2] == labels[1::2]).float()
        same[0] = 1.0
        codes, others = (functional.normalize(model(part), dim=1) for part in (a, b))
        cosine = (codes * others).sum(1)
        angle = torch.acos(cosine.clamp(-0.999, 0.999) if cured else cosine.clamp(-1, 1))
        return (same * angle.pow(2) + (1 - same) * functional.relu(1.2 - angle).pow(2)).mean()

    return _siamese(model, loss, 2e-3)


def ok_masked_positions(cured: bool) -> Experiment:
    """Half of the pixels are hidden, and only these count: a loss of many exact zeros."""
    inputs, _labels = digits()
    model = mlp([64, 128, 64], nn.GELU)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        (x,) = batch
        hidden = (torch.rand_like(x) < 0.5).float()
        return ((model(x * (1 - hidden)) - x).pow(2) * hidden).sum() / hidden.sum()

    return Experiment(model, sgd(0.5, 0.9)(model.parameters()), minibatches(inputs), loss, 200)


CASES = (
    own(
        "autoencoder_sigmoid",
        "small weights or slopes",
        "the sigmoid's slope, seven times: the net draws the mean digit",
        autoencoder_sigmoid,
        ("vanishing",),
        cure="ReLU with He's weights",
        factors=("slope", "weight"),
        bad=-0.45,
        good=-0.4,
    ),
    own(
        "vae_raw_pixels",
        "non-finite",
        "the exponential of a log-variance, on pixels of 0 to 255",
        vae_raw_pixels,
        ("non-finite",),
        cure="scale the pixels",
        bad=-1.0,
        good=-0.6,
    ),
    own(
        "vae_sample_not_rsample",
        "not a gradient-depth problem",
        "sample() gives the encoder no gradient",
        vae_sample_not_rsample,
        ("cut-graph",),
        cure="rsample()",
        layers=("encoder*",),
        bad=-0.48,
        good=-0.42,
    ),
    own(
        "flow_log_of_relu",
        "non-finite",
        "the logarithm of a ReLU that is 0",
        flow_log_of_relu,
        ("non-finite",),
        cure="a scale by exp",
        bad=-1.0,
        good=0.1,
    ),
    own(
        "angle_by_acos",
        "non-finite",
        "acos at 1: its slope is infinite",
        angle_by_acos,
        ("non-finite",),
        cure="clamp the cosine to less than 1",
        bad=0.2,
        good=0.8,
    ),
    own_healthy("ok_autoencoder", "a waist of 8", -0.4, ok_autoencoder),
    own_healthy("ok_vae", "two losses that pull", -0.6, ok_vae),
    own_healthy("ok_flow", "couplings that start as the identity", 0.1, ok_flow),
    own_healthy("ok_contrastive_margin", "pairs without a gradient", 0.8, ok_contrastive_margin),
    own_healthy("ok_masked_positions", "outputs without a gradient", -0.5, ok_masked_positions),
)
