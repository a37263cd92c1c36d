"""Stages in a row, against the layer-by-layer theory they stand for."""

import math

import numpy as np
import pytest

from unvanish.meanfield import layers, named
from unvanish.meanfield.batchnorm import batch_norm
from unvanish.meanfield.depth import propagate
from unvanish.meanfield.maps import Layer
from unvanish.meanfield.predict import Step, predict
from unvanish.meanfield.stages import (
    Effect,
    Norm,
    Scale,
    Signal,
    Slope,
    Stage,
    Sum,
    Unknown,
    Weights,
    run,
)

WIDTH = 100


def weights(sigma_w: float, sigma_b: float = 0.0, **more: object) -> Weights:
    return Weights(sigma_w**2, sigma_b**2, WIDTH, **more)


def plain(name: str, depth: int, sigma_w: float, sigma_b: float) -> list[Step]:
    slope = Slope(named(name), WIDTH)
    return [Step(s) for _ in range(depth) for s in (slope, weights(sigma_w, sigma_b))]


@pytest.mark.parametrize(
    ("name", "sigma_w", "sigma_b"),
    [("tanh", 1.3, 0.3), ("relu", 2.0**0.5, 0.0), ("sigmoid", 3.0**-0.5, 0.1), ("gelu", 1.0, 0.4)],
)
def test_a_plain_network_is_that_of_propagate(name: str, sigma_w: float, sigma_b: float) -> None:
    """Of one sample: mean, median and spread are those of `depth.propagate`, to 2e-4 a layer."""
    depth = 9
    found = predict(plain(name, depth, sigma_w, sigma_b), start=Signal(0.8, 0.3))
    profile = propagate(Layer(named(name), sigma_w, sigma_b), depth, 0.8, WIDTH)
    assert len(found) == 2 * depth
    assert found[0].total == pytest.approx(profile.median_log10, abs=1e-3)
    assert found[0].total_spread == pytest.approx(profile.spread_log10, rel=2e-3)
    for layer in range(depth):
        pair = found[2 * layer].gain + found[2 * layer + 1].gain
        gain = profile.gains_log10[layer]
        assert pair == pytest.approx(
            gain, abs=0.25 * 6.0 / WIDTH
        )  # median against mean: 3κ − 1 ≤ 6
    totals = np.cumsum([one.gain for one in found[::-1]])[::-1]
    assert [one.total for one in found] == pytest.approx(totals.tolist())


def test_variance_over_pairs_of_samples() -> None:
    """One sample 5/n for ReLU; independent ones average it away; equal ones do not."""
    slope, _ = Slope(named("relu"), WIDTH).through(Signal(1.0, 1.0))
    matrix, _ = weights(1.0).through(Signal(1.0, 1.0))
    alone = slope.variance(1.0, 1.0) + matrix.variance(1.0, 1.0)
    assert alone == pytest.approx(5.0 / WIDTH, rel=1e-6)
    many = slope.variance(0.01, 1.0) + matrix.variance(0.01, 1.0)
    assert many == pytest.approx(5.0 / WIDTH, rel=1e-6)  # all alike, forward and backward
    apart, _ = Slope(named("relu"), WIDTH).through(Signal(1.0, 0.0))
    assert apart.variance(0.01, 0.01) == pytest.approx(0.03 / WIDTH, rel=1e-6)
    assert matrix.variance(0.01, 0.01) == pytest.approx(0.02 / WIDTH, rel=1e-6)


def test_orthogonal_weights_add_no_spread() -> None:
    effect, _ = weights(1.0, drawn=0.0).through(Signal(1.0, 0.0))
    assert effect.variance(1.0, 1.0) == 0.0


@pytest.mark.parametrize(("kind", "centred"), [("rms", False), ("layer", True)])
def test_norms_as_in_layers(kind: str, centred: bool) -> None:
    slope = Slope(named("softplus"), WIDTH)
    norm = Norm(kind, 1.0, 0.0, WIDTH)
    effect, after = run((weights(1.3), slope, norm), Signal(1.0, 0.4, gaussian=False))
    rate = layers.norm_after(named("softplus"), 1.3, centred=centred).backward
    assert math.exp(effect.log_gain) == pytest.approx(rate, rel=5e-4)
    assert after.second == pytest.approx(1.0)
    before, _ = run((slope, weights(0.7), norm, slope), Signal(1.0, 0.4))
    again, _ = slope.through(Signal(1.0, 0.4))
    rate = layers.norm_before(named("softplus")).backward
    assert math.exp(before.log_gain - again.log_gain) == pytest.approx(rate, rel=5e-4)


