"""The data of the chain's pictures."""

from __future__ import annotations

import math

import plotly.graph_objects as go
import pytest

from unvanish.chain import Chain, five_chains, make_chain, solve, train
from unvanish.figures import chain as figures


def bars_of(figure: go.Figure) -> dict[int, float]:
    return {
        k: y
        for trace in figure.data
        if trace.yaxis in (None, "y")
        for k, y in zip(trace.x, trace.y, strict=True)
    }


def test_every_factor_is_a_bar_and_the_line_their_product() -> None:
    solution = solve(make_chain(6, weight=[2.0, -1.0, 9.0, 0.5, 4.0, 1.0]), 0.3)
    figure = figures.factors(solution)
    assert bars_of(figure) == {neuron.k: neuron.factor_log10 for neuron in solution.neurons}
    line = figure.data[-1]
    assert line.y[0] == pytest.approx(solution.input_gain_log10)
    assert line.y[-1] == solution.neurons[-1].factor_log10
    assert list(line.y) == figures.product(solution)


def test_factors_of_one_and_of_zero_are_seen() -> None:
    solution = solve(make_chain(3, weight=[1.0, -1.0, 1.0], activation="relu"), 1.0)
    figure = figures.factors(solution)
    names = {trace.name: list(trace.x) for trace in figure.data[:-1]}
    assert names == {"exactly zero": [2, 3], "exactly 1": [1]}
    lowest = min(y for trace in figure.data[:-1] for y in trace.y)
    assert math.isfinite(lowest)
    assert lowest < -0.5
    assert list(figure.data[-1].y) == [None, None, None]


def test_a_chain_that_overflows_is_drawn() -> None:
    solution = solve(Chain((1e200, 1e200, 1e200), (0.0,) * 3, "linear"), 1e100)
    figures.factors(solution)
    figures.gradients(solution)


def test_gradients_are_those_of_the_solution() -> None:
    solution = solve(make_chain(5), 1.0)
    (line,) = figures.gradients(solution).data
    assert list(line.y) == [neuron.dC_dw_log10 for neuron in solution.neurons]
    line, zeros = figures.gradients(solve(make_chain(5), 0.0)).data
    assert list(zeros.x) == [1]
    assert line.y[0] is None


@pytest.mark.parametrize(("weight", "bias"), [(10.0, -5.0), (-10.0, 2.0), (4.0, 0.0)])
def test_the_band_is_where_the_curve_is_above_one(weight: float, bias: float) -> None:
    figure = figures.neuron("sigmoid", weight, bias, 0.5)
    shade, curve = figure.data[0], figure.data[1]
    low, high = shade.x[0], shade.x[1]
    step = curve.x[1] - curve.x[0]
    for x, y in zip(curve.x, curve.y, strict=True):
        if min(abs(x - low), abs(x - high)) > step:
            assert (y >= 1) == (low < x < high)


def test_a_small_weight_has_no_band_and_the_input_is_in_sight() -> None:
    figure = figures.neuron("sigmoid", 1.0, 0.0, 40.0)
    assert all(trace.fill is None for trace in figure.data)
    low, high = figure.layout.xaxis.range
    assert low <= 40.0 <= high
    assert figures.window(0.0, 0.0, math.nan)[0] < 0


def test_the_training_is_thinned_and_its_step_marked() -> None:
    training = train(five_chains(10)["sigmoid"], steps=500)
    figure = figures.training(training, 120)
    losses = figure.data[0]
    assert len(losses.x) <= 130
    assert [training.losses[step] for step in losses.x] == list(losses.y)
    assert (list(figure.data[-1].x), list(figure.data[-1].y)) == ([120], [training.losses[120]])
    diverged = train(make_chain(2, weight=1e60, activation="linear"), steps=50)
    figures.training(diverged, 500)
