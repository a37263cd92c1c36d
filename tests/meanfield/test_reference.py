"""Every number of the reference file: 22 activations, made with 40-digit arithmetic.

All agree to 1e-9 relative; what the file's arithmetic leaves of an exact zero (1e-28 and below, the
square of a mean of 1e-14 among them) has to be 0 to rounding here. Critical points found by root
search keep the same 1e-9: none of the file's roots is degenerate in double precision.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unvanish
from unvanish.meanfield import named
from unvanish.meanfield.critical import CriticalPoint, critical_line, criticality
from unvanish.meanfield.moments import curvature_mean_square, moments
from unvanish.meanfield.pairs import hermite

REFERENCE: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "data" / "activation_reference.json").read_text()
)["activations"]
RELATIVE = 1e-9
ZERO = 1e-28

each_activation = pytest.mark.parametrize("name", list(REFERENCE))


def same(ours: float, theirs: float, scale: float = 1.0) -> bool:
    if abs(theirs) < ZERO:
        return abs(ours) < 1e-14 * scale
    return math.isclose(ours, theirs, rel_tol=RELATIVE)


def check_point(ours: CriticalPoint, theirs: dict[str, Any]) -> None:
    q = theirs["q"]
    assert same(ours.q, q)
    assert same(ours.sigma_w, theirs["sigma_w"])
    assert same(ours.sigma_w**2, theirs["sigma_w2"])
    assert same(ours.sigma_b2, theirs["sigma_b2"], scale=q)
    if theirs.get("sigma_b") is not None and theirs["sigma_b2"] > ZERO:
        assert ours.sigma_b is not None
        assert same(ours.sigma_b, theirs["sigma_b"])
    assert same(ours.chi_parallel, theirs["chi_par"])
    assert same(ours.mean, theirs["mean"])
    assert same(ours.uncorrelated, theirs["c0"])


@each_activation
def test_values_at_zero_and_kinks(name: str) -> None:
    activation = named(name)
    assert same(activation.at_zero, REFERENCE[name]["phi0"])
    assert list(activation.kinks) == REFERENCE[name]["kinks"]


@each_activation
def test_moments_and_gains_at_unit_length(name: str) -> None:
    activation, theirs = named(name), REFERENCE[name]["q1"]
    m = moments(activation, 1.0)
    forward, backward, centred = (
        unvanish.gain(name, kind) for kind in ("forward", "backward", "centred")
    )
    curvature = curvature_mean_square(activation, 1.0)
    ours = {
        "mean": m.mean,
        "second_moment": m.second,
        "variance": m.variance,
        "mean_dphi": m.slope_mean,
        "dphi_second_moment": m.slope_second,
        "q_slope_raw": m.length_slope,
        "gain_forward": forward,
        "gain_forward_centred": centred,
        "gain_backward": backward,
        "chi1_at_gain_forward": forward**2 * m.slope_second,
        "chi1_at_gain_forward_centred": centred**2 * m.slope_second,
        "forward_second_moment_at_gain_backward": backward**2 * m.second,
        "c0": m.squared_mean_cosine,
        "chi_par_at_gain_forward": forward**2 * m.length_slope,
        **({} if curvature == math.inf else {"ddphi_second_moment": curvature}),
    }
    assert ours.keys() == theirs.keys()
    assert not {key: (ours[key], theirs[key]) for key in ours if not same(ours[key], theirs[key])}


@each_activation
def test_printed_digits_are_those_of_the_numbers(name: str) -> None:
    """The file states each number twice; ours is compared with the doubles above."""
    theirs = REFERENCE[name]
    for key, digits in theirs["q1_digits"].items():
        assert same(float(digits), theirs["q1"][key])


@each_activation
def test_hermite_coefficients(name: str) -> None:
    theirs = REFERENCE[name]["hermite_q1"]
    ours = hermite(named(name), 1.0)[: len(theirs)]
    assert all(same(a, b) for a, b in zip(ours, theirs, strict=True)), (ours, theirs)


@each_activation
def test_critical_line(name: str) -> None:
    for theirs in REFERENCE[name]["eoc_curve"]:
        check_point(critical_line(named(name), theirs["q"]), theirs)


@each_activation
def test_critical_line_of_the_centred_activation(name: str) -> None:
    for theirs in REFERENCE[name]["eoc_curve_centred"]:
        check_point(critical_line(named(name), theirs["q"], centred=True), theirs)


@each_activation
def test_critical_points_without_a_bias(name: str) -> None:
    theirs, ours = REFERENCE[name]["eoc_zero_bias"], unvanish.critical(name)
    assert ours.kind == theirs["kind"]
    if ours.kind == "q_to_zero":
        limit = theirs["q_to_zero_limit"]
        assert ours.q == limit["q"] == 0.0
        assert ours.sigma_w is not None
        assert same(ours.sigma_w, limit["sigma_w"])
        near = critical_line(named(name), 1e-6)
        assert same(near.sigma_b2 / 1e-6, limit["sigma_b2_over_q_at_q_1e_minus_6"])
    else:
        assert len(ours.points) == len(theirs["points"])
        for point, expected in zip(ours.points, theirs["points"], strict=True):
            check_point(point, expected)
    for q, key in ((1e-6, "sigma_b2_sign_at_q_1em6"), (1e6, "sigma_b2_sign_q_1e6")):
        if key in theirs:
            assert np.sign(critical_line(named(name), q).sigma_b2) == theirs[key]


@each_activation
def test_half_stable_points(name: str) -> None:
    theirs = REFERENCE[name].get("half_stable_points", [])
    ours = criticality(named(name)).half_stable
    assert len(ours) == len(theirs)
    for point, expected in zip(ours, theirs, strict=True):
        check_point(point, expected)
