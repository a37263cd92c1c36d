"""Numbers that are not finite."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm
from torch.optim import Adam

from unvanish.testing.corpus.classify import adam, classifier, sgd
from unvanish.testing.data import accuracy, circle, digits, minibatches, unit_digits
from unvanish.testing.experiment import Batch, Case, Experiment
from unvanish.testing.nets import Exp, init, mlp


def exp_activation_circle(cured: bool) -> Experiment:
    """Eight layers of exponentials; cured: tanh."""
    inputs, labels = circle()
    model = mlp([2] + [5] * 8 + [1], nn.Tanh if cured else Exp)
    init(model, nn.init.xavier_normal_ if cured else nn.init.kaiming_uniform_)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return functional.binary_cross_entropy_with_logits(model(batch[0]), batch[1])

    return Experiment(
        model,
        adam(1e-2)(model.parameters()),
        minibatches(inputs, labels, size=64),
        loss,
        300 if cured else 40,
        lambda: float(((model(inputs) > 0) == (labels > 0.5)).float().mean()),
    )


def sqrt_distance_identical_pair(cured: bool) -> Experiment:
    """A siamese net whose distance is a root, on pairs of which some are the same sample twice."""
    inputs, labels = digits()
    model = mlp([64, 32, 8], nn.ReLU)
    other = torch.randperm(len(inputs))
    other[::8] = torch.arange(len(inputs))[::8]
    same = (labels == labels[other]).float()

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        a, b, alike = batch
        squares = (model(a) - model(b)).pow(2).sum(1)
        distance = torch.sqrt(squares + 1e-8) if cured else torch.sqrt(squares)
        apart = functional.relu(1 - distance).pow(2)
        return torch.where(alike > 0, distance.pow(2), apart).mean()

    return Experiment(
        model,
        adam(1e-3)(model.parameters()),
        minibatches(inputs, inputs[other], same, size=64),
        loss,
        200 if cured else 40,
    )


class MaskedPool(nn.Module):
    """Self-attention over the rows of a digit, averaged over those that are not masked."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = mlp([16, 32, 10], nn.ReLU)

    def forward(self, x: Tensor, masked: Tensor) -> Tensor:
        tokens = self.embed(x.view(-1, 8, 8))
        mixed, _weights = self.attention(
            tokens, tokens, tokens, key_padding_mask=masked, need_weights=True
        )
        answer: Tensor = self.head(mixed.mean(1))
        return answer


def mha_fully_padded_row(cured: bool) -> Experiment:
    """One sequence of each batch is masked from end to end; cured: one key stays visible."""
    inputs, labels = digits()
    model = MaskedPool()
    masked = torch.zeros(32, 8, dtype=torch.bool)
    masked[0] = True
    empty = masked.all(1)
    if cured:
        masked[0, 0] = False

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        x, y = batch
        return functional.cross_entropy(model(x, masked)[~empty], y[~empty])

    nothing = torch.zeros(len(inputs), 8, dtype=torch.bool)
    return Experiment(
        model,
        adam(5e-3)(model.parameters()),
        minibatches(inputs, labels, size=32),
        loss,
        200 if cured else 40,
        lambda: float((model(inputs, nothing).argmax(1) == labels).float().mean()),
    )


def weight_norm_zero_init(cured: bool) -> Experiment:
    """Weight norm on a last layer that is 0; cured: its length is 0, not its direction."""
    model = mlp([64, 32, 10], nn.ReLU)
    head = model.get_submodule("head")
    assert isinstance(head, nn.Linear)
    if not cured:
        nn.init.zeros_(head.weight)
    weight_norm(head)
    if cured:
        nn.init.zeros_(head.get_parameter("parametrizations.weight.original0"))
    nn.init.zeros_(head.bias)
    return classifier(model, sgd(0.1), steps=200 if cured else 40)


class Policy(nn.Module):
    """A Gaussian policy: mean and log of the standard deviation."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 32), nn.ReLU())
        self.mean = nn.Linear(8, 2)
        self.log_std = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        return self.mean(observation), self.log_std(observation)


def policy_exp_logstd_raw_obs(cured: bool) -> Experiment:
    """exp(log_std) of raw observations of 1e4; cured: unit observations, log_std clamped."""
    raw = torch.randn(512, 8) * 1e4
    observations = raw / raw.std() if cured else raw
    actions = torch.tanh(raw[:, :2] / raw.std()) * 0.1
    model = Policy()

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        mean, log_std = model(batch[0])
        if cured:
            log_std = log_std.clamp(-3, 2)
        std = log_std.exp()
        return (0.5 * ((batch[1] - mean) / std).pow(2) + std.log()).sum(1).mean()

    return Experiment(
        model,
        adam(3e-3)(model.parameters()),
        minibatches(observations, actions, size=64),
        loss,
        200 if cured else 40,
    )


def adam_eps_in_fp16_params(cured: bool) -> Experiment:
    """Parameters in float16, in which Adam's eps of 1e-8 is 0; cured: 1e-4."""
    inputs, labels = unit_digits()
    inputs = inputs.half()
    model = mlp([64, 32, 10], nn.ReLU).half()

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return functional.cross_entropy(model(batch[0]).float(), batch[1])

    return Experiment(
        model,
        Adam(model.parameters(), lr=3e-3, eps=1e-4 if cured else 1e-8),
        minibatches(inputs, labels, size=64),
        loss,
        200 if cured else 40,
        accuracy(model, inputs, labels),
    )


CASES = (
    Case(
        "exp_activation_circle",
        "non-finite",
        "exp(exp(…)) overflows in the forward pass",
        exp_activation_circle,
        ("non-finite",),
        cure="tanh or ReLU instead of the exponential",
        layers=("act*",),
        known_by=0,
        bad=0.6,
        good=0.9,
    ),
    Case(
        "sqrt_distance_identical_pair",
        "non-finite",
        "the slope of a root at 0 is infinite, and times 0 is NaN",
        sqrt_distance_identical_pair,
        ("non-finite",),
        cure="sqrt(x + eps)",
        known_by=1,
        bad=-10.0,
        good=-0.15,
    ),
    Case(
        "mha_fully_padded_row",
        "non-finite",
        "softmax over a row of -inf only",
        mha_fully_padded_row,
        ("non-finite",),
        cure="leave one visible key in every row",
        layers=("attention*",),
        known_by=1,
        bad=0.2,
        good=0.75,
    ),
    Case(
        "weight_norm_zero_init",
        "non-finite",
        "weight norm divides by the length of v, which is 0",
        weight_norm_zero_init,
        ("non-finite",),
        cure="set g to 0, not v",
        layers=("head*",),
        known_by=0,
        bad=0.2,
        good=0.9,
    ),
    Case(
        "policy_exp_logstd_raw_obs",
        "non-finite",
        "exp(log_std) overflows on observations of 1e4",
        policy_exp_logstd_raw_obs,
        ("non-finite",),
        cure="normalise the observations, clamp log_std",
        known_by=0,
        bad=-10.0,
        good=0.5,
    ),
    Case(
        "adam_eps_in_fp16_params",
        "non-finite",
        "in float16 eps and small squared gradients are 0, and 0/0 is NaN",
        adam_eps_in_fp16_params,
        ("non-finite", "update-size"),
        cure="eps=1e-4, or float32 master weights",
        known_by=1,
        bad=0.2,
        good=0.8,
    ),
)
