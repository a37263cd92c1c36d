"""Transformers: a small language model on prose, digits as tokens, mixers, experts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from unvanish.testing.corpus import own, own_healthy
from unvanish.testing.corpus.classify import adam, classifier, sgd
from unvanish.testing.data import excerpts, minibatches, prose
from unvanish.testing.experiment import Batch, Experiment
from unvanish.testing.nets import TokenEncoder, mlp

CHARACTERS, CONTEXT = 96, 32


class RMSNorm(nn.Module):
    """x over its root mean square, times a weight (written out, as in Llama)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def rotate(x: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021). Shape (batch, heads, tokens, width)."""
    half = x.shape[-1] // 2
    rates = 1e4 ** (-torch.arange(half) / half)
    angles = torch.arange(x.shape[-2])[:, None] * rates
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], -1)


class LlamaLayer(nn.Module):
    """Attention with rotary positions, then a gated MLP, each behind a norm, each with a skip."""

    def __init__(self, width: int, norm: Callable[[int], nn.Module], heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = norm(width), norm(width)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.gate = nn.Linear(width, 2 * width, bias=False)
        self.up = nn.Linear(width, 2 * width, bias=False)
        self.down = nn.Linear(2 * width, width, bias=False)

    def attend(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        q, k, v = (
            part(x).view(n, length, self.heads, -1).transpose(1, 2)
            for part in (self.q, self.k, self.v)
        )
        mixed = functional.scaled_dot_product_attention(rotate(q), rotate(k), v, is_causal=True)
        return self.o(mixed.transpose(1, 2).reshape(n, length, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.norm1(x))
        inner = self.norm2(x)
        return x + self.down(functional.silu(self.gate(inner)) * self.up(inner))


class Llama(nn.Module):
    """A Llama-like language model of characters, its head tied to its embedding."""

    def __init__(self, layers: int, norm: Callable[[int], nn.Module] = RMSNorm) -> None:
        super().__init__()
        self.embed = nn.Embedding(CHARACTERS, 32)
        nn.init.normal_(self.embed.weight, std=0.2)
        self.layers = nn.ModuleList(LlamaLayer(32, norm) for _ in range(layers))
        self.norm = norm(32)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x)
        return functional.linear(self.norm(x), self.embed.weight)


def next_character(model: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy of each next character."""
    (text,) = batch
    logits = model(text[:, :-1])
    return functional.cross_entropy(logits.flatten(0, 1), text[:, 1:].flatten())


def language_model(model: nn.Module, *, lr: float = 5e-3, steps: int = 150) -> Experiment:
    """Learn the next character of prose by AdamW with a warm-up of ten steps."""
    text = excerpts(prose(), CONTEXT + 1, 2048)
    optimizer = AdamW(model.parameters(), lr)
    schedule = LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 10))

    def advance(experiment: Experiment, number: int) -> Tensor:
        loss = experiment.loss(experiment.model, experiment.batch(number))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        return loss

    return Experiment(
        model, optimizer, minibatches(text, size=16), next_character, steps, advance=advance
    )


def ok_llama(cured: bool) -> Experiment:
    """Pre-norm, gated, tied; rows of rare characters get no gradient in most steps."""
    return language_model(Llama(4))


def llama_without_norm(cured: bool) -> Experiment:
    """Twelve layers without a norm, N(0, 0.5) weights; cured: with norms."""
    model = Llama(12 if not cured else 4, RMSNorm if cured else lambda width: nn.Identity())
    if not cured:
        for layer in model.layers.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.5)
    return language_model(model)


def ok_post_norm_warm_up(cured: bool) -> Experiment:
    """Norm behind the sum, four layers, with warm-up."""
    model = TokenEncoder(4, norm_first=False)
    experiment = classifier(model, adam(2e-3), steps=150, size=32)
    schedule = LambdaLR(experiment.optimizer, lambda step: min(1.0, (step + 1) / 50))

    def advance(experiment: Experiment, number: int) -> Tensor:
        loss = experiment.loss(experiment.model, experiment.batch(number))
        experiment.optimizer.zero_grad()
        loss.backward()
        experiment.optimizer.step()
        schedule.step()
        return loss

    experiment.advance = advance
    return experiment


def ok_pre_norm_12(cured: bool) -> Experiment:
    """Norm first, twelve layers."""
    return classifier(TokenEncoder(12, norm_first=True), adam(1e-3), steps=120, size=32)


