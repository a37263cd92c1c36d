"""What the picture of the singular values shows."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import plotly.graph_objects as go
import pytest

from tests.report import builders
from unvanish import figures
from unvanish.figures.spectrum import places
from unvanish.records import Spectrum

EXACT = builders.spectrum(-0.4, 0.1, 10)
SAMPLED = replace(
    EXACT, exact=False, starts=4, rows=1000, columns=3072, shares=tuple(
        share**2 for share in EXACT.shares
    )
)  # fmt: skip


def drawn(spectrum: Spectrum | None) -> go.Figure | None:
    return figures.spectrum(replace(builders.trace(builders.relu_rows(3)), spectrum=spectrum))


@pytest.mark.parametrize("found", [EXACT, SAMPLED], ids=["exact", "sampled"])
def test_the_values_are_drawn_to_the_digit(found: Spectrum) -> None:
    figure = drawn(found)
    assert figure is not None
    line = next(one for one in figure.data if one.hovertext)
    assert tuple(line.y) == found.values_log10
    assert list(line.x) == places(found)
    band = next(one for one in figure.data if one.fill == "toself")
    assert band.y == (*found.high_log10, *reversed(found.low_log10))
    rule = next(one for one in figure.data if one.name == "1: as long as before")
    assert rule.y == (0.0, 0.0)
    low, high = figure.layout.yaxis.range
    assert low < min(found.low_log10) < max(0.0, *found.high_log10) < high


def test_ranks_or_the_middles_of_shares() -> None:
    assert places(EXACT) == list(range(1, 11))
    assert places(replace(SAMPLED, shares=(0.1, 0.4, 1.0), values_log10=(1.0, 0.5, 0.0))) == (
        pytest.approx([0.05, 0.25, 0.7])
    )


def test_the_axis_says_how_they_were_found() -> None:
    titles = [
        figure.layout.xaxis.title.text
        for found in (EXACT, SAMPLED, replace(EXACT, coupled=True, samples=1))
        if (figure := drawn(found)) is not None
    ]
    assert titles == [
        "singular values of each of 64 samples; all 10",
        "share of the singular values; 1,000 a sample, seen from 4 directions",
        "singular values of the whole batch; all 10",
    ]


def test_zeros_and_rounding_are_marked() -> None:
    values = (*EXACT.values_log10[:8], -math.inf, -math.inf)
    figure = drawn(replace(EXACT, values_log10=values, low_log10=values, floor_log10=-1.0))
    assert figure is not None
    names = {one.name: one for one in figure.data}
    assert list(names["exactly zero"].x) == [9, 10]
    assert list(names["below it: rounding"].y) == [-1.0, -1.0]
    assert "below it: rounding" not in {one.name for one in (drawn(EXACT) or go.Figure()).data}
    json.dumps(figure.to_plotly_json(), allow_nan=False)


def test_without_a_spectrum_there_is_no_picture() -> None:
    assert drawn(None) is None
