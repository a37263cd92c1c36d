"""A figure as a file: the formats, and that the figure stays as it was."""

from __future__ import annotations

import shutil
import struct
import sys

import pytest
import torch
from torch import nn

import unvanish
from tests.report import builders
from unvanish import figures
from unvanish.errors import DependencyError
from unvanish.figures.theme import MOST_TICKS
from unvanish.report.focus import models
from unvanish.report.image import render_image
from unvanish.report.pictures import PICTURES, draw

needs_browser = pytest.mark.skipif(not shutil.which("chromium"), reason="needs Chromium")


@needs_browser
@pytest.mark.browser
def test_a_picture_becomes_a_file_and_is_not_changed() -> None:
    diagnosis = builders.every_diagnosis()["deep"]
    (one,) = models(diagnosis)
    figure = draw("levels", one)
    assert figure is not None
    before = figure.to_json()
    svg = render_image(figure, "svg", 700)
    png = render_image(figure, "png", 700)
    assert figure.to_json() == before
    assert svg.startswith(b"<svg")
    assert b'width="700"' in svg
    assert png.startswith(b"\x89PNG")
    assert struct.unpack(">I", png[16:20]) == (1400,)  # twice 700: sharp in print
    assert svg.count(b"xtick") <= 3 * MOST_TICKS


def test_every_name_of_a_picture_is_drawn_or_nothing() -> None:
    drawn = set()
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))
    # Predictions need real weights; the runs made by hand have none.
    measured = unvanish.check(model, torch.randn(4, 8), lambda model, x: model(x).square().mean())
    for diagnosis in [measured, *builders.every_diagnosis().values()]:
        for one in models(diagnosis):
            drawn |= {name for name in PICTURES if draw(name, one) is not None}
    assert drawn == set(PICTURES)


def test_a_missing_engine_is_said_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = figures.loss(builders.every_diagnosis()["vanishing"].run.models[0].steps)
    assert figure is not None
    monkeypatch.setitem(sys.modules, "kaleido", None)  # what an import then fails on
    with pytest.raises(DependencyError, match=r"unvanish\[static\]"):
        render_image(figure, "svg")
