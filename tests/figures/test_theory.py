"""The data of the theory's figures."""

import math

import numpy as np
import pytest

import unvanish
from unvanish.figures import theory as figures
from unvanish.meanfield import NAMES, named
from unvanish.meanfield.maps import Layer, fixed_point
from unvanish.meanfield.phase import diagram


@pytest.mark.parametrize("name", ["tanh", "gelu", "sigmoid", "softplus", "relu6"])
def test_the_diagram_holds_the_gain_at_the_fixed_point(name: str) -> None:
    sigma_w, sigma_b = [0.4, 1.1, 1.7, 3.0], [0.0, 0.3, 1.5]
    shown = diagram(named(name), sigma_w, sigma_b)
    for row, b in zip(shown.gain_log10, sigma_b, strict=True):
        for gain, w in zip(row, sigma_w, strict=True):
            point = fixed_point(Layer(named(name), w, b))
            if 1e-6 < point.q < 1e4:
                # interpolated between lengths a third apart
                assert gain == pytest.approx(0.5 * math.log10(point.chi_1), abs=2e-3)
            else:
                assert (gain > 0.0) == (point.chi_1 > 1.0)


def test_the_critical_line_is_where_the_sign_changes() -> None:
    shown = diagram(named("tanh"), [1.0], [0.0])
    for point in shown.line[8:-8:6]:
        assert point.sigma_b is not None
        grid = [0.93 * point.sigma_w, 1.07 * point.sigma_w]
        (around,) = diagram(named("tanh"), grid, [point.sigma_b]).gain_log10
        assert around[0] < 0.0 < around[1]


def test_softplus_has_no_critical_line() -> None:
    assert diagram(named("softplus"), [1.0], [0.0]).line == ()


def test_a_curve_is_the_activation_and_its_slope() -> None:
    drawn = figures.curve(named("silu"), 5, 2.0)
    assert drawn.z == (-2.0, -1.0, 0.0, 1.0, 2.0)
    np.testing.assert_allclose(drawn.value, named("silu").f(np.array(drawn.z)))
    np.testing.assert_allclose(drawn.slope, named("silu").df(np.array(drawn.z)))


@pytest.mark.parametrize("name", NAMES)
def test_every_activation_can_be_drawn(name: str) -> None:
    theory = unvanish.theory(name, sigma_w=9.0, sigma_b=3.0)
    shown = figures.phases(named(name), theory.settings)
    assert shown.sigma_w[-1] >= 9.0
    assert shown.sigma_b[-1] >= 3.0
    phase = figures.phase_picture(shown, theory.settings)
    heat = phase.data[0]
    assert (len(heat.z), len(heat.z[0])) == (len(shown.sigma_b), len(shown.sigma_w))
    markers = phase.data[-1]
    assert list(markers.x) == [setting.sigma_w for setting in theory.settings]
    slope = figures.slope_picture(named(name), theory.q)
    assert [trace.name for trace in slope.data] == ["φ(z)", "φ'(z)"]


def test_the_depth_scale_is_greatest_at_the_critical_point() -> None:
    grid, depths = figures.depth_scale(named("relu"), 0.0, 3.0, points=60)
    best = grid[depths.index(max(depths))]
    assert best == pytest.approx(2.0**0.5, abs=0.05)  # the grid's step
    picture = figures.depth_picture(grid, depths, 1.0, 6.0)
    assert list(picture.data[-1].x) == [1.0]


def test_maps_cross_the_diagonal_at_their_fixed_point() -> None:
    layer = Layer(named("tanh"), 1.5, 0.1)
    point = fixed_point(layer)
    lengths = figures.length_map(layer, point)
    after = np.interp(point.q, lengths.before, lengths.after)
    assert after == pytest.approx(point.q, rel=1e-2)  # between two points of the line
    correlations = figures.correlation_map(layer, point)
    assert correlations.after[-1] == pytest.approx(1.0, abs=1e-6)
    at = np.interp(point.correlation, correlations.before, correlations.after)
    assert at == pytest.approx(point.correlation, abs=1e-2)
    drawn = figures.map_picture(lengths, "title", "q", "q'")
    assert list(drawn.data[-1].x) == [point.q]
