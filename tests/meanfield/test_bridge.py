"""Activations given as torch functions, modules and callables."""

import functools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from unvanish.errors import UsageError, UserCodeError
from unvanish.meanfield import named
from unvanish.meanfield.bridge import resolve
from unvanish.meanfield.moments import moments

MODULES = [
    nn.Identity(),
    nn.Sigmoid(),
    nn.Tanh(),
    nn.ReLU(),
    nn.LeakyReLU(0.2),
    nn.PReLU(init=0.1),
    nn.ReLU6(),
    nn.ELU(alpha=0.7),
    nn.SELU(),
    nn.CELU(alpha=2.0),
    nn.GELU(),
    nn.GELU(approximate="tanh"),
    nn.SiLU(),
    nn.Mish(),
    nn.Softplus(beta=3.0),
    nn.LogSigmoid(),
    nn.Hardswish(),
    nn.Hardtanh(-2.0, 0.5),
    nn.Hardsigmoid(),
    nn.Softsign(),
    nn.Softshrink(0.3),
    nn.Hardshrink(0.4),
    nn.Tanhshrink(),
    nn.RReLU().eval(),
]


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_modules_are_known_with_their_own_parameters(module: nn.Module) -> None:
    ours = resolve(module)
    assert ours.slope_supremum is not None  # by formula, not by autograd
    z = np.linspace(-8.0, 8.0, 641) + 1e-3
    with torch.no_grad():
        theirs = module.double()(torch.tensor(z)).numpy()
    # 1e-7: PReLU's and Hardsigmoid's constants are float32; Softplus's threshold gives 2e-9
    np.testing.assert_allclose(ours.f(z), theirs, atol=1e-7)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (functional.gelu, "gelu"),
        (torch.tanh, "tanh"),
        (torch.Tensor.tanh, "tanh"),
        (torch.relu, "relu"),
        (functional.relu, "relu"),
        (torch.relu_, "relu"),
        (torch.special.erf, "erf"),
        (torch.special.expit, "sigmoid"),
        (torch.sin, "sin"),
        (functional.logsigmoid, "logsigmoid"),
        (functional.silu, "silu"),
        (functional.softplus, "softplus"),
        (functools.partial(functional.gelu, approximate="tanh"), "gelu_tanh"),
        (functools.partial(functional.leaky_relu, negative_slope=0.2), "leaky_relu(0.2)"),
        (functools.partial(functional.elu, alpha=0.5, inplace=True), "elu(alpha=0.5)"),
        (nn.GELU, "gelu"),
        ("SiLU", "silu"),
    ],
)
def test_torch_functions_are_known(function: object, name: str) -> None:
    assert resolve(function) is named(name)


def test_prelu_with_a_slope_for_each_channel_keeps_lengths() -> None:
    module = nn.PReLU(2)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([0.0, 0.6]))
    # E φ² over both channels is (1 + (0² + 0.6²)/2)/2
    assert moments(resolve(module), 1.0).second == pytest.approx(0.5 * (1.0 + 0.18), rel=1e-7)


class OwnSwish(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.tensor(1.0))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z * torch.sigmoid(self.beta * z)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda z: z * torch.sigmoid(z), "silu"),
        (OwnSwish(), "silu"),
        (nn.Sequential(nn.Tanh()), "tanh"),
        (lambda z: z.clamp(min=0.0), "relu"),
        (lambda z: functional.relu_(z), "relu"),
        (lambda z: torch.where(z > 0, z, 0.2 * z), "leaky_relu(0.2)"),
        (lambda z: z * (z + 3).clamp(0, 6) / 6, "hardswish"),
        (lambda z: torch.where(z > 0, z, torch.expm1(z)), "elu"),
        (lambda z: functional.relu(z) ** 2, "squared_relu"),
    ],
)
def test_callables_have_the_moments_of_their_formula(function: object, name: str) -> None:
    ours, formula = moments(resolve(function), 1.0), moments(named(name), 1.0)
    for field in ("mean", "second", "variance", "slope_second", "length_slope"):
        assert getattr(ours, field) == pytest.approx(getattr(formula, field), rel=1e-12)
    assert ours.surplus == pytest.approx(formula.surplus, rel=1e-12, abs=1e-15)


def test_kinks_are_found_or_declared() -> None:
    assert resolve(lambda z: (z - 0.3).abs() + (z + math.pi).relu()).kinks == pytest.approx(
        (-math.pi, 0.3), abs=1e-12
    )
    assert resolve(torch.abs).kinks == (0.0,)
    assert resolve(lambda z: torch.tanh(z)).kinks == ()
    assert resolve(lambda z: z.relu(), kinks=[0.0, 2.0]).kinks == (0.0, 2.0)


def test_jumps_are_found() -> None:
    assert resolve(nn.Threshold(1.0, -20.0)).jumps == (1.0,)
    assert resolve(lambda z: z * (z > 0.25)).jumps == (0.25,)
    assert resolve(nn.Softplus(threshold=1.0)).jumps == pytest.approx((1.0,), abs=1e-12)


def test_results_are_the_same_whatever_the_grad_mode() -> None:
    activation = resolve(lambda z: z * torch.sigmoid(2 * z))
    outside = activation.df(np.array([0.7]))
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert activation.df(np.array([0.7])) == outside


def test_a_module_is_not_touched() -> None:
    module = OwnSwish().train()
    resolve(module)
    assert module.beta.dtype == torch.float32
    assert module.beta.grad is None
    assert module.training


@pytest.mark.parametrize(
    "function",
    [
        lambda z: torch.softmax(z, -1),
        lambda z: z - z.mean(),
        lambda z: z.sum(),
        lambda z: z * torch.rand_like(z),
        lambda z: torch.sqrt(z),
        nn.GLU(),
        3.0,
    ],
)
def test_what_is_not_element_wise_is_refused(function: object) -> None:
    with pytest.raises(UsageError):
        resolve(function)


def test_a_callable_that_raises_says_what_it_has_to_take() -> None:
    with pytest.raises(UserCodeError, match="float64 tensor"):
        resolve(lambda z: math.tanh(z))
