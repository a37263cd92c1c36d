"""Length and correlation maps, their fixed points, phases and depth scales."""

import math

import numpy as np
import pytest

from unvanish.errors import UsageError
from unvanish.meanfield import NAMES, named
from unvanish.meanfield.maps import (
    Layer,
    correlation_fixed_point,
    fixed_point,
    length_fixed_point,
    length_fixed_points,
)

# σ_w² and 6 ξ_c of tanh at σ_b² = 0.05, as published for the trainability boundary
BOUNDARY = {1.0: 21.8, 1.25: 40.8, 1.5: 94.7, 1.75: 2557, 2.0: 151, 2.5: 70.8, 3.0: 54.3, 4.0: 41.9}


@pytest.mark.parametrize(("sigma_w2", "depth"), BOUNDARY.items())
def test_trainable_depth_of_tanh(sigma_w2: float, depth: float) -> None:
    point = fixed_point(Layer(named("tanh"), sigma_w2**0.5, 0.05**0.5))
    assert point.trainable_depth == pytest.approx(depth, rel=2.5e-3)  # printed with 3 digits
    assert point.phase == ("ordered" if sigma_w2 < 1.76 else "chaotic")
    assert (point.correlation == 1.0) == (point.phase == "ordered")


@pytest.mark.parametrize("sigma_b", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("sigma_w", [3.0**-0.5, 1.0, 1.4, 2.5])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "hardshrink"])
def test_a_fixed_point_is_fixed(name: str, sigma_w: float, sigma_b: float) -> None:
    layer = Layer(named(name), sigma_w, sigma_b)
    point = fixed_point(layer)
    if not 0.0 < point.q < math.inf:
        return
    assert layer.length(point.q) == pytest.approx(point.q, rel=1e-12)
    assert layer.correlation(point.q, point.correlation) == pytest.approx(
        point.correlation, rel=1e-9, abs=1e-12
    )
    if point.phase != "critical":
        assert abs(layer.correlation_slope(point.q, point.correlation)) < 1.0


@pytest.mark.parametrize("name", ["tanh", "hardtanh", "softsign", "erf", "sin"])
def test_fixed_points_are_where_iteration_ends(name: str) -> None:
    layer = Layer(named(name), 2.5, 0.5)
    q, c = 1.0, 0.1
    for _ in range(150):
        q, c = layer.length(q), layer.correlation(q, c)
    point = fixed_point(layer)
    assert q == pytest.approx(point.q, rel=1e-10)
    # a difference shrinks by 0.92 a layer at most: 150 layers leave 4e-6 of it
    assert c == pytest.approx(point.correlation, abs=1e-5)


def test_length_slope_is_the_derivative_of_the_length_map() -> None:
    layer, q, h = Layer(named("silu"), 1.7, 0.2), 2.0, 1e-4
    slope = (layer.length(q + h) - layer.length(q - h)) / (2 * h)
    assert layer.length_slope(q) == pytest.approx(slope, abs=1e-8)


def test_correlation_slope_is_the_derivative_of_the_correlation_map() -> None:
    for name in ("tanh", "relu", "hardtanh"):
        layer, c, h = Layer(named(name), 1.5, 0.3), 0.6, 1e-5
        q = 1.3
        slope = (layer.correlation(q, c + h) - layer.correlation(q, c - h)) / (2 * h)
        assert layer.correlation_slope(q, c) == pytest.approx(slope, abs=1e-8)


def test_lengths_that_vanish_explode_or_stay() -> None:
    assert length_fixed_point(Layer(named("relu"), 1.3)) == 0.0
    assert length_fixed_point(Layer(named("relu"), 1.5)) == math.inf
    assert length_fixed_point(Layer(named("relu"), 2.0**0.5), start=7.0) == 7.0
    # relu with a bias: q = σ_b²/(1 − σ_w²/2)
    assert length_fixed_point(Layer(named("relu"), 1.2, 0.5)) == pytest.approx(0.25 / 0.28)


