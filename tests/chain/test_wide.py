"""Wide numbers: products that leave the range of floats and come back."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unvanish.chain.wide import Wide

FACTORS = st.lists(st.floats(-1e300, 1e300, allow_subnormal=False), max_size=60)


@given(FACTORS)
def test_a_product_is_the_rounded_exact_one(factors: list[float]) -> None:
    product, exact = Wide.of(1.0), Fraction(1)
    for factor in factors:
        product = product * factor
        exact *= Fraction(factor)
    # each product rounds once, by at most 2^-53
    expected = Fraction(product.mantissa) * Fraction(2) ** product.exponent
    assert abs(expected - exact) <= abs(exact) * len(factors) * Fraction(2) ** -53
    if exact == 0:
        assert product.log10 == -math.inf
    else:
        # exact log10 through integers: math.log10 takes those of any size
        log10 = math.log10(abs(exact.numerator)) - math.log10(exact.denominator)
        assert product.log10 == pytest.approx(log10, rel=1e-12, abs=1e-12)


def test_it_comes_back_from_beyond_the_floats() -> None:
    product = Wide.of(1.0)
    for factor in [1e-200] * 10 + [1e200] * 10:
        product = product * factor
    assert product.value == pytest.approx(1.0, rel=1e-14)


def test_beyond_the_floats_it_is_zero_or_infinite_and_the_logarithm_stays() -> None:
    tiny, huge = Wide.of(-1e-200) * 1e-200, Wide.of(-1e200) * 1e200
    assert (tiny.value, huge.value) == (0.0, -math.inf)
    assert tiny.log10 == pytest.approx(-400, rel=1e-15)
    assert huge.log10 == pytest.approx(400, rel=1e-15)


@pytest.mark.parametrize("log10", [0.0, 0.5, -3.0, 299.0, -7000.25, 1e6])
def test_from_log10(log10: float) -> None:
    assert Wide.from_log10(log10).log10 == pytest.approx(log10, rel=1e-14, abs=1e-15)


@pytest.mark.parametrize("log10", [-1e308, -math.inf, 1e308, math.inf, math.nan])
def test_extreme_logarithms_do_not_raise(log10: float) -> None:
    product = Wide.from_log10(log10)
    for _ in range(5):  # the exponent itself goes beyond floats
        product = product * product
    assert math.isnan(log10) == math.isnan(product.log10)
    if not math.isnan(log10):
        assert product.log10 == math.copysign(math.inf, log10)
        assert product.value == (0.0 if log10 < 0 else math.inf)


def test_nan_and_infinity_behave_as_floats_do() -> None:
    assert math.isnan((Wide.of(math.inf) * 0.0).value)
    assert math.isnan((Wide.of(math.nan) * 2.0).log10)
    assert (Wide.of(-math.inf) * 2.0).value == -math.inf
