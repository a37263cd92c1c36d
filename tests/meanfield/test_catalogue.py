"""Activations by name, and what is read off them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from unvanish.errors import UnknownNameError, UsageError
from unvanish.meanfield import NAMES, Activation, named, negative_slope, slope_supremum
from unvanish.meanfield.catalogue import CATALOGUE

REFERENCE = json.loads(
    (Path(__file__).parent.parent / "data" / "activation_reference.json").read_text()
)["activations"]

# what torch computes under each name
IN_TORCH = {
    "linear": lambda z: z * 1.0,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "leaky_relu": functional.leaky_relu,
    "prelu": lambda z: functional.prelu(z, torch.tensor([0.25], dtype=z.dtype)),
    "relu6": functional.relu6,
    "elu": functional.elu,
    "selu": functional.selu,
    "celu": functional.celu,
    "gelu": functional.gelu,
    "gelu_tanh": lambda z: functional.gelu(z, approximate="tanh"),
    "quick_gelu": lambda z: z * torch.sigmoid(1.702 * z),
    "silu": functional.silu,
    "mish": functional.mish,
    "softplus": lambda z: functional.softplus(z, threshold=100.0),
    "logsigmoid": functional.logsigmoid,
    "hardswish": functional.hardswish,
    "hardtanh": functional.hardtanh,
    "hardsigmoid": functional.hardsigmoid,
    "softsign": functional.softsign,
    "squared_relu": lambda z: torch.relu(z) ** 2,
    "erf": torch.erf,
    "sin": torch.sin,
    "softshrink": functional.softshrink,
    "hardshrink": functional.hardshrink,
    "tanhshrink": functional.tanhshrink,
}


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"rrelu"}))
def test_value_slope_and_curvature_are_those_of_torch(name: str) -> None:
    ours = named(name)
    points = np.concatenate([np.linspace(-40.0, 40.0, 1601) + 1e-3, [-700.3, 700.3]])
    z = torch.tensor(points, requires_grad=True)
    value = IN_TORCH[name](z)
    (slope,) = torch.autograd.grad(value.sum(), z, create_graph=True)
    # 1e-13: both sides round each of a few operations, and 1 - tanh² in torch loses digits
    scale = np.maximum(1.0, np.abs(value.detach().numpy()))
    np.testing.assert_allclose(ours.f(points) / scale, value.detach().numpy() / scale, atol=1e-13)
    # torch's hardsigmoid takes 1/6 in float32, also for float64 tensors
    rtol = 3e-8 if name == "hardsigmoid" else 1e-12
    np.testing.assert_allclose(ours.df(points), slope.detach().numpy(), rtol=rtol, atol=1e-13)
    # (and has no second derivative of it)
    if slope.requires_grad and ours.ddf is not None and name != "hardsigmoid":
        (curvature,) = torch.autograd.grad(slope.sum(), z, allow_unused=True)
        if curvature is not None:
            np.testing.assert_allclose(ours.ddf(points), curvature.numpy(), atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_the_supremum_bounds_the_slope_and_is_approached(name: str) -> None:
    activation = named(name)
    z = np.linspace(-60.0, 60.0, 600_001)
    greatest = float(np.abs(activation.df(z)).max())
    if name == "squared_relu":
        assert activation.slope_supremum is None
        assert greatest > 100.0
        return
    assert activation.slope_supremum is not None
    # a grid of step 2e-4 misses a smooth maximum by its curvature times 1e-8
    assert greatest <= activation.slope_supremum * (1.0 + 1e-14)
    assert greatest == pytest.approx(activation.slope_supremum, rel=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_declared_kinks_are_where_torch_is_not_smooth(name: str) -> None:
    """Between the kinks a third difference is small; φ jumps exactly where `jumps` says."""
    activation = named(name)
    step = 1e-6
    for kink in (-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0, 6.0):
        near = activation.f(np.array([kink - step, kink + step]))
        jumps = abs(near[1] - near[0]) > 1e-3
        assert jumps == (kink in activation.jumps)
        if kink not in activation.kinks:
            left, right = activation.slopes_around(kink)
            assert left == pytest.approx(right, abs=1e-7)


def test_every_name_of_the_reference_file_is_known() -> None:
    assert len(REFERENCE) == 22
    for name in REFERENCE:
        assert isinstance(named(name), Activation)


def test_suprema_and_negative_slopes_by_plain_name() -> None:
    assert slope_supremum("sigmoid") == 0.25
    assert slope_supremum("leaky_relu", negative_slope=-3.0) == 3.0
    assert slope_supremum("elu", alpha=2.0) == 2.0
    assert slope_supremum("LogSigmoid") == 1.0
    assert slope_supremum("squared_relu") is None
    assert slope_supremum("softmax") is None
    assert negative_slope("relu") == 0.0
    assert negative_slope("leaky_relu", negative_slope=0.2) == 0.2
    assert negative_slope("linear") == 1.0
    assert negative_slope("relu6") is None
    assert negative_slope("no such op") is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("leaky_relu_0.2", "leaky_relu(0.2)"),
        ("leaky_relu(0.2)", "leaky_relu(0.2)"),
        ("LeakyReLU(negative_slope=0.2)", "leaky_relu(0.2)"),
        ("elu(alpha=0.5)", "elu(alpha=0.5)"),
        ("Hardtanh(-2, 2)", "hardtanh(-2, 2)"),
        ("SiLU", "silu"),
        ("relu6", "relu6"),
    ],
)
def test_names_with_parameters(text: str, name: str) -> None:
    assert named(text).name == name


def test_an_unknown_name_lists_the_known_and_shows_how_to_pass_a_callable() -> None:
    with pytest.raises(UnknownNameError) as caught:
        named("gellu")
    message = str(caught.value)
    assert all(entry.name in message for entry in CATALOGUE)
    assert "lambda z" in message


@pytest.mark.parametrize("text", ["gelu(0.3)", "leaky_relu(x)", "elu(beta=2)"])
def test_wrong_parameters_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        named(text)
