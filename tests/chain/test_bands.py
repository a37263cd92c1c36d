"""The band of inputs, against numeric maximisation and against the factor itself."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from unvanish.chain import Chain, band, band_width, solve, widest_band

weights = st.floats(4.0, 1e6).flatmap(lambda w: st.sampled_from((w, -w)))


def factor(weight: float, bias: float, x: float) -> float:
    return abs(solve(Chain((weight,), (bias,)), x).factors[0])


@given(weights, st.floats(-100, 100))
def test_the_factor_is_one_at_its_ends_and_more_between(weight: float, bias: float) -> None:
    limits = band(weight, bias)
    assert limits is not None
    # z = w x + b is rounded to 1e-16 |b|, and the factor's relative slope in z is at most 1
    error = 1e-13 * (1 + abs(bias))
    assert factor(weight, bias, limits.low) == pytest.approx(1.0, abs=error)
    assert factor(weight, bias, limits.high) == pytest.approx(1.0, abs=error)
    middle = (limits.low + limits.high) / 2
    assert factor(weight, bias, middle) == pytest.approx(abs(weight) / 4, rel=1e-9)
    assert middle in limits
    # at |w| = 4 the factor is flat: 1e-6 away in z it falls by 1e-13 only
    beyond = limits.width * 0.01 + (1e-6 + 100 * error) / abs(weight)
    assert factor(weight, bias, limits.low - beyond) < 1
    assert factor(weight, bias, limits.high + beyond) < 1
    assert limits.low - beyond not in limits


@given(st.floats(-4, 4, exclude_min=True, exclude_max=True), st.floats(-50, 50))
def test_it_is_empty_below_four(weight: float, x: float) -> None:
    assert band(weight, 1.0) is None
    assert band_width(weight) == 0.0
    assert factor(weight, 1.0, x) < 1


def test_at_four_it_is_a_point() -> None:
    limits = band(4.0, 2.0)
    assert limits is not None
    assert (limits.low, limits.high) == (-0.5, -0.5)


def test_the_widest_is_the_numeric_maximum() -> None:
    # 0.45 near 6.9, found here by searching the factor itself and not the formula
    def width(weight: float) -> float:
        low, high = 0.0, 1.0
        for _step in range(60):
            x = (low + high) / 2
            low, high = (x, high) if factor(weight, 0.0, x) >= 1 else (low, x)
        return 2 * low

    best = minimize_scalar(lambda w: -width(w), bounds=(4, 40), method="bounded")
    weight, greatest = widest_band()
    assert weight == pytest.approx(best.x, abs=1e-3)
    assert greatest == pytest.approx(-best.fun, abs=1e-9)
    assert weight == pytest.approx(6.9, abs=0.02)
    assert greatest == pytest.approx(0.45, abs=0.005)


def test_great_weights_do_not_widen_it() -> None:
    widths = [band_width(weight) for weight in (7.0, 10.0, 100.0, 1e6, 1e17, 1e300)]
    assert widths == sorted(widths, reverse=True)
    # 2 log(w) / w for large w
    assert widths[-1] == pytest.approx(2 * math.log(1e300) / 1e300, rel=1e-12)
    assert band_width(10.0) == pytest.approx(2 * math.atanh(math.sqrt(0.6)) * 2 / 10, rel=1e-14)
