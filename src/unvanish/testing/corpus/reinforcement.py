"""PPO on a pole that is balanced on a cart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam

from unvanish.testing.corpus import own, own_healthy
from unvanish.testing.experiment import Batch, Experiment
from unvanish.testing.nets import init, mlp

GAMMA, LAMBDA, CLIP = 0.98, 0.95, 0.2


class CartPole:
    """Many carts with a pole at once (Barto, Sutton, Anderson 1983), with the usual constants.

    A state is (position, velocity, angle, angular velocity), shape (carts, 4). A cart that has
    dropped its pole, left its track or gone on for 200 steps starts again.
    """

    def __init__(self, carts: int) -> None:
        self.state = torch.rand(carts, 4) * 0.1 - 0.05
        self.age = torch.zeros(carts)
        self.ages: list[float] = []  # of the episodes that ended

    def step(self, action: Tensor) -> Tensor:
        """Push right (1) or left (0); return which episodes ended (1. or 0.)."""
        x, v, angle, turn = self.state.unbind(1)
        force = action * 20.0 - 10.0
        sin, cos = angle.sin(), angle.cos()
        inner = (force + 0.05 * turn**2 * sin) / 1.1
        bend = (9.8 * sin - cos * inner) / (0.5 * (4 / 3 - 0.1 * cos**2 / 1.1))
        push = inner - 0.05 * bend * cos / 1.1
        moved = (x + 0.02 * v, v + 0.02 * push, angle + 0.02 * turn, turn + 0.02 * bend)
        self.state = torch.stack(moved, dim=1)
        self.age += 1
        x, angle = self.state[:, 0].abs(), self.state[:, 2].abs()
        over = (x > 2.4) | (angle > 0.2095) | (self.age >= 200)
        self.ages += self.age[over].tolist()
        fresh = torch.rand_like(self.state) * 0.1 - 0.05
        self.state = torch.where(over[:, None], fresh, self.state)
        self.age = torch.where(over, torch.zeros_like(self.age), self.age)
        return over.float()


class ActorCritic(nn.Module):
    """A policy of two actions and a value, from nets of their own."""

    def __init__(self, policy: nn.Module, value: nn.Module, scale: Tensor | None = None) -> None:
        super().__init__()
        self.policy = policy
        self.value = value
        self.scale = torch.ones(4) if scale is None else scale

    def forward(self, state: Tensor) -> tuple[Tensor, Tensor]:
        state = state * self.scale
        return self.policy(state), self.value(state).squeeze(-1)


class SharedTrunk(nn.Module):
    """A policy and a value on one trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = mlp([4, 64, 64], nn.ReLU, last=nn.ReLU())
        self.policy = nn.Linear(64, 2)
        self.value = nn.Linear(64, 1)

    def forward(self, state: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.trunk(state)
        return self.policy(hidden), self.value(hidden).squeeze(-1)


@dataclass(frozen=True)
class _Rollout:
    """What the carts did, flat over carts and steps, with advantages and returns."""

    states: Tensor
    actions: Tensor
    log_probs: Tensor
    advantages: Tensor
    returns: Tensor


@torch.no_grad()
def _rollout(model: nn.Module, world: CartPole, length: int) -> _Rollout:
    states, actions, log_probs, values, overs = [], [], [], [], []
    for _ in range(length):
        logits, value = model(world.state)
        action = (torch.rand(len(logits)) < logits.softmax(-1)[:, 1]).long()
        states.append(world.state)
        actions.append(action)
        log_probs.append(logits.log_softmax(-1).gather(1, action[:, None]).squeeze(1))
        values.append(value)
        overs.append(world.step(action.float()))
    following = model(world.state)[1]
    advantage = torch.zeros_like(following)
    advantages: list[Tensor] = []
    for value, over in zip(reversed(values), reversed(overs), strict=True):
        wrong = 0.1 * (1 - over) + GAMMA * following * (1 - over) - value
        advantage = wrong + GAMMA * LAMBDA * (1 - over) * advantage
        advantages.insert(0, advantage)
        following = value
    all_advantages = torch.stack(advantages)
    return _Rollout(
        torch.cat(states),
        torch.cat(actions),
        torch.cat(log_probs),
        functional.layer_norm(all_advantages.flatten(), [all_advantages.numel()]),
        (all_advantages + torch.stack(values)).flatten(),
    )


def log_prob(logits: Tensor, actions: Tensor) -> Tensor:
    """log of the probability of each action."""
    return logits.log_softmax(-1).gather(1, actions[:, None]).squeeze(1)


def entropy(logits: Tensor) -> Tensor:
    """Mean entropy of the policy."""
    return -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1).mean()


