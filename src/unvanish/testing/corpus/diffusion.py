"""Diffusion models: a U-Net learns to tell the noise in noisy digits of 8 x 8 pixels."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, Adam, Optimizer

from unvanish.testing.corpus import own, own_healthy
from unvanish.testing.data import digits, minibatches
from unvanish.testing.experiment import Batch, Experiment
from unvanish.testing.nets import init

TIMES = 50


def kept() -> Tensor:
    """Share of the signal's variance that is left at each time (the cosine schedule)."""
    t = torch.arange(TIMES + 1) / TIMES
    return torch.cos((t + 0.008) / 1.008 * math.pi / 2).pow(2)


def time_features(t: Tensor, width: int) -> Tensor:
    """Sines and cosines of the time. Shapes (n,) -> (n, width)."""
    rates = torch.exp(torch.linspace(0, -5, width // 2))
    angles = t[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class TimedBlock(nn.Module):
    """norm, SiLU, convolution, + time, norm, SiLU, a convolution that starts at 0; and a skip."""

    def __init__(self, channels: int, *, zero: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(4, channels), nn.GroupNorm(4, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.time = nn.Linear(32, channels)
        if zero:
            nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        inner = self.conv1(functional.silu(self.norm1(x))) + self.time(time)[:, :, None, None]
        return x + self.conv2(functional.silu(self.norm2(inner)))


class PlainBlock(nn.Module):
    """Three convolutions with ReLU, no norm, no skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(3))
        self.time = nn.Linear(32, channels)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        x = x + self.time(time)[:, :, None, None]
        for conv in self.convs:
            x = functional.relu(conv(x))
        return x


class UNet(nn.Module):
    """8 x 8 -> 4 x 4 -> 2 x 2 and back, with skips across."""

    def __init__(self, block: Callable[[int], nn.Module], channels: int = 16) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, channels, 3, padding=1)
        self.down = nn.ModuleList(block(channels) for _ in range(2))
        self.middle = block(channels)
        self.join = nn.ModuleList(nn.Conv2d(2 * channels, channels, 1) for _ in range(2))
        self.up = nn.ModuleList(block(channels) for _ in range(2))
        self.last = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        time = time_features(t.float(), 32)
        x = self.first(x)
        skips = []
        for block in self.down:
            x = block(x, time)
            skips.append(x)
            x = functional.avg_pool2d(x, 2)
        x = self.middle(x, time)
        for join, block in zip(self.join, self.up, strict=True):
            x = functional.interpolate(x, scale_factor=2)
            x = block(join(torch.cat([x, skips.pop()], dim=1)), time)
        return self.last(x)


def noise_loss(model: nn.Module, batch: Batch) -> Tensor:
    """How far the noise that the model sees is from the noise that was put in."""
    (clean,) = batch
    t = torch.randint(1, TIMES, (len(clean),))
    share = kept()[t][:, None, None, None]
    noise = torch.randn_like(clean)
    return functional.mse_loss(model(share.sqrt() * clean + (1 - share).sqrt() * noise, t), noise)


def ratio_weighted_loss(cured: bool) -> Callable[[nn.Module, Batch], Tensor]:
    """The same weighted by the ratio of signal to noise, infinite at time 0; cured: at most 5."""

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        (clean,) = batch
        t = torch.randint(1 if cured else 0, TIMES, (len(clean),))
        share = (kept() / kept()[0])[t]
        wide = share[:, None, None, None]
        noise = torch.randn_like(clean)
        seen = model(wide.sqrt() * clean + (1 - wide).sqrt() * noise, t)
        weight = share / (1 - share)
        error = (seen - noise).pow(2).mean((1, 2, 3))
        return (error * (weight.clamp(max=5.0) if cured else weight)).mean()

    return loss


def _diffusion(
    model: nn.Module,
    optimizer: Optimizer,
    loss: Callable[[nn.Module, Batch], Tensor] = noise_loss,
    steps: int = 120,
) -> Experiment:
    images = digits()[0].view(-1, 1, 8, 8)

    def score() -> float:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return -float(noise_loss(model, (images,)))

    return Experiment(model, optimizer, minibatches(images, size=32), loss, steps, score)


def ok_diffusion_unet(cured: bool) -> Experiment:
    """Residual blocks with group norms whose last convolutions start at 0, as is usual."""
    model = UNet(lambda channels: TimedBlock(channels, zero=True))
    return _diffusion(model, Adam(model.parameters(), 3e-3))


def ok_diffusion_unet_zero_head(cured: bool) -> Experiment:
    """The last convolution of all starts at 0: at first nothing but it gets a gradient."""
    model = UNet(lambda channels: TimedBlock(channels, zero=False))
    nn.init.zeros_(model.last.weight)
    return _diffusion(model, Adam(model.parameters(), 3e-3))


def diffusion_unet_small_weights(cured: bool) -> Experiment:
    """Blocks without norm and skip, N(0, 0.01) weights; cured: residual blocks with norms."""
    if cured:
        model = UNet(lambda channels: TimedBlock(channels, zero=True))
    else:
        model = UNet(PlainBlock)
        init(model, lambda weight: nn.init.normal_(weight, std=0.01))
    return _diffusion(model, SGD(model.parameters(), 0.1, momentum=0.9))


def diffusion_unet_ratio_weight(cured: bool) -> Experiment:
    """A loss weighted by signal over noise, at a time that has no noise; cured: at most 5."""
    model = UNet(lambda channels: TimedBlock(channels, zero=True))
    return _diffusion(model, Adam(model.parameters(), 3e-3), ratio_weighted_loss(cured))


def diffusion_unet_large_weights(cured: bool) -> Experiment:
    """Blocks without norm and skip, three times He's weights; cured: residual blocks, norms."""
    if cured:
        model = UNet(lambda channels: TimedBlock(channels, zero=True))
    else:
        model = UNet(PlainBlock)
        init(model, lambda weight: nn.init.normal_(weight, std=3 * (2 / weight[0].numel()) ** 0.5))
    return _diffusion(model, SGD(model.parameters(), 0.01, momentum=0.9))


CASES = (
    own(
        "diffusion_unet_small_weights",
        "small weights or slopes",
        "N(0, 0.01) weights in blocks that have no norm and no skip",
        diffusion_unet_small_weights,
        ("vanishing",),
        cure="residual blocks with group norms",
        factors=("weight",),
        bad=-0.9,
        good=-0.6,
    ),
    own(
        "diffusion_unet_large_weights",
        "exploding",
        "three times He's weights in blocks that have no norm and no skip",
        diffusion_unet_large_weights,
        ("exploding",),
        cure="residual blocks with group norms",
        factors=("weight",),
        bad=-0.9,
        good=-0.7,
    ),
    own(
        "diffusion_unet_ratio_weight",
        "non-finite",
        "signal over noise is infinite at time 0, where there is no noise",
        diffusion_unet_ratio_weight,
        ("non-finite",),
        cure="bound the weight, and leave time 0 out",
        bad=-0.9,
        good=-0.6,
    ),
    own_healthy("ok_diffusion_unet", "convolutions that start at 0", -0.5, ok_diffusion_unet),
    own_healthy(
        "ok_diffusion_unet_zero_head",
        "the last convolution starts at 0: nothing else gets a gradient at step 0",
        -0.5,
        ok_diffusion_unet_zero_head,
    ),
)
