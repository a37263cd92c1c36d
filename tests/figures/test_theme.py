"""Figures that show themselves: short as text, readable outside our pages, and never an error."""

from __future__ import annotations

import plotly.graph_objects as go
import plotly.io
import pytest

from tests.report import builders
from unvanish import figures
from unvanish.figures import theme


def levels(depth: int) -> go.Figure:
    (model,) = builders.vanishing(depth).run.models
    return figures.levels(model.traces, model.traces[0])


def test_a_picture_is_short_as_text() -> None:
    assert repr(levels(500)) == "<Picture 'Level against depth': 3 traces>"


def test_alone_it_stands_on_white_with_few_names_and_is_not_changed() -> None:
    figure = levels(500)
    before = figure.to_json()
    shown = theme.alone(figure)
    assert figure.to_json() == before
    assert shown.layout.paper_bgcolor == "#ffffff"
    assert len(shown.layout.xaxis.tickvals) <= theme.MOST_TICKS < len(figure.layout.xaxis.tickvals)
    assert shown.layout.legend.yref == "container"


def test_it_shows_itself_that_way(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr(plotly.io, "show", shown.append)
    monkeypatch.setattr(plotly.io.renderers, "default", "plotly_mimetype")
    levels(20)._ipython_display_()
    assert [figure.layout.paper_bgcolor for figure in shown] == ["#ffffff"]


def test_what_fails_is_said_and_the_cell_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_figure: go.Figure) -> None:
        raise ValueError("Mime type rendering requires nbformat>=4.2.0 but it is not installed")

    monkeypatch.setattr(plotly.io, "show", fail)
    monkeypatch.setattr(plotly.io.renderers, "default", "plotly_mimetype")
    levels(20)._ipython_display_()
    printed = capsys.readouterr().out
    assert printed.startswith("<Picture 'Level against depth'")
    assert "nbformat" in printed
