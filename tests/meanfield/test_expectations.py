"""The table of expectations against quadrature to 1e-12, and against closed forms for pairs."""

import math

import numpy as np
import pytest

from unvanish.meanfield import named, pairs
from unvanish.meanfield.expectations import expectations
from unvanish.meanfield.moments import moments

NAMES = [
    "sigmoid",
    "tanh",
    "relu",
    "leaky_relu(0.2)",
    "gelu",
    "silu",
    "elu",
    "softplus",
    "hardtanh",
]
LENGTHS = [1e-3, 0.037, 0.3, 0.71, 1.0, 1.9, 5.3, 20.0, 300.0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("q", LENGTHS)
def test_between_the_entries_of_the_table(name: str, q: float) -> None:
    """2e-4: a cubic over a third of a decade; 1e-5 and better for what is smooth."""
    activation = named(name)
    quick, exact = expectations(activation, q), moments(activation, q)
    assert quick.second == pytest.approx(exact.second, rel=2e-4)
    assert quick.slope_second == pytest.approx(exact.slope_second, rel=2e-4)
    assert quick.mean == pytest.approx(exact.mean, abs=2e-4 * math.sqrt(exact.second))
    assert quick.kurtosis == pytest.approx(exact.kurtosis, rel=2e-4)
    assert quick.fourth == pytest.approx(exact.fourth / exact.second**2, rel=2e-4)
    product = exact.second * exact.slope_second
    assert quick.mixed == pytest.approx(exact.mixed_fourth / product, rel=2e-4)
    lengths = exact.length_slope * q / exact.second
    slopes = exact.slope_second_slope * q / exact.slope_second
    assert quick.length_elasticity == pytest.approx(lengths, abs=2e-4)
    assert quick.slope_elasticity == pytest.approx(slopes, abs=2e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("c", [-0.3, 0.0, 0.5, 0.9, 1.0])
def test_pairs_of_inputs(name: str, c: float) -> None:
    """A jump of the slope converges slowly near c = 1: 2e-3 there, where it is an error bar's."""
    activation, q = named(name), 1.0
    quick = expectations(activation, q)
    second = moments(activation, q).second
    slope = moments(activation, q).slope_second
    product = pairs.product(activation, q, c)
    assert quick.product(c) == pytest.approx(product, abs=1e-4 * second)
    slopes = pairs.slope_product(activation, q, c)
    assert quick.slope_product(c) == pytest.approx(slopes, abs=4e-3 * slope)


def test_kurtosis_of_pairs() -> None:
    """ReLU's squared slope is a step: 1 + (2/π) asin c. 1 without correlation, κ with full."""
    relu = expectations(named("relu"), 2.5)
    for c in (-0.5, 0.0, 0.3, 0.6):
        assert relu.pair_kurtosis(c) == pytest.approx(1.0 + 2.0 / math.pi * math.asin(c), abs=2e-3)
    for name in NAMES:
        found = expectations(named(name), 0.8)
        assert found.pair_kurtosis(1.0) == pytest.approx(found.kurtosis, rel=1e-9)
        assert found.pair_kurtosis(0.0) == pytest.approx(1.0, abs=1e-4)


def test_far_lengths_are_held() -> None:
    tiny = expectations(named("tanh"), 1e-40)
    assert tiny.slope_second == pytest.approx(1.0)
    assert np.isfinite(expectations(named("sigmoid"), 1e40).slope_second)
