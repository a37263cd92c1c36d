"""Lyapunov exponents of recurrent cells."""

import math

import numpy as np
import pytest

from unvanish.errors import UsageError
from unvanish.meanfield import named
from unvanish.meanfield.recurrent import lyapunov_exponents, mean_field_exponent, step_jacobians


def test_constant_jacobians_have_the_logs_of_their_eigenvalues() -> None:
    matrix = np.array([[2.0, 1.0, 0.0], [0.0, 0.5, 0.3], [0.0, 0.0, 1e-6]])
    exponents = lyapunov_exponents([matrix] * 400, warm_up=100)
    np.testing.assert_allclose(np.exp(exponents), [2.0, 0.5, 1e-6], rtol=1e-10)


def test_exponents_stay_apart_where_the_product_is_rank_one() -> None:
    """After 200 steps the plain product's singular values differ by 10^240."""
    steps = [np.diag([1.0, 0.0625])] * 200
    np.testing.assert_allclose(lyapunov_exponents(steps), [0.0, math.log(0.0625)], atol=1e-14)
    assert len(lyapunov_exponents(steps, 1)) == 1


def test_a_dead_direction_has_an_exponent_of_minus_infinity() -> None:
    exponents = lyapunov_exponents([np.diag([1.0, 0.0])] * 3)
    assert exponents[1] == -math.inf


def test_step_jacobians_are_derivatives_of_the_cell() -> None:
    rng = np.random.default_rng(0)
    activation, weight, push = named("gelu"), rng.standard_normal((5, 5)), rng.standard_normal(5)
    state, nudge = rng.standard_normal(5), 1e-6 * np.eye(5)
    (jacobian,) = step_jacobians(activation, weight, [push], state)
    differences = [
        (activation.f(weight @ (state + d) + push) - activation.f(weight @ (state - d) + push))
        / 2e-6
        for d in nudge
    ]
    np.testing.assert_allclose(jacobian, np.array(differences).T, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "sigma_w", "drive"), [("tanh", 1.0, 0.25), ("tanh", 2.0, 0.25), ("gelu", 1.0, 0.3)]
)
def test_driven_cells_have_the_mean_field_exponent(name: str, sigma_w: float, drive: float) -> None:
    """W stays the same over time. At width 200 the typical gradient lies (3κ − 1)/4n = 0.005 or so
    below the mean one; 0.03 covers that and one draw of W.
    """
    rng, n = np.random.default_rng(1), 200
    weight = rng.standard_normal((n, n)) * sigma_w / math.sqrt(n)
    pushes = (math.sqrt(drive) * rng.standard_normal(n) for _ in range(250))
    measured = lyapunov_exponents(step_jacobians(named(name), weight, pushes), 1, warm_up=50)
    assert measured[0] == pytest.approx(mean_field_exponent(named(name), sigma_w, drive), abs=0.03)


def test_no_step_left_is_refused() -> None:
    with pytest.raises(UsageError):
        lyapunov_exponents([np.eye(2)], warm_up=1)
