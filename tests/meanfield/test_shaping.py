"""Deep kernel shaping and tailored activations: their conditions, and the same network folded."""

import math

import numpy as np
import pytest

from unvanish.errors import UsageError
from unvanish.meanfield import named
from unvanish.meanfield.activation import Array
from unvanish.meanfield.maps import Layer
from unvanish.meanfield.moments import curvature_mean_square, moments
from unvanish.meanfield.pairs import product
from unvanish.meanfield.shaping import Shaping, dks, fold, tailored_relu, tat

SMOOTH = ["tanh", "sigmoid", "gelu", "silu", "softplus", "elu"]


@pytest.mark.parametrize("depth", [10, 300])
@pytest.mark.parametrize("name", SMOOTH)
def test_dks_meets_its_four_conditions(name: str, depth: int) -> None:
    shaped = dks(named(name), depth).apply(named(name))
    m = moments(shaped, 1.0)
    assert m.second == pytest.approx(1.0, rel=1e-12)  # Q(1)
    assert m.length_slope == pytest.approx(1.0, rel=1e-10)  # Q'(1)
    assert product(shaped, 1.0, 0.0) == pytest.approx(0.0, abs=1e-24)  # C(0)
    assert m.slope_second**depth == pytest.approx(1.5, rel=1e-10)  # C'(1)


@pytest.mark.parametrize("depth", [10, 300])
@pytest.mark.parametrize("name", SMOOTH)
def test_tat_meets_its_four_conditions(name: str, depth: int) -> None:
    shaped = tat(named(name), depth).apply(named(name))
    m = moments(shaped, 1.0)
    assert m.second == pytest.approx(1.0, rel=1e-12)
    assert m.length_slope == pytest.approx(1.0, rel=1e-10)
    assert m.slope_second == pytest.approx(1.0, rel=1e-12)
    assert depth * curvature_mean_square(shaped, 1.0) == pytest.approx(0.3, rel=1e-10)  # C''(1)


def test_a_shaped_activation_has_its_own_derivatives_and_kinks() -> None:
    shaping = Shaping(0.5, -1.0, 3.0, 0.2)
    shaped, z, h = shaping.apply(named("elu")), np.linspace(-3.0, 5.0, 33) + 0.01, 1e-5
    np.testing.assert_allclose(shaped.df(z), (shaped.f(z + h) - shaped.f(z - h)) / (2 * h), 1e-7)
    assert shaped.ddf is not None
    np.testing.assert_allclose(
        shaped.ddf(z), (shaped.df(z + h) - shaped.df(z - h)) / (2 * h), atol=1e-7
    )
    assert shaped.kinks == (2.0,)
    assert shaped.slope_supremum == 1.5


@pytest.mark.parametrize("correlation", [0.5, 0.9])
def test_tailored_relu_brings_correlations_to_where_it_was_asked(correlation: float) -> None:
    a, gain = tailored_relu(80, correlation)
    layer, c = Layer(named("leaky_relu", negative_slope=a), gain), 0.0
    for _ in range(80):
        c = layer.correlation(1.0, c)
    assert c == pytest.approx(correlation, abs=1e-10)
    assert layer.length(1.0) == pytest.approx(1.0)


def orthogonal(rng: np.random.Generator, width: int) -> Array:
    return np.linalg.qr(rng.standard_normal((width, width)))[0]


def test_folded_weights_and_biases_are_the_shaped_network() -> None:
    rng, gelu = np.random.default_rng(0), named("gelu")
    shaping = dks(gelu, 6)
    shaped = shaping.apply(gelu)
    weights = [orthogonal(rng, 20) for _ in range(7)]
    biases = [0.1 * rng.standard_normal(20) for _ in range(7)]
    x = rng.standard_normal(20)
    plain, folded = x, x
    for place, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        before = shaping if place > 0 else None
        after = shaping if place < 6 else None
        plain = weight @ (shaped.f(plain) if before else plain) + bias
        new_weight, new_bias = fold(weight, bias, before=before, after=after)
        folded = new_weight @ (gelu.f(folded) if before else folded) + new_bias
        expected = shaping.alpha * plain + shaping.beta if after else plain
        np.testing.assert_allclose(folded, expected, rtol=1e-11, atol=1e-12)


def test_folding_without_a_bias() -> None:
    weight = np.array([[1.0, 2.0], [0.5, -1.0]])
    same, offset = fold(weight, None, before=None, after=None)
    np.testing.assert_array_equal(same, weight)
    np.testing.assert_array_equal(offset, [0.0, 0.0])
    _scaled, offset = fold(weight, None, before=Shaping(gamma=2.0, delta=-1.0), after=None)
    np.testing.assert_allclose(offset, [-6.0, 1.0])


@pytest.mark.parametrize("name", ["sigmoid", "gelu"])
def test_fifty_shaped_layers_keep_samples_apart_where_plain_ones_do_not(name: str) -> None:
    """Width 256, orthogonal weights: correlations scatter by 1/16."""
    rng, activation, depth = np.random.default_rng(0), named(name), 50
    shaped = dks(activation, depth).apply(activation)
    forward = activation.f
    gain = 1.0 / math.sqrt(moments(activation, 1.0).second)
    x = rng.standard_normal((2, 256))
    plain, kept = x, x
    for _ in range(depth):
        weight = orthogonal(rng, 256)
        plain = gain * forward(plain) @ weight
        kept = shaped.f(kept) @ weight
    assert abs(np.corrcoef(kept)[0, 1]) < 0.25
    assert np.mean(kept**2) == pytest.approx(1.0, abs=0.25)
    cosine = plain[0] @ plain[1] / np.linalg.norm(plain[0]) / np.linalg.norm(plain[1])
    assert cosine > 0.5


@pytest.mark.parametrize(
    "call",
    [
        lambda: dks(named("relu"), 50),
        lambda: dks(named("tanh"), 0),
        lambda: dks(named("tanh"), 10, slope=1.0),
        lambda: tat(named("relu"), 50),
        lambda: tat(named("squared_relu"), 50),
        lambda: tat(named("tanh"), 10, curvature=0.0),
        lambda: tailored_relu(1, 0.9),
        lambda: tailored_relu(50, 1.0),
    ],
)
def test_what_cannot_be_shaped_is_refused(call: object) -> None:
    assert callable(call)
    with pytest.raises(UsageError):
        call()
