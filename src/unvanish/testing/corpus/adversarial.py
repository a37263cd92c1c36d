"""Generative adversarial nets, most with a gradient penalty."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam

from unvanish.testing.corpus import own, own_healthy
from unvanish.testing.data import digits, minibatches
from unvanish.testing.experiment import Batch, Experiment
from unvanish.testing.nets import mlp

NOISE = 16


def _generator(activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    return mlp([NOISE, 64, 64, 64], activation)


def gap(model: nn.Module, real: Tensor) -> Callable[[], float]:
    """Return minus the sliced Wasserstein distance between the generator's and real digits."""
    noise, ways = torch.randn(512, NOISE), functional.normalize(torch.randn(64, 64), dim=0)
    wanted = (real[:512] @ ways).sort(0).values

    def score() -> float:
        made = model.get_submodule("generator")(noise)
        return -float(((made @ ways).sort(0).values - wanted).abs().mean())

    return score


def penalty(critic: nn.Module, real: Tensor, fake: Tensor, *, bare_root: bool = False) -> Tensor:
    """(|| d critic / d x || - 1)^2 between real and made samples (Gulrajani et al. 2017)."""
    share = torch.rand(len(real), 1)
    between = (share * real + (1 - share) * fake).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    length = gradient.pow(2).sum(1).sqrt() if bare_root else gradient.norm(dim=1)
    return (length - 1).pow(2).mean()


def _adversaries(
    generator: nn.Module,
    critic: nn.Module,
    *,
    critic_loss: Callable[[nn.Module, Tensor, Tensor], Tensor],
    generator_loss: Callable[[nn.Module, Tensor], Tensor],
    lr: float = 1e-3,
    critic_lr: float | None = None,
    rounds: int = 2,
    steps: int = 150,
) -> Experiment:
    """Train the critic `rounds` times, then the generator once, and so on."""
    real = digits()[0]
    model = nn.ModuleDict({"generator": generator, "critic": critic})
    made_by = Adam(generator.parameters(), lr, betas=(0.5, 0.9))
    judged_by = Adam(critic.parameters(), critic_lr or lr, betas=(0.5, 0.9))

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        made = model.get_submodule("generator")(torch.randn(len(batch[0]), NOISE))
        return generator_loss(model.get_submodule("critic"), made)

    def advance(experiment: Experiment, number: int) -> Tensor:
        for turn in range(rounds):
            (samples,) = experiment.batch(rounds * number + turn)
            with torch.no_grad():
                made = generator(torch.randn(len(samples), NOISE))
            judged_by.zero_grad()
            critic_loss(critic, samples, made).backward()
            judged_by.step()
        value = experiment.loss(experiment.model, experiment.batch(number))
        made_by.zero_grad()
        value.backward()
        made_by.step()
        return value

    return Experiment(model, made_by, minibatches(real), loss, steps, gap(model, real), advance)


def _wasserstein(
    critic: nn.Module, *, bare_root: bool = False, lr: float = 1e-3, steps: int = 150
) -> Experiment:
    """A critic under a gradient penalty (WGAN-GP)."""

    def critic_loss(critic: nn.Module, real: Tensor, made: Tensor) -> Tensor:
        wanted = critic(made).mean() - critic(real).mean()
        return wanted + 10 * penalty(critic, real, made, bare_root=bare_root)

    return _adversaries(
        _generator(),
        critic,
        critic_loss=critic_loss,
        generator_loss=lambda critic, made: -critic(made).mean(),
        lr=lr,
        steps=steps,
    )


def ok_wgan_gp(cured: bool) -> Experiment:
    """A Wasserstein critic of leaky ReLUs with a gradient penalty."""
    return _wasserstein(mlp([64, 64, 64, 1], lambda: nn.LeakyReLU(0.2)))


def ok_wgan_gp_tanh_layer_norm(cured: bool) -> Experiment:
    """A critic of tanh with layer norms under a gradient penalty."""
    return _wasserstein(mlp([64, 64, 64, 1], nn.Tanh, norm=nn.LayerNorm))


def wgan_gp_bare_root(cured: bool) -> Experiment:
    """sqrt of a squared gradient that is 0, for the critic's head starts at 0; cured: norm."""
    critic = mlp([64, 64, 64, 1], lambda: nn.LeakyReLU(0.2))
    nn.init.zeros_(critic.get_parameter("head.weight"))
    return _wasserstein(critic, bare_root=not cured, lr=2e-3, steps=200)


def wgan_gp_sigmoid_critic(cured: bool) -> Experiment:
    """A critic of ten sigmoid layers under a gradient penalty; cured: leaky ReLU."""
    depth = 3 if cured else 10
    return _wasserstein(
        mlp([64] * (depth + 1) + [1], (lambda: nn.LeakyReLU(0.2)) if cured else nn.Sigmoid)
    )


def gan_saturated_discriminator(cured: bool) -> Experiment:
    """log(1 - D(G(z))) against a discriminator that is sure; cured: -log D."""
    critic = mlp([64, 64, 64, 1], lambda: nn.LeakyReLU(0.2), last=nn.Sigmoid())
    generator = _generator()
    with torch.no_grad():
        generator.get_parameter("head.bias").fill_(3.0)

    def critic_loss(critic: nn.Module, real: Tensor, made: Tensor) -> Tensor:
        sure = functional.binary_cross_entropy(critic(real), torch.ones(len(real), 1))
        return sure + functional.binary_cross_entropy(critic(made), torch.zeros(len(made), 1))

    def generator_loss(critic: nn.Module, made: Tensor) -> Tensor:
        if cured:
            return functional.binary_cross_entropy(critic(made), torch.ones(len(made), 1))
        return torch.log(1 - critic(made) + 1e-8).mean()

    return _adversaries(
        generator,
        critic,
        critic_loss=critic_loss,
        generator_loss=generator_loss,
        critic_lr=1e-3 if cured else 1e-2,
        rounds=1 if cured else 5,
    )


CASES = (
    own(
        "wgan_gp_bare_root",
        "non-finite",
        "the root of a gradient penalty at 0: its slope is infinite",
        wgan_gp_bare_root,
        ("non-finite",),
        cure="gradient.norm(), whose slope at 0 is 0",
        bad=-0.4,
        good=-0.3,
    ),
    own(
        "wgan_gp_sigmoid_critic",
        "small weights or slopes",
        "ten sigmoids in the critic: nothing comes back to the generator",
        wgan_gp_sigmoid_critic,
        ("vanishing",),
        cure="leaky ReLU",
        factors=("slope", "weight"),
        bad=-0.4,
        good=-0.3,
    ),
    own(
        "gan_saturated_discriminator",
        "saturation",
        "the discriminator's output is saturated, and log(1 - D) has no slope there",
        gan_saturated_discriminator,
        ("loss-head", "vanishing"),
        cure="the loss -log D, and a discriminator that learns more slowly",
        factors=("slope", "loss"),
        bad=-2.0,
        good=-1.5,
    ),
    own_healthy("ok_wgan_gp", "second derivatives of leaky ReLUs", -0.3, ok_wgan_gp),
    own_healthy(
        "ok_wgan_gp_tanh_layer_norm",
        "second derivatives of tanh and norms",
        -0.3,
        ok_wgan_gp_tanh_layer_norm,
    ),
)