def bare_entropy(logits: Tensor) -> Tensor:
    """The same with the logarithm behind the softmax: 0 times infinity where that is 0."""
    chances = logits.softmax(-1)
    return -(chances * chances.log()).sum(-1).mean()


def ppo(
    model: nn.Module,
    *,
    lr: float = 3e-3,
    updates: int = 25,
    entropy: Callable[[Tensor], Tensor] | None = entropy,
    no_grad: bool = False,
) -> Experiment:
    """Train by PPO (Schulman et al. 2017): rollouts, each used four times in four parts."""
    world = CartPole(32)
    optimizer = Adam(model.parameters(), lr)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        states, actions, before, advantages, returns = batch
        logits, values = model(states)
        with torch.set_grad_enabled(not no_grad):
            ratio = (log_prob(logits, actions) - before).exp()
        bounded = ratio.clamp(1 - CLIP, 1 + CLIP)
        gained = torch.minimum(ratio * advantages, bounded * advantages).mean()
        value = (values - returns).pow(2).mean() / 2 - gained
        return value if entropy is None else value - 0.001 * entropy(logits)

    rollout: list[_Rollout] = []

    def batch(number: int) -> Batch:
        if number % 16 == 0:
            rollout[:] = [_rollout(model, world, 32)]
        (one,) = rollout
        generator = torch.Generator().manual_seed(number)
        chosen = torch.randperm(len(one.states), generator=generator)[:256]
        return tuple(getattr(one, name)[chosen] for name in one.__dataclass_fields__)

    def advance(experiment: Experiment, number: int) -> Tensor:
        value = experiment.loss(experiment.model, experiment.batch(number))
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        return value

    def score() -> float:
        late = world.ages[-64:]
        return sum(late) / max(1, len(late))

    return Experiment(model, optimizer, batch, loss, 16 * updates, score, advance)


def ok_ppo_tanh(cured: bool) -> Experiment:
    """Tanh nets with orthogonal weights; the policy's last layer starts near 0, as is usual."""
    model = ActorCritic(mlp([4, 64, 64, 2], nn.Tanh), mlp([4, 64, 64, 1], nn.Tanh))
    init(model, nn.init.orthogonal_)
    with torch.no_grad():
        model.get_parameter("policy.head.weight").mul_(0.01)
    return ppo(model)


def ok_ppo_shared_relu(cured: bool) -> Experiment:
    """One ReLU trunk for policy and value, in which many ratios are clipped to no gradient."""
    return ppo(SharedTrunk(), lr=5e-3)


def ppo_no_grad_ratio(cured: bool) -> Experiment:
    """The new log-probability is taken under no_grad, as the old one is; cured: it is not.

    There is no entropy bonus: with one the policy does get a gradient, of that, and nothing in a
    backward pass tells a summand without a gradient from a constant.
    """
    model = ActorCritic(mlp([4, 64, 64, 2], nn.Tanh), mlp([4, 64, 64, 1], nn.Tanh))
    init(model, nn.init.orthogonal_)
    return ppo(model, entropy=None, no_grad=not cured)


def ppo_entropy_log_of_zero(cured: bool) -> Experiment:
    """Entropy by log(softmax) at large logits of unscaled states; cured: log_softmax, scaled."""
    scale = torch.ones(4) if cured else torch.tensor([1e4, 1e4, 1e5, 1e5])
    model = ActorCritic(mlp([4, 64, 64, 2], nn.ReLU), mlp([4, 64, 64, 1], nn.ReLU), scale)
    return ppo(model, entropy=entropy if cured else bare_entropy)


CASES = (
    own(
        "ppo_no_grad_ratio",
        "not a gradient-depth problem",
        "the ratio is taken under no_grad: the policy gets no gradient, the value does",
        ppo_no_grad_ratio,
        ("cut-graph",),
        cure="no no_grad around the new log-probability",
        layers=("policy*",),
        bad=45.0,
        good=80.0,
    ),
    own(
        "ppo_entropy_log_of_zero",
        "non-finite",
        "a softmax that is 0, then the logarithm: 0 times infinity",
        ppo_entropy_log_of_zero,
        ("non-finite",),
        cure="log_softmax, and states of order 1",
        bad=45.0,
        good=80.0,
    ),
    own_healthy("ok_ppo_tanh", "a policy head that starts near 0", 80.0, ok_ppo_tanh),
    own_healthy(
        "ok_ppo_shared_relu", "clipped ratios without a gradient", 80.0, ok_ppo_shared_relu
    ),
)