def test_gelu_has_two_fixed_points_and_the_start_decides() -> None:
    layer = Layer(named("gelu"), 1.46, 0.3)
    low, high = length_fixed_points(layer)
    assert layer.length_slope(low) < 1.0 < layer.length_slope(high)
    assert length_fixed_point(layer, start=0.5 * (low + high)) == pytest.approx(low)
    assert length_fixed_point(layer, start=2.0 * high) == math.inf


def test_at_the_forward_gain_gelu_keeps_a_length_that_it_does_not_hold() -> None:
    point = fixed_point(Layer(named("gelu"), 1.5335304411955353))
    assert point.q == pytest.approx(1.0, rel=1e-12)
    assert point.chi_parallel == pytest.approx(1.1440631968725838, rel=1e-9)
    assert not point.stable


def test_dropout_parts_equal_inputs_and_bounds_the_depth() -> None:
    """Schoenholz et al. 2017: without dropout ξ_c diverges at the critical point, with it not."""
    critical = Layer(named("relu"), 2.0**0.5)
    assert fixed_point(critical).trainable_depth == math.inf
    dropped = Layer(named("relu"), 1.8**0.5, keep=0.9)  # σ_w²/(2 keep) = 1: lengths stay
    assert dropped.length(3.0) == pytest.approx(3.0)
    assert dropped.gradient_growth(3.0) == pytest.approx(1.0)
    assert dropped.correlation(3.0, 1.0) == pytest.approx(0.9)
    point = fixed_point(dropped)
    assert point.correlation < 0.9
    assert point.trainable_depth < 60.0


def test_an_uncorrelated_pair_stays_so_without_a_mean_and_a_bias() -> None:
    assert correlation_fixed_point(Layer(named("tanh"), 1.8), 1.0) == pytest.approx(0.0, abs=1e-12)


def test_a_relu_layer_maps_correlations_by_the_arc_cosine_kernel() -> None:
    layer, c = Layer(named("relu"), 2.0**0.5), 0.3
    angle = math.acos(c)
    kernel = (math.sin(angle) + (math.pi - angle) * c) / math.pi
    assert layer.correlation(5.0, c) == pytest.approx(kernel, rel=1e-14)


@pytest.mark.parametrize(
    "wrong", [{"sigma_w": 0.0}, {"sigma_w": 1.0, "sigma_b": -1.0}, {"sigma_w": 1.0, "keep": 0.0}]
)
def test_what_is_no_layer_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Layer(named("tanh"), **wrong)


@pytest.mark.parametrize("name", ["tanh", "gelu", "sigmoid", "hardtanh"])
def test_maps_are_those_of_a_wide_random_layer(name: str) -> None:
    """One layer of 300 units on two inputs, 60 draws of W: means within 4 standard errors.

    Over W, these means are those of the limit at any width.
    """
    activation, sigma_w, sigma_b, q, c = named(name), 1.6, 0.4, 1.2, 0.7
    rng, width = np.random.default_rng(0), 300
    lengths, products, gradients = [], [], []
    for _ in range(60):
        first, second = rng.standard_normal((2, width))
        z = np.sqrt(q) * np.stack([first, c * first + np.sqrt(1 - c * c) * second])
        weights = rng.standard_normal((width, width)) * sigma_w / np.sqrt(width)
        bias = sigma_b * rng.standard_normal(width)
        out = activation.f(z) @ weights.T + bias
        lengths.append(np.mean(out[0] ** 2))
        products.append(np.mean(out[0] * out[1]))
        cotangent = rng.standard_normal(width)
        back = activation.df(z[0]) * (weights.T @ cotangent)
        gradients.append((back @ back) / (cotangent @ cotangent))
    layer = Layer(activation, sigma_w, sigma_b)
    expected = (
        layer.length(q),
        layer.correlation(q, c) * layer.length(q),
        layer.gradient_growth(q),
    )
    for sample, value in zip((lengths, products, gradients), expected, strict=True):
        error = np.std(sample) / np.sqrt(len(sample))
        assert np.mean(sample) == pytest.approx(value, abs=4.0 * error)
