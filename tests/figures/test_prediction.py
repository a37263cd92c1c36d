"""Predicted against measured: the data of the picture."""

from __future__ import annotations

from dataclasses import replace

import pytest

from unvanish import figures
from unvanish.records import LayerPrediction, Trace


def one(place: int, predicted: float | None, flag: str | None = None) -> LayerPrediction:
    """The op at `place`, 0 nearest the input, of three; measured is 0.1 above what is predicted."""
    total = None if predicted is None else predicted * (3 - place)
    return LayerPrediction(
        op="AddmmBackward0",
        module=f"net.{place}",
        call=0,
        kind="linear",
        factor="weight",
        measured_log10=-0.2,
        predicted_log10=predicted,
        spread_log10=None if predicted is None else 0.05,
        total_measured_log10=-0.2 * (3 - place) + 0.1,
        total_predicted_log10=total,
        total_low_log10=None if total is None else total - 0.3,
        total_high_log10=None if total is None else total + 0.3,
        amplification_log10=0.0,
        flag=flag,
    )


def trace(*shown: LayerPrediction) -> Trace:
    return Trace(step=0, loss=1.0, layers=(), main_path=None, predictions=shown)


def test_lines_and_band() -> None:
    figure = figures.prediction(trace(*(one(k, -0.2) for k in range(3))))
    assert figure is not None
    band, predicted, measured = figure.data
    assert list(predicted.y) == pytest.approx([-0.6, -0.4, -0.2])
    assert list(measured.y) == pytest.approx([-0.5, -0.3, -0.1])
    assert list(band.x) == [0, 1, 2, 2, 1, 0]
    assert list(band.y) == pytest.approx([-0.9, -0.7, -0.5, 0.1, -0.1, -0.3])
    assert "×0.63" in predicted.hovertext[0]


def test_where_theory_has_nothing_to_say_there_is_no_line_but_a_mark() -> None:
    shown = (one(0, None), one(1, None, "it <b>follows</b> its input"), one(2, -0.2))
    figure = figures.prediction(trace(*shown))
    assert figure is not None
    band, predicted, measured, marks = figure.data
    assert list(predicted.y) == [None, None, pytest.approx(-0.2)]
    assert list(band.x) == [2, 2]
    assert len(measured.y) == 3
    assert list(marks.x) == [1]
    assert "&lt;b&gt;follows" in marks.hovertext[0]


def test_nothing_predicted_nothing_drawn() -> None:
    assert figures.prediction(trace()) is None
    assert figures.prediction(trace(one(2, None, "why"))) is None


def test_names_of_layers_are_text() -> None:
    hostile = replace(one(0, -0.2), module="<img src=x>")
    figure = figures.prediction(trace(hostile))
    assert figure is not None
    assert "<img" not in figure.to_json()
