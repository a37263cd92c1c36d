"""Moments, closed forms and correlated pairs, each against another way to the same number."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate, stats

from unvanish.errors import UsageError
from unvanish.meanfield import NAMES, named
from unvanish.meanfield.activation import Activation
from unvanish.meanfield.moments import curvature_mean_square, moments
from unvanish.meanfield.pairs import (
    _nested,
    hermite,
    product,
    rough_product,
    slope_product,
)

CLOSED = [name for name in NAMES if named(name).closed is not None]
SHAPES = ["tanh", "hardtanh", "elu", "silu", "hardswish", "selu", "relu6", "hardshrink"]
LENGTHS = (1e-6, 0.3, 1.0, 30.0, 1e6)


def numeric(name: str) -> Activation:
    return replace(named(name), closed=None, negative_slope=None)


def test_these_have_closed_forms() -> None:
    expected = {"linear", "relu", "leaky_relu", "gelu", "erf", "sin", "squared_relu"}
    assert expected <= set(CLOSED)


@pytest.mark.parametrize("q", LENGTHS)
@pytest.mark.parametrize("name", CLOSED)
def test_closed_moments_are_those_of_quadrature(name: str, q: float) -> None:
    exact, measured = moments(named(name), q), moments(numeric(name), q)
    assert measured.second == pytest.approx(exact.second, rel=1e-12)
    assert measured.slope_second == pytest.approx(exact.slope_second, rel=1e-12)
    assert measured.length_slope == pytest.approx(exact.length_slope, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("c", [-1.0, -0.9, 0.0, 0.3, 0.9, 0.99, 1.0 - 1e-6, 1.0])
@pytest.mark.parametrize("q", [1e-6, 0.3, 1.0, 30.0])
@pytest.mark.parametrize("name", CLOSED)
def test_closed_pairs_are_those_of_series_and_nested_quadrature(
    name: str, q: float, c: float
) -> None:
    exact, measured = named(name), numeric(name)
    m = moments(exact, q)
    assert product(measured, q, c) == pytest.approx(product(exact, q, c), abs=1e-12 * m.second)
    assert slope_product(measured, q, c) == pytest.approx(
        slope_product(exact, q, c), abs=1e-12 * m.slope_second
    )


@pytest.mark.parametrize("q", [0.01, 1.0, 20.0])
@pytest.mark.parametrize("name", SHAPES)
def test_series_and_nested_quadrature_agree_within_the_bound_of_the_series(
    name: str, q: float
) -> None:
    """What the series leaves out lies between 0 and (E φ² − Σ aₙ²) |c|ᴺ."""
    activation, c = named(name), 0.95
    m, squares = moments(activation, q), hermite(activation, q) ** 2
    series = float(np.polynomial.polynomial.polyval(c, squares))
    nested = m.second - _nested(activation.f, activation.kinks, q, c)
    left_out = max(m.second - float(squares.sum()), 0.0) * c ** len(squares)
    assert -1e-13 * m.second <= nested - series <= left_out + 1e-13 * m.second


@pytest.mark.parametrize("name", [name for name in NAMES if not named(name).jumps])
def test_rough_products_are_exact_at_both_ends_and_near_in_between(name: str) -> None:
    activation = named(name)
    m = moments(activation, 1.5)
    for c, allowed in ((0.0, 1e-12), (0.5, 1e-12), (0.97, 2e-3), (1.0, 1e-12)):
        exact = product(activation, 1.5, c)
        assert rough_product(activation, 1.5, c) == pytest.approx(exact, abs=allowed * m.second)


def test_pairs_against_scipy() -> None:
    activation, q, c = named("softplus"), 2.0, 0.6
    density = stats.multivariate_normal(cov=[[q, q * c], [q * c, q]])

    def integrand(y: float, x: float) -> float:
        both = activation.f(np.array([x, y]))
        return float(both[0] * both[1] * density.pdf([x, y]))

    value, _ = integrate.dblquad(integrand, -11, 11, -11, 11, epsabs=1e-8, epsrel=1e-8)
    assert product(activation, q, c) == pytest.approx(value, rel=1e-7)


@pytest.mark.parametrize("name", ["tanh", "silu", "hardswish", "relu6", "sigmoid", "mish"])
def test_slope_of_the_length_map_is_its_derivative(name: str) -> None:
    activation, q, h = named(name), 1.7, 1e-4
    up, down = moments(activation, q + h), moments(activation, q - h)
    m = moments(activation, q)
    # a central difference errs by h² times the third derivative, which is of order 1 here
    assert m.length_slope == pytest.approx((up.second - down.second) / (2 * h), abs=1e-8)
    assert m.centred_length_slope == pytest.approx(
        (up.variance - down.variance) / (2 * h), abs=1e-8
    )


@pytest.mark.parametrize("name", ["tanh", "gelu", "hardswish", "relu6", "softsign", "mish"])
def test_surplus_is_the_difference_it_stands_for(name: str) -> None:
    m = moments(named(name), 3.0)
    assert m.surplus == pytest.approx(3.0 * m.slope_second - m.second, rel=1e-11)
    assert m.centred_surplus == pytest.approx(3.0 * m.slope_second - m.variance, rel=1e-11)


def test_curvature_is_infinite_where_the_slope_jumps_and_none_where_it_is_unknown() -> None:
    assert curvature_mean_square(named("relu"), 1.0) == float("inf")
    assert curvature_mean_square(named("elu"), 1.0) < 1.0
    assert curvature_mean_square(replace(named("tanh"), ddf=None), 1.0) is None


def test_kurtosis_of_slopes() -> None:
    assert moments(named("linear"), 1.0).kurtosis == pytest.approx(1.0, rel=1e-14)
    assert moments(named("relu"), 1.0).kurtosis == pytest.approx(2.0, rel=1e-14)


def test_what_has_no_moments_is_refused() -> None:
    with pytest.raises(UsageError, match="no variance"):
        moments(named("tanh"), 0.0)
    explosive = Activation("exp(z²)", lambda z: np.exp(z * z), lambda z: 2 * z * np.exp(z * z))
    with pytest.raises(UsageError, match="grows too fast"):
        moments(explosive, 1.0)
