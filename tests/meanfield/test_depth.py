"""Predicted gains of deep networks against measured ones, and their spread over weights."""

import math

import numpy as np
import pytest

from unvanish.errors import UsageError
from unvanish.meanfield import named
from unvanish.meanfield.activation import Activation, Array
from unvanish.meanfield.depth import log_variances, propagate
from unvanish.meanfield.maps import Layer


def measured_log10(
    layer: Layer, depth: int, width: int, samples: int, rng: np.random.Generator
) -> Array:
    """log10 of the gain of a random cotangent's norm through `depth` layers, by sample."""
    activation = layer.activation
    z = rng.standard_normal((samples, width))  # length 1
    slopes, weights = [], []
    for _ in range(depth):
        noise = rng.standard_normal((width, width), dtype=np.float32)
        weights.append(noise * np.float32(layer.sigma_w / np.sqrt(width)))
        slopes.append(activation.df(z))
        z = activation.f(z) @ weights[-1].T + layer.sigma_b * rng.standard_normal(width)
    gradient = rng.standard_normal((samples, width))
    start = np.linalg.norm(gradient, axis=1)
    for slope, weight in zip(reversed(slopes), reversed(weights), strict=True):
        gradient = slope * (gradient @ weight)
    return np.log10(np.linalg.norm(gradient, axis=1) / start)


SETTINGS = [
    ("linear", 1.0, 0.0),
    ("sigmoid", 3.0**-0.5, 0.0),
    ("tanh", 1.0, 0.3),
    ("tanh", 5 / 3, 0.0),
    ("relu", 2.0**0.5, 0.0),
    ("leaky_relu(0.2)", 1.3867504905630728, 0.0),
    ("elu", 1.2, 0.1),
    ("selu", 1.0, 0.0),
    ("gelu", 3.0**-0.5, 0.0),
    ("silu", 3.0**-0.5, 0.2),
    ("hardtanh", 1.2, 0.1),
    ("softplus", 1.0, 0.0),
]


@pytest.mark.parametrize(("name", "sigma_w", "sigma_b"), SETTINGS)
def test_factor_per_layer_at_width_512(name: str, sigma_w: float, sigma_b: float) -> None:
    """Within 2 % a layer, in norm: 12 layers of 512 units, 5 nets, 4 samples each.

    One net's log-gain has a spread of √(12 (3κ − 1)/512)/2 = 0.17 (κ = 2): over 5 nets and 12
    layers, 0.6 % a layer.
    """
    layer, depth = Layer(named(name), sigma_w, sigma_b), 12
    rng = np.random.default_rng(7)
    measured = np.mean([measured_log10(layer, depth, 512, 4, rng).mean() for _ in range(5)])
    predicted = propagate(layer, depth).gain_log10
    assert 10.0 ** ((measured - predicted) / depth) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(
    ("name", "sigma_w", "sigma_b"),
    [("linear", 1.0, 0.0), ("relu", 2.0**0.5, 0.0), ("tanh", 5 / 3, 0.0), ("gelu", 1.4, 0.4)],
)
def test_spread_and_median_over_weights_at_finite_width(
    name: str, sigma_w: float, sigma_b: float
) -> None:
    """250 nets: a standard deviation is known to 4.5 %, a mean to 6 % of one; twice that for each.

    And 10 % for what is of second order in depth/width = 0.15.
    """
    layer, depth, width = Layer(named(name), sigma_w, sigma_b), 12, 80
    rng = np.random.default_rng(3)
    measured = [measured_log10(layer, depth, width, 1, rng)[0] for _ in range(250)]
    profile = propagate(layer, depth, width=width)
    assert np.std(measured) == pytest.approx(profile.spread_log10, rel=0.19)
    assert np.mean(measured) == pytest.approx(profile.median_log10, abs=0.22 * profile.spread_log10)


def test_variances_by_formula() -> None:
    """2/n a layer for linear layers, 5/n for ReLU (Hanin & Nica 2020), nothing by the lengths."""
    by_weights, by_lengths = log_variances(Layer(named("linear"), 1.0), [1.0] * 8, [100] * 8)
    assert (by_weights, by_lengths) == pytest.approx((0.16, 0.0), abs=1e-14)
    by_weights, by_lengths = log_variances(Layer(named("relu"), 1.3), [1.0, 5.0], [50, 200])
    assert (by_weights, by_lengths) == pytest.approx((5 / 50 + 5 / 200, 0.0), abs=1e-14)


def test_default_sigmoid_layers() -> None:
    """PyTorch's default, σ_w² = 1/3: 0.577 × 0.247 = ×0.143 a layer."""
    profile = propagate(Layer(named("sigmoid"), 3.0**-0.5), 4)
    assert 10.0 ** profile.gains_log10[-1] == pytest.approx(0.143, rel=0.02)
    assert len(profile.lengths) == 4
    assert profile.gain_log10 == pytest.approx(sum(profile.gains_log10))
    assert profile.spread_log10 is None


def test_amplification_warns_where_lengths_run_away() -> None:
    gelu = Layer(named("gelu"), 1.5335304411955353)
    assert propagate(gelu, 50).amplification_log10 > 2.0
    assert propagate(Layer(named("tanh"), 1.2), 50).amplification_log10 < 0.0


def test_lengths_stay_within_what_doubles_hold() -> None:
    square = Layer(named("squared_relu"), 1.0)
    assert all(1e-14 <= q <= 1e14 for q in propagate(square, 30).lengths)
    assert propagate(square, 30, start=0.1).lengths[-1] == 1e-14
    flat = Activation("flat", np.zeros_like, np.zeros_like)
    assert propagate(Layer(flat, 1.0), 2).gain_log10 == -math.inf


def test_a_depth_of_zero_is_refused() -> None:
    with pytest.raises(UsageError):
        propagate(Layer(named("tanh"), 1.0), 0)
