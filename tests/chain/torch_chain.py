"""The same chain in torch, differentiated by autograd: what the pure Python one is held against."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from unvanish.chain import Chain
from unvanish.chain.solution import forward

VALUES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "leaky_relu": torch.nn.functional.leaky_relu,
    "elu": torch.nn.functional.elu,
    # torch's softplus is linear beyond 20; logaddexp is the function itself
    "softplus": lambda z: torch.logaddexp(z, torch.zeros_like(z)),
    "softsign": torch.nn.functional.softsign,
    "linear": lambda z: z * 1.0,
}


@dataclass(frozen=True)
class Gradients:
    output: float
    input_gain: float
    factors: list[float]
    da_dw: list[float]
    da_db: list[float]
    dc_dw: list[float]
    dc_db: list[float]


def gradients(chain: Chain, a_0: float, target: float) -> Gradients:
    x = torch.tensor(a_0, dtype=torch.float64, requires_grad=True)
    w = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in chain.weights]
    b = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in chain.biases]
    activations = [x]
    for weight, bias in zip(w, b, strict=True):
        activations.append(VALUES[chain.activation](weight * activations[-1] + bias))
    output = activations[-1]
    inner = torch.autograd.grad(output, [x, *w, *b], retain_graph=True)
    cost = torch.autograd.grad(0.5 * (output - target) ** 2, [*w, *b], retain_graph=True)
    factors = [
        torch.autograd.grad(after, before, retain_graph=True)[0].item()
        for before, after in itertools.pairwise(activations)
    ]
    depth = chain.depth
    return Gradients(
        output=output.item(),
        input_gain=inner[0].item(),
        factors=factors,
        da_dw=[g.item() for g in inner[1 : depth + 1]],
        da_db=[g.item() for g in inner[depth + 1 :]],
        dc_dw=[g.item() for g in cost[:depth]],
        dc_db=[g.item() for g in cost[depth:]],
    )


def exact_sigmoid(z: torch.Tensor) -> torch.Tensor:
    """The sigmoid in a form whose derivative autograd finds without cancellation."""
    return torch.exp(-torch.logaddexp(torch.zeros_like(z), -z))


def local_log10_gains(chain: Chain, a_0: float, exact: bool = False) -> list[float]:
    """log10 |da_k/da_{k-1}| of each neuron on its own, where no product can underflow."""
    value = exact_sigmoid if exact else VALUES[chain.activation]
    _zs, activations = forward(chain, a_0)
    gains = []
    for weight, bias, before in zip(chain.weights, chain.biases, activations[:-1], strict=True):
        a = torch.tensor(before, dtype=torch.float64, requires_grad=True)
        (gain,) = torch.autograd.grad(value(weight * a + bias), a)
        gains.append(math.log10(abs(gain.item())))
    return gains
