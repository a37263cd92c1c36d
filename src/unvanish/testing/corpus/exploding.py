"""Exploding by weights or by sums."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from unvanish.testing.corpus.classify import adam, classifier, sgd
from unvanish.testing.data import digits, minibatches
from unvanish.testing.experiment import Batch, Case, Experiment
from unvanish.testing.nets import Residual, he, init, mlp, unit_normal


def relu_mlp_20_unit_normal(cured: bool) -> Experiment:
    """20 ReLU layers with N(0, 1) weights; cured: He."""
    model = mlp([64] * 21 + [10], nn.ReLU)
    init(model, he if cured else unit_normal)
    return classifier(model, sgd(0.01, 0.9 if cured else 0.0), steps=200 if cured else 60)


def residual_128_blocks_no_norm(cured: bool) -> Experiment:
    """64 residual blocks of two convolutions without a norm; cured: branches times 0.1."""
    blocks = [
        Residual(
            nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)),
            0.1 if cured else 1.0,
        )
        for _ in range(64)
    ]
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), *blocks, nn.Conv2d(8, 1, 3, padding=1))
    init(model, he)
    clean = digits()[0].view(-1, 1, 8, 8)
    noisy = clean + 0.5 * torch.randn_like(clean)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return functional.l1_loss(model(batch[0]), batch[1])

    return Experiment(
        model,
        adam(1e-3)(model.parameters()),
        minibatches(noisy, clean, size=16),
        loss,
        60,
        metric=_noise_to_signal,
    )


def _noise_to_signal(model: nn.Module, batch: Batch) -> float:
    """Minus the peak signal-to-noise ratio, in decibels: what image restoration is judged by."""
    noisy, clean = batch
    error = (model(noisy).detach().double() - clean).square().mean()
    peak = clean.max() - clean.min()
    return float(10 * (error / peak.square()).log10())


CASES = (
    Case(
        "relu_mlp_20_unit_normal",
        "exploding",
        "N(0, 1) weights at width 64: times 5.7 a ReLU layer",
        relu_mlp_20_unit_normal,
        ("exploding",),
        cure="kaiming_normal_",
        factors=("weight",),
        layers=("linear*", "head"),
        bad=0.2,
        good=0.9,
    ),
    Case(
        "residual_128_blocks_no_norm",
        "exploding",
        "each residual sum doubles the variance, and nothing normalises",
        residual_128_blocks_no_norm,
        ("exploding",),
        cure="scale each residual branch by 0.1",
        factors=("merge", "weight"),
        layers=tuple(f"{i}*" for i in range(1, 65)),
        bad=-10.0,
        good=-0.75,
    ),
)
