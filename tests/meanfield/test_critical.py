"""Which activations have no, one, every or only a degenerate critical point, in words too."""

import math

import pytest
import torch

import unvanish
from unvanish.errors import UsageError
from unvanish.meanfield import named
from unvanish.meanfield.critical import critical_line
from unvanish.meanfield.maps import Layer, fixed_point
from unvanish.meanfield.roots import bracketed_root


def test_the_sigmoid_has_one_isolated_point() -> None:
    found = unvanish.critical("sigmoid")
    assert found.kind == "isolated"
    assert len(found.points) == 1
    assert found.sigma_w == pytest.approx(10.149263710019527, rel=1e-9)
    assert found.q == pytest.approx(45.62427779737971, rel=1e-9)
    assert "10.1493" in str(found)
    assert "45.6243" in str(found)


@pytest.mark.parametrize("name", ["softplus", "logsigmoid"])
def test_softplus_has_none(name: str) -> None:
    found = unvanish.critical(name)
    assert found.kind == "none"
    assert found.points == found.half_stable == ()
    assert found.sigma_w is None
    assert "no critical point, with or without a bias" in str(found)


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ("relu", "scale_invariant", "every length"),
        ("tanh", "q_to_zero", "only in the limit q → 0"),
        ("squared_relu", "none", "with a bias, some lengths have one"),
        (torch.nn.functional.silu, "q_to_zero", "degenerate"),
        (torch.nn.LeakyReLU(0.3), "scale_invariant", "no bias"),
        (lambda z: 3.0 * z.relu(), "scale_invariant", "0.471405"),
        (lambda z: torch.sigmoid(z) - 0.5, "q_to_zero", "σ_w = 4"),
        (lambda z: torch.exp(z), "isolated", "q* = 1 only"),
        (lambda z: z * (z.abs() > 0.5), "none", "jumps"),
    ],
)
def test_kinds_and_their_words(given: object, kind: str, words: str) -> None:
    found = unvanish.critical(given)
    assert found.kind == kind
    assert words in found.statement


@pytest.mark.parametrize("negative_slope", [0.0, 0.01, 0.5, 1.0])
def test_leaky_relus_are_critical_by_their_formula(negative_slope: float) -> None:
    found = unvanish.critical(torch.nn.LeakyReLU(negative_slope))
    assert found.sigma_w == pytest.approx(math.sqrt(2.0 / (1.0 + negative_slope**2)), rel=1e-14)


def test_exp_by_hand() -> None:
    """E e²ᶻ = e^{2q} for value and slope alike: σ_w² = e^{−2q}, σ_b² = q − 1."""
    point = unvanish.critical(torch.exp).points[0]
    assert point.q == pytest.approx(1.0, rel=1e-12)
    assert point.sigma_w == pytest.approx(math.exp(-1.0), rel=1e-12)


@pytest.mark.parametrize("name", ["tanh", "gelu", "elu", "sigmoid", "hardswish"])
def test_a_critical_point_is_a_critical_fixed_point(name: str) -> None:
    activation = named(name)
    line = critical_line(activation, 60.0)
    assert line.sigma_b is not None
    layer = Layer(activation, line.sigma_w, line.sigma_b)
    assert layer.length(60.0) == pytest.approx(60.0, rel=1e-12)
    point = fixed_point(layer, start=60.0)
    assert point.phase == "critical"
    assert point.correlation == 1.0


def test_a_half_stable_point_attracts_from_one_side_only() -> None:
    (point,) = unvanish.critical("mish").half_stable
    layer = Layer(named("mish"), point.sigma_w, point.sigma_b or 0.0)
    assert layer.length_slope(point.q) == pytest.approx(1.0, rel=1e-12)
    for q in (0.97 * point.q, 1.03 * point.q):
        assert layer.length(q) > q  # from below toward the point, from above away from it


def test_no_line_where_every_slope_is_zero() -> None:
    with pytest.raises(UsageError, match="slope 0"):
        critical_line(named("softshrink"), 1e-6)


def test_roots() -> None:
    assert bracketed_root(lambda x: x**3 - 2.0, 0.0, 5.0) == pytest.approx(2 ** (1 / 3), rel=1e-14)
    assert bracketed_root(lambda x: math.tanh(1e4 * (x - 0.3)), -9.0, 1.0) == pytest.approx(0.3)
    assert bracketed_root(lambda x: x, -1.0, 0.0) == 0.0
    with pytest.raises(ValueError, match="change of sign"):
        bracketed_root(lambda x: 1.0 + x * x, -1.0, 1.0)
