"""Physics-informed nets: the loss holds derivatives of the net by its inputs."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Adam

from unvanish.testing.corpus import own, own_healthy
from unvanish.testing.data import always
from unvanish.testing.experiment import Batch, Experiment
from unvanish.testing.nets import init, lecun, mlp


class Sine(nn.Module):
    """sin(omega x), as SIREN has it."""

    def __init__(self, omega: float = 1.0) -> None:
        super().__init__()
        self.omega = omega

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(self.omega * x)


def derivative(u: Tensor, x: Tensor) -> Tensor:
    """du/dx, differentiable once more; 0 where u does not depend on x any more."""
    (found,) = torch.autograd.grad(u.sum(), x, create_graph=True, materialize_grads=True)
    return found


def poisson(model: nn.Module, batch: Batch) -> Tensor:
    """Residual of u'' = -pi^2 sin(pi x) on ±1, over pi^2, and of u(±1) = 0."""
    x = batch[0].clone().requires_grad_()
    second = derivative(derivative(model(x), x), x)
    ends = model(torch.tensor([[-1.0], [1.0]]))
    return (second / math.pi**2 + torch.sin(math.pi * x)).pow(2).mean() + ends.pow(2).mean()


def decay(model: nn.Module, batch: Batch) -> Tensor:
    """Residual of u' = -u on 0..T, and of u(0) = 1."""
    t = batch[0].clone().requires_grad_()
    u = model(t)
    return (derivative(u, t) + u).pow(2).mean() + (model(torch.zeros(1, 1)) - 1).pow(2).mean()


def burgers(model: nn.Module, batch: Batch) -> Tensor:
    """Residual of u_t + u u_x = 0.05 u_xx, and of u(x, 0) = -sin(pi x). Points (n, 2): x, t."""
    points = batch[0].clone().requires_grad_()
    u = model(points)
    first = derivative(u, points)
    second = derivative(first[:, :1], points)[:, :1]
    residual = first[:, 1:] + u * first[:, :1] - 0.05 * second
    start = batch[0] * torch.tensor([1.0, 0.0])
    wrong = model(start) + torch.sin(math.pi * start[:, :1])
    return residual.pow(2).mean() + wrong.pow(2).mean()


def _experiment(
    model: nn.Module,
    loss: Callable[[nn.Module, Batch], Tensor],
    points: Tensor,
    solution: Tensor,
    *,
    lr: float = 3e-3,
    steps: int = 300,
) -> Experiment:
    return Experiment(
        model,
        Adam(model.parameters(), lr),
        always(points),
        loss,
        steps,
        lambda: -float((model(points) - solution).pow(2).mean().sqrt()),
    )


def _poisson(model: nn.Module, *, lr: float = 3e-3, steps: int = 300) -> Experiment:
    points = torch.linspace(-1, 1, 64)[:, None]
    return _experiment(model, poisson, points, torch.sin(math.pi * points), lr=lr, steps=steps)


def pinn_sigmoid_deep(cured: bool) -> Experiment:
    """Ten sigmoid layers with default weights; cured: tanh, Xavier."""
    model = mlp([1] + [32] * 10 + [1], nn.Tanh if cured else nn.Sigmoid)
    if cured:
        init(model, nn.init.xavier_normal_)
    return _poisson(model, lr=1e-3)


def pinn_leaky_relu(cured: bool) -> Experiment:
    """Leaky ReLUs, whose second derivative is 0 too; cured: SiLU."""
    model = mlp([1, 32, 32, 32, 1], nn.SiLU if cured else lambda: nn.LeakyReLU(0.1))
    return _poisson(model)


def pinn_seconds_for_hours(cured: bool) -> Experiment:
    """Time in seconds (0 to 18,000) into tanh: all are saturated; cured: in hours."""
    hours = torch.linspace(0, 5, 64)[:, None]
    model = mlp([1, 32, 32, 32, 1], nn.Tanh)
    scale = 1.0 if cured else 3600.0

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        t = batch[0].clone().requires_grad_()
        u = model(t)
        residual = derivative(u, t) * scale + u
        return residual.pow(2).mean() + (model(torch.zeros(1, 1)) - 1).pow(2).mean()

    return _experiment(model, loss, hours * scale, torch.exp(-hours))


def ok_pinn_siren(cured: bool) -> Experiment:
    """Sines with SIREN's weights: slopes of both signs, gradients that are large in front."""
    model = mlp([1, 32, 32, 32, 1], Sine)
    init(model, lecun)
    with torch.no_grad():
        model.get_parameter("linear0.weight").uniform_(-6, 6)
    return _poisson(model, lr=1e-3)


def ok_pinn_saturated_front(cured: bool) -> Experiment:
    """Steep first weights: most of the first tanh layer is saturated, and yet it solves it."""
    model = mlp([1, 64, 32, 32, 1], nn.Tanh)
    init(model, nn.init.xavier_normal_)
    with torch.no_grad():
        model.get_parameter("linear0.weight").normal_(std=10.0)
        model.get_parameter("linear0.bias").uniform_(-10.0, 10.0)
    return _poisson(model, steps=400)


def ok_pinn_burgers(cured: bool) -> Experiment:
    """Burgers' equation by tanh: first and second derivatives by two inputs."""
    model = mlp([2, 32, 32, 32, 1], nn.Tanh)
    init(model, nn.init.xavier_normal_)
    points = torch.rand(256, 2) * torch.tensor([2.0, 1.0]) - torch.tensor([1.0, 0.0])
    experiment = _experiment(model, burgers, points, torch.zeros(256, 1), steps=300)
    experiment.score = None
    return experiment


def ok_pinn_decay(cured: bool) -> Experiment:
    """u' = -u by softplus: a first derivative only."""
    model = mlp([1, 32, 32, 1], nn.Softplus)
    init(model, nn.init.xavier_normal_)
    times = torch.linspace(0, 5, 64)[:, None]
    return _experiment(model, decay, times, torch.exp(-times), lr=1e-2)


CASES = (
    own(
        "pinn_sigmoid_deep",
        "small weights or slopes",
        "the sigmoid's slope, ten times, in a physics-informed net",
        pinn_sigmoid_deep,
        ("vanishing",),
        cure="tanh with Xavier's weights",
        factors=("slope", "weight"),
        bad=-0.5,
        good=-0.1,
    ),
    own(
        "pinn_leaky_relu",
        "not a gradient-depth problem",
        "a leaky ReLU's second derivative is 0: the residual sends no gradient",
        pinn_leaky_relu,
        ("vanishing", "cut-graph"),
        cure="a smooth activation",
        factors=("slope",),
        bad=-0.3,
        good=-0.1,
    ),
    own(
        "pinn_seconds_for_hours",
        "saturation",
        "inputs of 0 to 18,000 put every first tanh at its end",
        pinn_seconds_for_hours,
        ("vanishing",),
        cure="scale the inputs",
        factors=("slope",),
        layers=("act0", "linear0"),
        names="input_rms",
        bad=-0.2,
        good=-0.1,
    ),
    own_healthy("ok_pinn_siren", "sines: slopes of both signs", -0.1, ok_pinn_siren),
    own_healthy(
        "ok_pinn_saturated_front",
        "a saturated first layer that solves it",
        -0.1,
        ok_pinn_saturated_front,
    ),
    own_healthy("ok_pinn_burgers", "Burgers' equation by tanh", -0.1, ok_pinn_burgers),
    own_healthy("ok_pinn_decay", "a first derivative only", -0.1, ok_pinn_decay),
)
