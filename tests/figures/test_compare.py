"""Several runs in one picture, and the newest sample of a run that goes on."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tests.report import builders
from unvanish.figures import compare as figures
from unvanish.figures.history import history, history_picture
from unvanish.figures.live import newest
from unvanish.records import Readings, StepRecord
from unvanish.report import focus
from unvanish.store import Overview
from unvanish.store.overview import of_readings, overview_of


def test_losses_of_long_runs_are_thinned() -> None:
    steps = [StepRecord(step, 2.0 + math.sin(step)) for step in range(10_000)]
    figure = figures.losses([("a", steps), ("b", steps[:100])], most=200)
    assert figure is not None
    assert [len(trace.x) for trace in figure.data] == [200, 100]
    assert max(figure.data[0].y) == max(step.loss for step in steps)
    assert figures.losses([("a", steps[:1])]) is None


def test_levels_share_the_layers_of_all_runs() -> None:
    diagnoses = builders.every_diagnosis()
    traces = [
        (name, trace)
        for name in ("vanishing", "hostile")
        if (trace := focus.models(diagnoses[name])[0].trace) is not None
    ]
    figure = figures.levels(traces)
    assert figure is not None
    assert len(figure.data) == 2
    for line, (_name, trace) in zip(figure.data, traces, strict=True):
        known = [layer.level_log10 for layer in trace.layers if layer.on_main_path]
        assert list(line.y) == [level for level in known if level is not None]
        assert list(line.x) == sorted(set(line.x))
    longest = max(len(text) for text in figure.layout.xaxis.ticktext)
    assert longest < 100  # names of 2,000 characters are shortened


def seen(readings: Sequence[Readings], points: int) -> Overview:
    samples = [of_readings(one) for one in readings]
    return overview_of("level", samples, points)


def test_a_long_history_is_thinned_to_means() -> None:
    readings = [
        Readings("level", step, ("a#0", "b#0"), (float(step), -math.inf if step // 10 % 2 else 1.0))
        for step in range(0, 10_000, 10)
    ]
    found = history(seen(readings, 100))
    assert found is not None
    assert (len(found.first), found.first[1], found.last[-1]) == (100, 100, 9990)
    assert found.means[0][0] == sum(range(0, 100, 10)) / 10
    assert set(found.means[1]) == {1.0}
    assert history(seen([], 100)) is None
    many = Readings("level", 0, tuple(f"layer{i}" for i in range(500)), (0.0,) * 500)
    wide = history(seen([many], 100))
    assert wide is not None
    assert (len(wide.names), wide.names[0], wide.names[-1]) == (60, "layer0", "layer499")
    (drawn,) = history_picture(found).data
    assert drawn.z[0][0] == found.means[0][0]


def test_the_newest_sample_shows_zeros_and_what_is_not_finite() -> None:
    reading = Readings("level", 7, ("a#0", "<b>", "c"), (-3.0, -math.inf, math.nan))
    line, zeros, wild = newest(reading).data
    assert list(line.y) == [-3.0, None, None]
    assert (list(zeros.x), list(wild.x)) == ([1], [2])
    assert "<b>&lt;b&gt;</b>" in zeros.hovertext[0]
