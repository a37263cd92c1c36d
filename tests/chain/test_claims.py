"""What is said of the ReLU: measured numbers against theory."""

import dataclasses
import math
import statistics

import pytest

from unvanish.chain import claims
from unvanish.chain.claims import SCHEMES, Spread, measure_cost, measure_slopes, measure_spread

DEPTHS = (1, 2, 5, 10)


@pytest.fixture(scope="module")
def spread() -> dict[str, list[Spread]]:
    return {scheme: measure_spread(scheme, draws=1000, seed=1, depths=DEPTHS) for scheme in SCHEMES}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_mean_square_gain_is_what_theory_says(
    spread: dict[str, list[Spread]], scheme: str
) -> None:
    for row in spread[scheme]:
        ratio = 10 ** (2 * (row.rms_log10 - row.theory_log10))
        # five standard errors of a mean over 1,000 draws, as estimated from these draws. At depth
        # 10 that is 0.5, and Xavier against He would be off by a factor of 1,024.
        assert ratio == pytest.approx(1.0, abs=5 * row.standard_error)
        assert row.standard_error < 0.2


def test_theory_is_the_gain_of_each_scheme(spread: dict[str, list[Spread]]) -> None:
    # sqrt(1/6), sqrt(1/2) and 1 a layer
    for scheme, each in (("default", 1 / 6), ("xavier", 1 / 2), ("he", 1.0)):
        row = spread[scheme][-1]
        assert row.theory_log10 == pytest.approx(5 * math.log10(each), abs=1e-12)


def test_only_he_does_not_drift(spread: dict[str, list[Spread]]) -> None:
    assert {scheme for scheme in SCHEMES if spread[scheme][-1].steady} == {"he"}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_spread_grows_with_depth_whatever_the_scale(
    spread: dict[str, list[Spread]], scheme: str
) -> None:
    widths = [row.high_log10 - row.low_log10 for row in spread[scheme]]
    assert widths == sorted(widths)
    # log-gains of layers are nearly independent: the spread grows as the root of the depth,
    # sqrt(10) = 3.2 between depths 1 and 10; its estimate from 1,000 draws is good to 10 %
    assert 2.0 < widths[-1] / widths[0] < 5.0
    assert all(row.median_log10 < row.rms_log10 for row in spread[scheme])


def test_a_network_s_gain_is_the_norm_of_its_jacobian_s_product(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same network in torch: same draws, gain by autograd."""
    import random

    import torch

    width, depth = 5, 4
    squares = claims._draw_gains(random.Random(3), "default", depth, width)
    source = random.Random(3)
    limit = math.sqrt(1 / width)  # PyTorch's default, for weights and biases
    h = torch.tensor([source.gauss() for _ in range(width)], dtype=torch.float64)
    inputs = []
    for _layer in range(depth):
        draw = [[limit * (2 * source.random() - 1) for _ in range(width)] for _ in range(width)]
        bias = [limit * (2 * source.random() - 1) for _ in range(width)]
        inputs.append(h.requires_grad_())
        weights = torch.tensor(draw, dtype=torch.float64)
        h = torch.relu(weights @ h + torch.tensor(bias, dtype=torch.float64))
    v = torch.tensor([source.gauss() for _ in range(width)], dtype=torch.float64)
    for distance, x in enumerate(reversed(inputs)):
        (back,) = torch.autograd.grad(h, x, v, retain_graph=True)
        assert squares[distance] == pytest.approx((back.norm() / v.norm()).item() ** 2, rel=1e-12)


def test_the_slope_is_one_on_one_side_and_zero_on_the_other() -> None:
    slope = measure_slopes(draws=1000)
    assert slope.holds
    # half of 1,000 draws, 4 standard errors of 1.6 %
    assert slope.on_share == pytest.approx(0.5, abs=0.065)
    assert slope.sigmoid_largest == pytest.approx(0.25, abs=1e-4)


def test_the_claim_about_the_slope_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "relu", lambda z: max(z, 0.01 * z))
    slope = measure_slopes(draws=100)
    assert not slope.holds
    assert slope.worst_off == pytest.approx(0.01, rel=1e-6)


def test_drift_is_noticed(spread: dict[str, list[Spread]]) -> None:
    row = spread["he"][-1]
    assert not dataclasses.replace(row, rms_log10=0.3).steady
    assert not dataclasses.replace(row, rms_log10=-math.inf).steady


def test_the_cost_is_a_ratio() -> None:
    cost = measure_cost(rounds=5, size=200)
    for ratio in (cost.from_z, cost.from_a):
        assert 0 < ratio < math.inf


def test_the_ratio_is_that_of_the_times(monkeypatch: pytest.MonkeyPatch) -> None:
    # a clock that the slow function moves by 3 and the fast one by 1
    now = [0.0]
    monkeypatch.setattr(claims.time, "perf_counter", lambda: now[0])

    def tick(seconds: float) -> None:
        now[0] += seconds

    ratio = claims._ratio(lambda _z: tick(3.0), lambda _z: tick(1.0), [0.0] * 4, rounds=3)  # type: ignore[arg-type,return-value]
    assert ratio == 3.0


def test_draws_are_reproducible_and_depend_on_the_seed() -> None:
    first, again, other = (measure_spread("he", 20, seed, (3,)) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert statistics.fmean([first[0].median_log10, other[0].median_log10]) < 0.5
