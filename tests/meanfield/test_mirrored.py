"""Mirrored pairs of units."""

import numpy as np
import pytest

from unvanish.errors import UsageError
from unvanish.meanfield import NAMES, Activation, named
from unvanish.meanfield.mirrored import pair, straightest_pair


@pytest.mark.parametrize("name", ["relu", "gelu", "silu", "softplus", "hardswish", "quick_gelu"])
def test_pairs_that_are_the_identity(name: str) -> None:
    found = straightest_pair(named(name), 1.0)
    assert found.offset == 0.0
    assert found.slope == pytest.approx(1.0, rel=1e-12)
    assert found.gain == pytest.approx(1.0, rel=1e-12)
    assert found.residual < 1e-20


def test_a_pair_of_sigmoids_is_straightest_where_the_third_derivative_vanishes() -> None:
    # at s = (3 - sqrt 3)/6, z = -1.31696, where psi is linear up to u^5
    at_root = pair(named("sigmoid"), -1.3169578969248166, 1e-2)
    assert at_root.residual < 1e-8
    assert pair(named("sigmoid"), 0.0, 1e-2).residual > 50 * at_root.residual
    # the price of the mean moves the choice a little toward smaller means
    found = straightest_pair(named("sigmoid"), 0.25)
    assert -1.8 < found.offset < -1.3
    assert found.residual < 1e-4
    assert found.residual < 0.1 * pair(named("sigmoid"), 0.0, 0.25).residual


@pytest.mark.parametrize("name", NAMES)
def test_no_activation_is_bent_by_more_than_its_pair_at_zero(name: str) -> None:
    activation = named(name)
    found = straightest_pair(activation, 0.25)
    assert found.slope != 0.0
    assert found.gain >= abs(found.slope) * (1 - 1e-12)
    # 0.011: the sine, which is odd and whose pairs a mean does not straighten
    assert found.residual < 0.011


def test_the_pair_is_odd_and_agrees_with_sampling() -> None:
    activation, offset, q = named("elu"), 0.7, 0.5
    u = np.random.default_rng(0).normal(0.0, q**0.5, 400_000)
    psi = activation.f(offset + u) - activation.f(offset - u)
    found = pair(activation, offset, q)
    # standard errors: about 1/sqrt(400000) = 0.0016 of the mean square
    assert found.gain == pytest.approx(float(np.sqrt(np.mean(psi**2) / q)), rel=5e-3)
    assert found.slope == pytest.approx(float(np.mean(u * psi) / q), rel=5e-3)
    assert found.mean == pytest.approx(float(np.mean(activation.f(offset + u))), abs=5e-3)


def test_an_even_activation_needs_an_offset() -> None:
    square = Activation("square", lambda z: z * z, lambda z: 2 * z)
    assert straightest_pair(square, 1.0).offset != 0.0


def test_a_flat_activation_is_refused() -> None:
    flat = Activation("flat", np.zeros_like, np.zeros_like)
    with pytest.raises(UsageError, match="flat"):
        straightest_pair(flat, 1.0)