@pytest.mark.parametrize("batch", [8, 32, 4096])
def test_batch_norm_once_settled(batch: int) -> None:
    relu = named("relu")
    norm = Norm("batch", 1.0, 0.0, batch, batch, following=relu)
    steps = [Step(s) for _ in range(4) for s in (norm, Slope(relu, WIDTH), weights(0.6))]
    found = predict(steps, start=Signal(0.5, 0.1), own=1 / batch, alike=1 / batch)
    three = sum(one.gain for one in found[5:8])  # slope, weights, and the norm behind
    rate = batch_norm(relu, batch if batch < 256 else None).backward
    # what medians lie below means is up to (2 + 3)/n · (1/B + …) here: 2 %
    assert 10.0 ** (2.0 * three) == pytest.approx(rate, rel=0.02)
    gelu = Norm("batch", 1.0, 0.0, 64, 64, following=named("gelu"))
    assert "measure, do not predict" in str(gelu.through(Signal(1.0, 0.1))[0].reason)


def test_a_sum_of_branches() -> None:
    branch: tuple[Stage, ...] = (Slope(named("tanh"), WIDTH), weights(0.5))
    alone, behind = run(branch, Signal(1.0, 0.2))
    whole, after = Sum(((), branch), WIDTH).through(Signal(1.0, 0.2))
    gain = math.exp(alone.log_gain)
    assert math.exp(whole.log_gain) == pytest.approx(1.0 + gain)
    assert after.second == pytest.approx(1.0 + behind.second)
    assert after.gaussian
    # a branch's gradient lies along the skip's by chance, 2 √gain/√n of it: variance 4 gain/n
    cross = 4.0 * gain / (1.0 + gain) ** 2 / WIDTH
    moved = (gain / (1.0 + gain)) ** 2 * 2.0 * 2.0 / WIDTH  # at most (3κ − 1)/n with κ near 1.5
    assert cross < whole.variance(1.0, 1.0) < cross + 2.0 * moved
    twice, _ = Sum(((), ()), WIDTH).through(Signal(1.0, 0.2))
    assert twice.reason is not None


def test_after_an_unknown_stage_lengths_start_from_what_was_measured() -> None:
    steps = [
        Step(Slope(named("tanh"), WIDTH)),
        Step(weights(1.2)),
        Step(Unknown("nobody knows"), measured=Signal(2.0, 0.0)),
        Step(Slope(named("tanh"), WIDTH)),
        Step(weights(1.2)),
    ]
    found = predict(steps, start=Signal(1.0, 0.0))
    expected = 0.5 * math.log10(Layer(named("tanh"), 1.2).gradient_growth(2.0))
    assert found[3].gain + found[4].gain == pytest.approx(expected, abs=0.03)
    assert found[3].total == pytest.approx(found[3].gain + found[4].gain)
    assert found[2].reason == "nobody knows"
    assert all(math.isnan(one.total) for one in found[:3])
    assert not math.isnan(found[0].gain)


def test_what_is_not_gaussian_is_not_predicted() -> None:
    relu = Slope(named("relu"), WIDTH)
    effect, after = run((relu, Scale(), relu), Signal(1.0, 0.0))
    assert math.isnan(effect.log_gain)
    assert effect.reason is not None
    assert after is None
    unknown, _ = Slope(None, WIDTH, "mine").through(Signal(1.0, 0.0))
    assert "mine" in str(unknown.reason)


def test_dropout_thins_the_signal_and_parts_the_samples() -> None:
    effect, after = Scale(1.25, 1.25, mask=True).through(Signal(1.0, 1.0))
    assert math.exp(effect.log_gain) == pytest.approx(1.25)
    assert (after.second, after.shared) == (1.25, 1.0)


def test_zero_weights_let_nothing_through() -> None:
    found = predict([Step(Slope(named("tanh"), 8)), Step(Weights(0.0, 0.0, 8))], start=Signal(1, 0))
    assert found[0].total == -math.inf


def test_an_effect_without_units_has_no_spread() -> None:
    assert Effect(1.0).variance(1.0, 1.0) == 0.0


def test_samples_of_unlike_length_weigh_more_where_gains_grow_with_length() -> None:
    """E qᵃ over log-normal lengths of relative variance v: (E q)ᵃ exp(a (a − 1) v/2)."""
    square = [Step(s) for s in (Slope(named("squared_relu"), WIDTH), weights(1.0))] * 3
    alike = predict(square, start=Signal(0.1, 0.0))[0].total
    unlike = predict(square, start=Signal(0.1, 0.0), unlike=0.02)[0].total
    power = 1.0 + 2.0 + 4.0  # χ₁ goes like q at q, q², q⁴
    assert unlike - alike == pytest.approx(0.5 * 0.5 * power * (power - 1) * 0.02 / math.log(10))
