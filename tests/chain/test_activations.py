"""Activations against 60-digit arithmetic, and against torch."""

import math
from collections.abc import Callable
from decimal import Decimal, localcontext

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.chain.torch_chain import VALUES
from unvanish.chain.activations import ACTIVATIONS, SATURATED, find_activation
from unvanish.errors import UnknownNameError

ONE = Decimal(1)


def exact_sigmoid_slope(z: Decimal) -> Decimal:
    e = (-abs(z)).exp()
    return e / (ONE + e) ** 2


# the textbook formulas, at a precision where no digit is lost
SLOPES: dict[str, Callable[[Decimal], Decimal]] = {
    "sigmoid": exact_sigmoid_slope,
    "tanh": lambda z: 4 * exact_sigmoid_slope(2 * z),
    "relu": lambda z: ONE if z > 0 else Decimal(0),
    "leaky_relu": lambda z: ONE if z > 0 else Decimal("0.01"),
    "elu": lambda z: ONE if z > 0 else z.exp(),
    "softplus": lambda z: ONE / (ONE + (-z).exp()),
    "softsign": lambda z: ONE / (ONE + abs(z)) ** 2,
    "linear": lambda z: ONE,
}
ZS = [0.0, 1e-300, 1e-9, 0.3, -0.3, 1.0, -2.5, 4.0, -4.0, 9.9, -37.0, 40.0, -76.0, 350.0, -700.0]


def test_the_references_cover_every_activation() -> None:
    assert set(SLOPES) == set(VALUES) == set(ACTIVATIONS)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("z", ZS)
def test_slopes_are_right_to_the_last_digits(name: str, z: float) -> None:
    with localcontext() as context:
        context.prec = 60
        exact = float(SLOPES[name](Decimal(z)))
    # 1e-13: a relative error of z's rounding (1e-16) is multiplied by |z| <= 700 in exp(z)
    assert ACTIVATIONS[name].slope(z) == pytest.approx(exact, rel=1e-13, abs=0)


def test_the_saturated_sigmoid_keeps_its_digits() -> None:
    # 1 - sigma is exactly 0 in float64 here, and the textbook form would give 0
    assert ACTIVATIONS["sigmoid"].slope(76.0) == pytest.approx(math.exp(-76.0), rel=1e-13)
    assert 1e-34 < ACTIVATIONS["sigmoid"].slope(76.0) < 1e-33


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("z", [*ZS, 745.5, -745.5, 1e5, -1e5])
def test_the_logarithm_goes_on_where_the_slope_underflows(name: str, z: float) -> None:
    with localcontext() as context:
        context.prec = 60
        slope = SLOPES[name](Decimal(z))
        expected = float(slope.log10()) if slope else -math.inf
    assert ACTIVATIONS[name].log10_slope(z) == pytest.approx(expected, rel=1e-13, abs=1e-15)


@pytest.mark.parametrize(
    ("name", "z", "expected"),
    [
        ("sigmoid", 1e160, -1e160 / math.log(10)),
        ("tanh", -1e160, -2e160 / math.log(10)),
        ("elu", -1e160, -1e160 / math.log(10)),
        ("softplus", -1e160, -1e160 / math.log(10)),
        ("softsign", 1e160, -320.0),
    ],
)
def test_the_logarithm_far_out(name: str, z: float, expected: float) -> None:
    assert ACTIVATIONS[name].log10_slope(z) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values_and_slopes_are_torch_s(name: str) -> None:
    zs = torch.tensor([z for z in ZS if abs(z) < 3], dtype=torch.float64, requires_grad=True)
    values = VALUES[name](zs)
    (slopes,) = torch.autograd.grad(values.sum(), zs)
    for z, value, slope in zip(zs.tolist(), values.tolist(), slopes.tolist(), strict=True):
        assert ACTIVATIONS[name].value(z) == pytest.approx(value, rel=1e-14, abs=0)
        assert ACTIVATIONS[name].slope(z) == pytest.approx(slope, rel=1e-13, abs=0)


@given(st.floats(allow_nan=False))
def test_nothing_raises_and_slopes_stay_below_the_steepest(z: float) -> None:
    for phi in ACTIVATIONS.values():
        phi.value(z)
        assert 0 <= phi.slope(z) <= phi.steepest * (1 + 1e-15)  # rounding, twice
        assert phi.log10_slope(z) <= math.log10(phi.steepest) + 1e-15


def test_the_steepest_point_is_where_it_is_said_to_be() -> None:
    for phi in ACTIVATIONS.values():
        if phi.steepest_at is not None:
            assert phi.slope(phi.steepest_at) == phi.steepest


def test_saturated_means_beyond_four_for_the_sigmoid() -> None:
    sigmoid = ACTIVATIONS["sigmoid"]
    assert sigmoid.slope(math.nextafter(4.0, 0) - 1e-9) > SATURATED * sigmoid.steepest
    assert sigmoid.slope(4.0 + 1e-9) < SATURATED * sigmoid.steepest
    assert pytest.approx(0.0707, abs=5e-5) == SATURATED


def test_an_unknown_name_lists_those_that_are_known() -> None:
    with pytest.raises(UnknownNameError, match=r"swish.*sigmoid.*tanh"):
        find_activation("swish")
