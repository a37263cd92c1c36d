"""Quadrature against arithmetic of 22 digits, scipy, and exact integrals."""

import mpmath
import numpy as np
import pytest
from mpmath import mp
from scipy import integrate

from unvanish.errors import UsageError
from unvanish.meanfield import named
from unvanish.meanfield.gaussian import adaptive_rule, expectation, rule_for

SIGMAS = (1e-3, 1.0, 1e3)
ZERO = mp.mpf(0)


def logistic(z):
    return 1 / (1 + mpmath.exp(-z))


def positive(z):
    return max(z, ZERO)


def below(z):
    return mpmath.erfc(-z / mpmath.sqrt(2)) / 2


# φ and φ' in arbitrary precision, and the kinks away from 0
EXACT = {
    "sigmoid": (logistic, lambda z: logistic(z) * logistic(-z), ()),
    "tanh": (mpmath.tanh, lambda z: mpmath.sech(z) ** 2, ()),
    "relu": (positive, lambda z: mp.mpf(z > 0), ()),
    "gelu": (lambda z: z * below(z), lambda z: below(z) + z * mpmath.npdf(z), ()),
    "silu": (
        lambda z: z * logistic(z),
        lambda z: logistic(z) * (1 + z * logistic(-z)),
        (),
    ),
    "softplus": (lambda z: mpmath.log1p(mpmath.exp(-abs(z))) + positive(z), logistic, ()),
    "elu": (
        lambda z: z if z > 0 else mpmath.expm1(z),
        lambda z: mp.mpf(1) if z > 0 else mpmath.exp(z),
        (),
    ),
    "hardswish": (
        lambda z: z * min(positive((z + 3) / 6), mp.mpf(1)),
        lambda z: mp.mpf(z > 3) if abs(z) > 3 else (2 * z + 3) / 6,
        (-3, 3),
    ),
    "relu6": (lambda z: min(positive(z), mp.mpf(6)), lambda z: mp.mpf(0 < z < 6), (6,)),
    "softsign": (lambda z: z / (1 + abs(z)), lambda z: (1 + abs(z)) ** -2, ()),
}


def exact_expectation(function, sigma, kinks):
    """∫ f(σx) density, split at 0, at the kinks and at a geometric series around 0."""
    reach = mp.mpf(13)
    cuts = {mp.mpf(0), reach, -reach}
    for k in range(-2, 14):
        cuts |= {mp.mpf(2) ** k / sigma, -(mp.mpf(2) ** k) / sigma}
    cuts |= {mp.mpf(kink) / sigma for kink in kinks} | {mp.mpf(k) for k in range(-12, 13, 3)}
    inside = sorted(cut for cut in cuts if abs(cut) <= reach)
    return mpmath.quad(lambda x: function(sigma * x) * mpmath.npdf(x), inside)


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("name", sorted(EXACT))
def test_second_moments_agree_with_22_digit_arithmetic(name: str, sigma: float) -> None:
    phi, slope, kinks = EXACT[name]
    activation = named(name)
    with mpmath.workdps(22):
        second = float(exact_expectation(lambda z: phi(z) ** 2, mp.mpf(sigma), kinks))
        slopes = float(exact_expectation(lambda z: slope(z) ** 2, mp.mpf(sigma), kinks))
    rule = rule_for(activation, sigma**2)
    assert rule.mean(activation.f(rule.z) ** 2) == pytest.approx(second, rel=1e-12)
    assert rule.mean(activation.df(rule.z) ** 2) == pytest.approx(slopes, rel=1e-12)


@pytest.mark.parametrize("sigma", [1e-3, 0.05, 1.0, 7.0, 1e3])
@pytest.mark.parametrize("power", range(9))
def test_powers_are_exact(power: int, sigma: float) -> None:
    exact = float(mpmath.fac2(power - 1)) * sigma**power if power % 2 == 0 else 0.0
    scale = sigma**power * float(mpmath.npdf(0) * 2 ** (power / 2 + 1) * mpmath.gamma(power + 1))
    assert expectation(lambda z: z**power, sigma**2) == pytest.approx(
        exact, rel=1e-12, abs=1e-12 * scale
    )


@pytest.mark.parametrize("sigma", SIGMAS)
def test_a_fast_oscillation_is_resolved(sigma: float) -> None:
    """E cos z = exp(−σ²/2): at σ = 1000 some 12,000 periods lie under the density."""
    exact = float(np.exp(-0.5 * sigma**2))
    assert expectation(np.cos, sigma**2) == pytest.approx(exact, rel=1e-12, abs=1e-12)


def test_a_narrow_bump_away_from_zero_and_an_undeclared_kink_are_found() -> None:
    def bump(z):
        return np.exp(-0.5 * ((z - 1.7) / 0.01) ** 2)

    scipy_value, _ = integrate.quad(
        lambda x: float(bump(x)) * float(np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)),
        1.5,
        1.9,
        epsabs=1e-16,
        epsrel=1e-13,
        points=[1.7],
    )
    assert expectation(bump, 1.0) == pytest.approx(scipy_value, rel=1e-12)
    # E max(z − 0.3, 0) = density(0.3) − 0.3 P(z > 0.3)
    exact = float(mpmath.npdf(0.3) - 0.3 * mpmath.ncdf(-0.3))
    assert expectation(lambda z: np.maximum(z - 0.3, 0.0), 1.0) == pytest.approx(exact, rel=1e-12)


def test_tails_far_beyond_the_bulk_are_relatively_exact() -> None:
    """ReLU6 at √q = 1/2 bends twelve standard deviations out; its critical bias depends on it."""
    tail = expectation(lambda z: np.maximum(z - 6.0, 0.0), 0.25, (6.0,))
    with mpmath.workdps(30):
        exact = 0.5 * (mpmath.npdf(12) - 12 * mpmath.ncdf(-12))
    assert tail == pytest.approx(float(exact), rel=1e-10)


def test_gauss_hermite_is_off_where_this_is_not() -> None:
    """E tanh'(5x)² = 0.106…; 64 Gauss–Hermite nodes miss it by more than a tenth of it."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(64)
    tanh = named("tanh")
    plain = float(weights @ tanh.df(5.0 * nodes) ** 2 / np.sqrt(2.0 * np.pi))
    rule = rule_for(tanh, 25.0)
    ours = rule.mean(tanh.df(rule.z) ** 2)
    with mpmath.workdps(22):
        exact = float(exact_expectation(lambda z: mpmath.sech(z) ** 4, mp.mpf(5), ()))
    assert ours == pytest.approx(exact, rel=1e-12)
    assert abs(plain - exact) > 0.03


def test_what_cannot_be_resolved_is_refused_and_rounding_noise_is_not() -> None:
    with pytest.raises(UsageError, match="oscillates too fast"):
        adaptive_rule(lambda z: np.sin(1e7 * z)[None] ** 2, 1.0)
    # z − tanh z at |z| ~ 1e-4 is 1e-13 with an error of 1e-20: E f² = E z⁶/9 = 15 σ⁶/9
    noisy = expectation(lambda z: (z - np.tanh(z)) ** 2, 1e-8)
    assert noisy == pytest.approx(15.0 / 9.0 * 1e-24, rel=1e-6)


def test_the_rule_holds_the_density() -> None:
    rule = rule_for(named("tanh"), 2.0)
    assert rule.mean(np.ones_like(rule.x)) == pytest.approx(1.0, rel=1e-14)
    assert rule.mean(rule.z**2) == pytest.approx(2.0, rel=1e-14)