class ViT(nn.Module):
    """Patches of 2 x 2 pixels and a class token, whose state is read out."""

    def __init__(self, layers: int, width: int = 32, scale: float | None = None) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, width, 2, stride=2)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, 17, width) * 0.02)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, 4, 64, 0.0, functional.gelu, norm_first=True, batch_first=True
            )
            for _ in range(layers)
        )
        self.scales = nn.ParameterList(
            [torch.full((width,), scale) for _ in range(layers)] if scale is not None else []
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch(x.view(-1, 1, 8, 8)).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), patches], dim=1) + self.position
        for i, layer in enumerate(self.layers):
            out = layer(tokens)
            tokens = tokens + self.scales[i] * (out - tokens) if len(self.scales) else out
        return self.head(self.norm(tokens[:, 0]))


def ok_vit(cured: bool) -> Experiment:
    """A vision transformer whose head starts at 0: at first nothing else gets a gradient."""
    return classifier(ViT(2), adam(4e-3), steps=200, size=32)


def ok_layer_scale(cured: bool) -> Experiment:
    """Branches times 0.0001 at first (LayerScale): next to no gradient in them."""
    return classifier(ViT(4, scale=1e-4), adam(4e-3), steps=200, size=32)


class MixerBlock(nn.Module):
    """Mixes tokens, then channels; with norms and skips, or without either."""

    def __init__(self, tokens: int, width: int, *, plain: bool) -> None:
        super().__init__()
        self.norm1 = nn.Identity() if plain else nn.LayerNorm(width)
        self.norm2 = nn.Identity() if plain else nn.LayerNorm(width)
        self.tokens = mlp([tokens, 2 * tokens, tokens], nn.GELU)
        self.channels = mlp([width, 2 * width, width], nn.GELU)
        self.skip = 0.0 if plain else 1.0

    def forward(self, x: Tensor) -> Tensor:
        x = self.skip * x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return self.skip * x + self.channels(self.norm2(x))


class Mixer(nn.Module):
    """An MLP-Mixer on patches of 2 x 2 pixels (Tolstikhin et al. 2021)."""

    def __init__(self, layers: int, *, plain: bool) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, 32, 2, stride=2)
        self.blocks = nn.Sequential(*(MixerBlock(16, 32, plain=plain) for _ in range(layers)))
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch(x.view(-1, 1, 8, 8)).flatten(2).transpose(1, 2)
        return self.head(self.blocks(patches).mean(1))


def ok_mixer(cured: bool) -> Experiment:
    """A mixer with norms and skips."""
    return classifier(Mixer(4, plain=False), adam(3e-3), steps=120, size=32)


def mixer_without_skips(cured: bool) -> Experiment:
    """Eight mixer blocks without norms and skips, default weights; cured: with them."""
    return classifier(Mixer(8, plain=not cured), sgd(0.05, 0.9), steps=150, size=32)


class Experts(nn.Module):
    """Each sample goes to two of eight experts, weighted by the router (Shazeer et al. 2017)."""

    def __init__(self, width: int, count: int = 8) -> None:
        super().__init__()
        self.router = nn.Linear(width, count)
        self.experts = nn.ModuleList(mlp([width, 32, width], nn.GELU) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.router(x).softmax(-1).topk(2, dim=-1)
        out = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            rows, place = (chosen == i).nonzero(as_tuple=True)
            if len(rows):  # many a batch sends an expert nothing
                out = out.index_add(0, rows, weights[rows, place, None] * expert(x[rows]))
        return x + out


def ok_experts(cured: bool) -> Experiment:
    """Experts that a batch may pass by."""
    model = nn.Sequential(nn.Linear(64, 32), Experts(32), Experts(32), nn.Linear(32, 10))
    return classifier(model, adam(3e-3), steps=200, size=16)


CASES = (
    own(
        "llama_without_norm",
        "exploding",
        "twelve gated layers, no norm, N(0, 0.5) weights",
        llama_without_norm,
        ("exploding", "non-finite"),
        cure="RMSNorm before each branch",
        bad=-3.0,
        good=-2.7,
    ),
    own(
        "mixer_without_skips",
        "small weights or slopes",
        "default weights in eight blocks of four layers without skips",
        mixer_without_skips,
        ("vanishing",),
        cure="norms and skips",
        bad=0.3,
        good=0.8,
    ),
    own_healthy("ok_llama", "rare characters, a tied head, gates", -2.7, ok_llama),
    own_healthy("ok_post_norm_warm_up", "norm behind the sum", 0.85, ok_post_norm_warm_up),
    own_healthy("ok_pre_norm_12", "12 layers, norm first", 0.85, ok_pre_norm_12),
    own_healthy("ok_vit", "a head that starts at 0", 0.8, ok_vit),
    own_healthy("ok_layer_scale", "branches times 0.0001", 0.75, ok_layer_scale),
    own_healthy("ok_mixer", "tokens and channels in turn", 0.9, ok_mixer),
    own_healthy("ok_experts", "experts that get no sample", 0.9, ok_experts),
)
