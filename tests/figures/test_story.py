"""The pictures of the chain's story draw the numbers of the chain."""

from __future__ import annotations

import math

import pytest

from unvanish.chain import band_width, five_chains, make_chain, solve, train
from unvanish.errors import UnknownNameError
from unvanish.figures import story


def test_the_slope_is_drawn_and_its_saturation_is_grey() -> None:
    figure = story.slope("sigmoid")
    value, slope = figure.data
    middle = list(slope.x).index(0.0)
    assert (value.y[middle], slope.y[middle]) == (0.5, 0.25)
    left, right = figure.layout.shapes
    # saturated is |z| > 4 for the sigmoid; the grid has a point each 0.05
    assert (left.x0, left.x1) == (-8.0, pytest.approx(-4.05, abs=0.051))
    assert (right.x0, right.x1) == (pytest.approx(4.05, abs=0.051), 8.0)


def test_an_activation_that_does_not_saturate_has_no_grey() -> None:
    assert not story.slope("relu").layout.shapes
    with pytest.raises(UnknownNameError):
        story.slope("nothing")


def test_what_arrives_is_the_product_of_the_factors_behind() -> None:
    solution = solve(make_chain(weight=[0.5, 2.0, 3.0], bias=[0.1, 0.2, 0.3]))
    arrived = story.arriving(solution)
    first, second, third = solution.factors
    products = [first * second * third, second * third, third, 1.0]
    assert arrived == pytest.approx([math.log10(one) for one in products], abs=1e-12)
    (line,) = story.gains({"<b>": solution}).data
    assert line.name == "&lt;b&gt;"
    assert list(line.x) == [0, 1, 2, 3]
    assert list(line.y) == arrived


def test_a_chain_cut_by_a_slope_of_zero_is_drawn_as_far_as_it_goes() -> None:
    solution = solve(make_chain(3, activation="relu", pre_activation=[1.0, -1.0, 1.0]))
    (line,) = story.gains({"cut": solution}).data
    assert list(line.y) == [None, None, 0.0, 0.0]


def test_the_band_is_as_wide_as_the_chain_says() -> None:
    figure = story.band([2.0, 10.0])
    narrow, wide = figure.data
    assert max(narrow.y) == 0.5
    assert max(wide.y) == 2.5
    inside = [x for x, y in zip(wide.x, wide.y, strict=True) if y >= 1]
    step = wide.x[1] - wide.x[0]
    assert max(inside) - min(inside) == pytest.approx(band_width(10.0), abs=2 * step)


def test_losses_are_those_of_the_trainings_beside_the_answer_that_ignores_x() -> None:
    trainings = {name: train(chain, steps=20) for name, chain in five_chains(4).items()}
    *lines, constant = story.losses(trainings).data
    for (name, training), line in zip(trainings.items(), lines, strict=True):
        assert line.name == name
        assert list(line.y) == list(training.losses)
    assert set(constant.y) == {next(iter(trainings.values())).constant_loss}
    assert constant.x[-1] == 20
    assert not story.losses({}).data
