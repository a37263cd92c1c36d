"""What the picture of the activations shows: their slopes, and where their inputs fall."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from torch import nn

from tests.measure.tracing import trace
from tests.report import builders
from unvanish import figures
from unvanish.figures.activations import MOST_ROWS, groups, saturated, share
from unvanish.meanfield import named
from unvanish.records import INPUT_BINS, ActivationInput, Trace


def traced(*activations: nn.Module, width: int = 24) -> Trace:
    torch.manual_seed(0)
    body = [part for one in activations for part in (nn.Linear(width, width), one)]
    model = nn.Sequential(*body)
    with torch.no_grad():
        for layer in model[::2]:
            layer.weight *= 4
    batch = torch.randn(64, width)
    return trace(model, batch, lambda m, b: m(b).square().mean())


def drawn(one: Trace) -> go.Figure:
    figure = figures.activations(one)
    assert figure is not None
    return figure


def by_name(figure: go.Figure) -> dict[str, Any]:
    return {one.name: one for one in figure.data if one.visible}


def test_shares_are_the_counts_to_the_digit() -> None:
    one = traced(nn.Tanh(), nn.Tanh())
    lines = by_name(drawn(one))
    for found in one.inputs:
        ys = lines[found.module].y
        assert list(ys) == share(found)
        assert sum(ys) == pytest.approx(1.0)
        counted = [round(y * found.entries) for y in ys]
        assert counted[found.first : found.first + len(found.counts)] == list(found.counts)


def test_the_measured_slope_lies_on_the_formula() -> None:
    lines = by_name(drawn(traced(nn.Sigmoid(), nn.Sigmoid())))
    formula, measured = lines["slope, from its formula"], lines["slope, measured"]
    sigmoid = named("sigmoid")
    assert len(measured.x) > 40
    assert list(formula.y) == [float(y) for y in sigmoid.df(np.array(formula.x))]
    for x, y in zip(measured.x[1:-1], measured.y[1:-1], strict=True):
        # the mean over a bin of 0.25: off by at most half a bin times the steepest change, 0.1
        assert y == pytest.approx(float(sigmoid.df(torch.tensor([x]).numpy())[0]), abs=0.0125)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("sigmoid", [(-8.0, -4.0), (4.0, 8.0)]), ("tanh", [(-8.0, -2.0), (2.0, 8.0)]), ("relu", [])],
)
def test_the_shaded_range_is_where_units_saturate(
    name: str, expected: list[tuple[float, float]]
) -> None:
    # On a grid of 0.01; sigmoid 4.00 and tanh 2.00 by the vocabulary's 0.0707 of the steepest.
    assert [x for pair in saturated(named(name)) for x in pair] == pytest.approx(
        [x for pair in expected for x in pair], abs=0.021
    )


def test_activations_of_several_kinds_have_a_menu() -> None:
    figure = drawn(traced(nn.Tanh(), nn.ReLU(), nn.Tanh(), nn.LeakyReLU(0.3)))
    (menu,) = figure.layout.updatemenus
    assert [button.label for button in menu.buttons] == [
        "tanh: 2 layers",
        "leaky_relu (0.3): 1 layers",
        "relu: 1 layers",
    ]
    flags = [button.args[0]["visible"] for button in menu.buttons]
    assert [sum(part) for part in zip(*flags, strict=True)] == [1] * len(figure.data)


def test_one_written_by_hand_shows_what_the_backward_pass_gave() -> None:
    class Bump(nn.Module):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return z * torch.exp(-z * z)

    one = traced(Bump())
    (group,) = groups(one)
    assert (group.label, group.activation) == ("Bump", None)
    lines = by_name(drawn(one))
    assert "slope, from its formula" not in lines
    places = dict(zip(lines["slope, measured"].x, lines["slope, measured"].y, strict=True))
    assert places[0.125] == pytest.approx(0.95, abs=0.04)  # (1 − 2z²) exp(−z²)
    assert places[1.125] == pytest.approx(-0.43, abs=0.04)


def test_an_elu_of_another_alpha_is_not_drawn_as_the_usual_one() -> None:
    assert groups(traced(nn.ELU()))[0].activation is not None
    assert groups(traced(nn.ELU(3.0)))[0].activation is None


def test_many_layers_are_rows_of_a_heat_map() -> None:
    figure = drawn(traced(*[nn.Tanh() for _ in range(7)]))
    (cells,) = [one for one in figure.data if isinstance(one, go.Heatmap)]
    assert [label.partition(":")[0] for label in cells.y] == [str(i + 1) for i in range(7)]
    assert len(cells.z) == 7
    assert all(len(row) == INPUT_BINS for row in cells.z)
    assert sum(value or 0.0 for value in cells.z[0]) == pytest.approx(1.0)


def test_very_many_layers_are_thinned() -> None:
    deep = builders.every_diagnosis()["deep"].run.models[0].traces[0]
    figure = drawn(deep)
    (cells,) = [one for one in figure.data if isinstance(one, go.Heatmap)]
    assert len(deep.inputs) > MOST_ROWS >= len(cells.y) > MOST_ROWS / 2
    assert len(json.dumps(figure.to_plotly_json(), allow_nan=False)) < 400_000


def test_what_was_not_seen_is_said() -> None:
    found = ActivationInput("f", 0, "ReluBackward0", "relu", 0.0, 10, 32, (4,), (1.0,), unseen=6)
    figure = drawn(replace(traced(nn.Tanh()), inputs=(found,)))
    line = by_name(figure)["f"]
    assert "not seen, z ≤ 0: 60 %" in line.hovertext[40]
    assert line.y[32] == 0.4


def test_slopes_that_are_unknown_leave_no_mark() -> None:
    one = traced(nn.Tanh())
    dark = tuple(replace(i, slopes=(math.nan,) * len(i.slopes)) for i in one.inputs)
    assert "slope, measured" not in by_name(drawn(replace(one, inputs=dark)))


def test_without_inputs_there_is_no_picture() -> None:
    assert figures.activations(replace(traced(nn.Tanh()), inputs=())) is None
