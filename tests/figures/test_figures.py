"""The data of the figures, not their pixels."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from itertools import pairwise

import plotly.graph_objects as go
import pytest

from tests.report import builders
from unvanish import figures, words
from unvanish.figures import theme
from unvanish.figures.heatmap import MOST_CELLS
from unvanish.records import FACTORS, Incident, LayerSignal, MainPath, StepRecord, Trace

DIAGNOSES = builders.every_diagnosis()


def first(name: str) -> Trace:
    return DIAGNOSES[name].run.models[0].traces[0]


def path_of(name: str) -> MainPath:
    path = first(name).main_path
    assert path is not None
    return path


def every_figure(name: str) -> list[go.Figure]:
    found: list[go.Figure | None] = []
    for model in DIAGNOSES[name].run.models:
        found.append(figures.loss(model.steps))
        for trace in model.traces[:1]:
            assert trace.main_path is not None
            found += [
                figures.waterfall(trace.main_path),
                figures.levels(model.traces, trace),
                figures.heatmap(model.traces, trace),
                figures.network(trace),
                figures.slopes(trace),
                figures.activations(trace),
                figures.spectrum(trace),
                figures.forward(trace),
                figures.parameters(trace),
                figures.recurrence(trace.recurrences),
            ]
    return [figure for figure in found if figure is not None]


# --- the waterfall -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vanishing", "healthy", "residual", "recurrent", "deep", "gan"])
def test_bars_are_a_chain_from_the_loss_to_the_source(name: str) -> None:
    path = path_of(name)
    made = figures.bars(path).bars
    assert made[0].start_log10 == path.root_level_log10
    for bar, following in pairwise(made):
        assert bar.end_log10 == following.start_log10
    # 1,002 edges, summed in groups here and one by one there.
    assert made[-1].end_log10 == pytest.approx(path.source_level_log10, abs=1e-10)


@pytest.mark.parametrize("name", ["vanishing", "residual", "recurrent", "deep"])
def test_bars_keep_every_factor_s_total(name: str) -> None:
    path = path_of(name)
    for factor in FACTORS:
        drawn = math.fsum(b.change_log10 for b in figures.bars(path).bars if b.factor == factor)
        gains = math.fsum(edge.gain_log10 for edge in path.edges if edge.factor == factor)
        merges = math.fsum(edge.merge_log10 for edge in path.edges) if factor == "merge" else 0.0
        assert drawn == pytest.approx(gains + merges, abs=1e-10)


def test_short_paths_have_a_bar_for_every_op_and_long_ones_fewer() -> None:
    assert figures.bars(path_of("vanishing")).ops == 1
    assert len(figures.bars(path_of("vanishing")).bars) == len(path_of("vanishing").edges)
    assert figures.bars(path_of("recurrent")).ops > 1
    deep = figures.bars(path_of("deep"))
    assert deep.ops > 10
    assert len(deep.bars) <= 72
    assert sum(bar.count for bar in deep.bars) == len(path_of("deep").edges)


def test_a_call_of_hundreds_of_ops_is_not_one_bar() -> None:
    rows = [
        builders.linear("embed", 0.0),
        builders.Row(
            "lstm",
            "LSTM",
            tuple(
                builders.Op("MulBackward0", "gate", -0.1)
                if t % 2
                else builders.Op("MmBackward0", "recurrence", 0.02)
                for t in range(400)
            ),
        ),
        builders.linear("head", 0.0),
    ]
    path = builders.trace(rows).main_path
    assert path is not None
    made = figures.bars(path)
    assert 30 <= len(made.bars) <= 72
    assert max(abs(bar.change_log10) for bar in made.bars) < 1.5


def test_an_empty_path_draws_nothing_and_does_not_fail() -> None:
    empty = replace(path_of("vanishing"), edges=())
    assert figures.bars(empty).bars == ()
    figures.waterfall(empty)


def test_bars_are_drawn_where_their_numbers_say() -> None:
    path = path_of("residual")
    made = figures.bars(path).bars
    figure = figures.waterfall(path)
    drawn = {
        x: (base, height, trace.name)
        for trace in figure.data
        if isinstance(trace, go.Bar)
        for x, base, height in zip(trace.x, trace.base, trace.y, strict=True)
    }
    assert drawn == {
        i: (bar.start_log10, bar.change_log10, words.factor_name(bar.factor))
        for i, bar in enumerate(made)
    }
    assert [trace.name for trace in figure.data if isinstance(trace, go.Bar)] == [
        "slope",
        "weight",
        "norm",
        "merge",
        "loss",
    ]
    assert len(figure.layout.xaxis.ticktext) == len(made)


def test_a_gain_of_zero_reaches_the_frame_and_one_of_nan_is_a_cross() -> None:
    path = path_of("vanishing")
    edges = list(path.edges)
    edges[5] = replace(edges[5], gain_log10=-math.inf)
    zero = figures.waterfall(replace(path, edges=tuple(edges[:6]), source_level_log10=-math.inf))
    floor = zero.layout.yaxis.range[0]
    lowest = min(
        base + height
        for trace in zero.data
        if isinstance(trace, go.Bar)
        for base, height in zip(trace.base, trace.y, strict=True)
    )
    assert lowest == pytest.approx(floor)
    edges[5] = replace(edges[5], gain_log10=math.nan)
    broken = figures.waterfall(replace(path, edges=tuple(edges)))
    cross = next(trace for trace in broken.data if trace.name == "not finite")
    assert list(cross.x) == [5]
    assert json.dumps(broken.to_plotly_json(), allow_nan=False)


def test_the_hover_text_of_a_bar_tells_place_factor_gain_and_levels() -> None:
    figure = figures.waterfall(path_of("vanishing"))
    slope = next(trace for trace in figure.data if trace.name == "slope")
    assert slope.hovertext[0] == (
        "<b>net.39</b><br>SigmoidBackward0<br>slope ×0.25 (−0.61)<br>level −1.5 → −2.1"
    )
    relu = figures.waterfall(path_of("healthy"))
    slope = next(trace for trace in relu.data if trace.name == "slope")
    assert slope.hovertext[0].endswith("against its reference −0.01")


# --- against depth -------------------------------------------------------------------------------


def test_levels_have_a_line_for_each_step_and_the_focus_in_front() -> None:
    model = DIAGNOSES["vanishing"].run.models[0]
    focus = model.traces[0]
    figure = figures.levels(model.traces, focus)
    assert figure is not None
    assert [trace.name for trace in figure.data] == [f"step {step}" for step in builders.SAMPLED]
    assert list(figure.data[0].y) == [layer.level_log10 for layer in focus.layers]
    widths = [trace.line.width for trace in figure.data]
    assert widths[0] > max(widths[1:])


def test_of_many_steps_the_first_the_last_and_the_focus_are_shown() -> None:
    rows = builders.sigmoid_rows(3)
    traces = tuple(builders.trace(rows, step) for step in range(0, 1000, 10))
    figure = figures.levels(traces, traces[33])
    assert figure is not None
    names = [trace.name for trace in figure.data]
    assert len(names) <= 10
    assert {"step 0", "step 330", "step 990"} <= set(names)
    assert names == sorted(names, key=lambda name: int(name.split()[1]))


def test_layers_are_matched_by_name_when_a_step_has_others() -> None:
    whole, part = builders.sigmoid_rows(4), builders.sigmoid_rows(4)
    del part[3]
    traces = (builders.trace(whole, 0), builders.trace(part, 1))
    lines = figures.level_lines(traces, traces[0].layers)
    assert [i for i, _level in lines[1].points] == [0, 1, 2, 4, 5, 6, 7, 8]
    assert dict(lines[1].points)[4] == traces[1].layers[3].level_log10


def test_zero_and_nan_levels_are_marks_and_not_points() -> None:
    trace = first("vanishing")
    layers = list(trace.layers)
    layers[0] = replace(layers[0], level_log10=-math.inf)
    layers[1] = replace(layers[1], level_log10=math.nan)
    layers[2] = replace(layers[2], level_log10=math.inf)
    odd = replace(trace, layers=tuple(layers))
    (line,) = figures.level_lines([odd], odd.layers)
    assert (line.zeros, line.nonfinite) == ((0,), (1, 2))
    figure = figures.levels([odd], odd)
    assert figure is not None
    marks = {trace.name: list(trace.x) for trace in figure.data[1:]}
    assert marks == {"exactly zero": [0], "not finite": [1, 2]}


def test_side_branches_are_left_out_of_the_levels() -> None:
    trace = first("vanishing")
    layers = (
        *trace.layers,
        LayerSignal("query", "Linear", 0, None, -30.0, -2.0, on_main_path=False),
    )
    figure = figures.levels([replace(trace, layers=layers)], replace(trace, layers=layers))
    assert figure is not None
    assert min(figure.data[0].y) > -30


def test_slopes_and_shares_are_those_of_the_activations() -> None:
    figure = figures.slopes(first("saturated"))
    assert figure is not None
    series = {trace.name: list(trace.y) for trace in figure.data}
    activations = [layer for layer in first("saturated").layers if layer.activation]
    assert series["slope (rms)"] == [layer.slope_rms for layer in activations]
    assert series["saturated"] == [0.0, 0.87, 0.0, 0.0, 0.0, 0.0]
    assert series["dead"] == [0.0, 0.0, 0.0, 0.4, 0.0, 0.0]
    assert series["reference"] == pytest.approx([1, 1, 1, math.sqrt(0.5), 1, 1])


def test_an_unknown_share_is_not_drawn() -> None:
    trace = first("saturated")
    layers = tuple(replace(layer, saturated_share=None) for layer in trace.layers)
    figure = figures.slopes(replace(trace, layers=layers))
    assert figure is not None
    assert "saturated" not in {trace.name for trace in figure.data}


def test_parameters_without_a_gradient_are_marked() -> None:
    figure = figures.parameters(first("cut"))
    assert figure is not None
    series = {trace.name: trace for trace in figure.data}
    assert list(series["no gradient"].x) == [0, 1, 2]
    assert list(series["gradients"].y)[:4] == [None, None, None, -1.3]


def test_forward_shows_size_and_correlation() -> None:
    trace = first("vanishing")
    layers = tuple(replace(layer, participation=16.0) for layer in trace.layers)
    figure = figures.forward(replace(trace, layers=layers))
    assert figure is not None
    series = {trace.name: list(trace.y) for trace in figure.data}
    assert series["size of the output (rms)"][0] == pytest.approx(math.log10(0.31))
    assert series["correlation between samples"][:2] == [0.62, 0.9]
    # 16 of a batch of 64
    assert set(series["samples that take part in the backward signal"]) == {0.25}


def test_of_very_many_layers_the_forward_signal_shows_one_type() -> None:
    trace = first("deep")
    figure = figures.forward(trace)
    assert figure is not None
    assert len(figure.data[0].y) == 501
    assert set(figure.data[0].y) == {math.log10(0.31)}
    assert figure.layout.xaxis.title.text.endswith("of type Linear only")


# --- against time --------------------------------------------------------------------------------


def test_the_loss_marks_what_was_sampled_skipped_and_not_finite() -> None:
    steps = [
        StepRecord(0, 2.0, sampled=True),
        StepRecord(1, 1.5, skipped=True),
        StepRecord(2, math.nan, sampled=True),
        StepRecord(3, 1.0),
    ]
    figure = figures.loss(steps)
    assert figure is not None
    series = {trace.name: (list(trace.x), list(trace.y)) for trace in figure.data}
    assert series == {
        "loss": ([0, 1, 3], [2.0, 1.5, 1.0]),
        "sampled": ([0, 2], [2.0, 2.0]),
        "skipped by the scaler": ([1], [1.5]),
        "not finite": ([2], [2.0]),
    }


def test_the_loss_marks_incidents_and_alarms() -> None:
    steps = [StepRecord(step, 2.0 - 0.1 * step) for step in range(10)]
    spike = Incident(4, 5, "spike", "loss", 9.0, 1.6)
    broken = Incident(30, 30, "nonfinite", "gradient", math.nan)
    alarm = replace(builders.VANISHING_BY_SLOPE, step=7, title="<b> it shrinks")
    figure = figures.loss(steps, [spike, broken], [alarm])
    assert figure is not None
    series = {one.name: one for one in figure.data}
    assert list(series["incident"].x) == [4, 30]
    assert list(series["incident"].y) == [steps[4].loss, steps[9].loss]
    assert "a spike of the loss" in series["incident"].hovertext[0]
    assert "the gradient is not finite" in series["incident"].hovertext[1]
    assert list(series["alarm"].x) == [7]
    assert "VG101: &lt;b&gt; it shrinks" in series["alarm"].hovertext[0]


def test_a_layer_that_is_zero_at_several_steps_has_one_mark_that_names_them() -> None:
    one = first("vanishing")
    dark = tuple(replace(layer, level_log10=-math.inf) for layer in one.layers[:3])
    traces = [replace(one, step=step, layers=(*dark, *one.layers[3:])) for step in (0, 4)]
    figure = figures.levels(traces, traces[0])
    assert figure is not None
    marks = next(trace for trace in figure.data if trace.name == "exactly zero")
    assert list(marks.x) == [0, 1, 2]
    assert "step 0, 4" in marks.hovertext[0]


def test_very_many_zeros_are_coloured_cells_of_the_heat_map() -> None:
    one = first("deep")
    dark = tuple(replace(layer, level_log10=-math.inf) for layer in one.layers[:300])
    traces = [replace(one, step=step, layers=(*dark, *one.layers[300:])) for step in (0, 4)]
    figure = figures.heatmap(traces, traces[0])
    assert figure is not None
    cells = next(trace for trace in figure.data if trace.name == "exactly zero")
    assert isinstance(cells, go.Heatmap)
    assert [sum(value or 0 for value in row) for row in cells.z] == [300, 300]
    levels = figure.data[0].z
    assert all((a is None) == (b == 1) for a, b in zip(levels[0], cells.z[0], strict=True))


def test_a_loss_over_decades_is_drawn_in_decades() -> None:
    def axis(losses: list[float]) -> str | None:
        figure = figures.loss([StepRecord(i, loss) for i, loss in enumerate(losses)])
        assert figure is not None
        kind: str | None = figure.layout.yaxis.type
        return kind

    assert axis([100.0, 1.0]) == "log"
    assert axis([2.0, 1.0]) is None
    assert axis([100.0, -1.0]) is None


def test_a_long_loss_keeps_its_peaks() -> None:
    steps = [StepRecord(i, 1.0 + math.sin(i / 1000)) for i in range(50_000)]
    steps[31_234] = StepRecord(31_234, 50.0)
    steps[41_234] = StepRecord(41_234, -50.0)
    thinned = figures.thin(steps)
    assert len(thinned) <= 2000
    assert {50.0, -50.0} <= {step.loss for step in thinned}
    assert [step.step for step in thinned] == sorted({step.step for step in thinned})


def test_the_recurrent_signal_is_a_line_over_time_for_each_weight() -> None:
    trace = first("recurrent")
    figure = figures.recurrence(trace.recurrences)
    assert figure is not None
    assert list(figure.data[0].x) == list(range(60))
    assert list(figure.data[0].y) == [point.level_log10 for point in trace.recurrences[0].levels]
    assert figure.data[0].name == "rnn.weight_hh"


def test_where_there_is_nothing_there_is_no_picture() -> None:
    bare = Trace(0, 1.0, (), None)
    assert figures.levels([bare], bare) is None
    assert figures.slopes(bare) is None
    assert figures.forward(bare) is None
    assert figures.parameters(bare) is None
    assert figures.recurrence(()) is None
    assert figures.loss([StepRecord(0, 1.0)]) is None


# --- all of them ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in DIAGNOSES if name != "empty"])
def test_figures_are_strict_json_with_titles_and_no_template(name: str) -> None:
    for figure in every_figure(name):
        text = json.dumps(figure.to_plotly_json(), allow_nan=False)
        assert len(text) < 2_000_000
        assert figure.layout.title.text
        assert figure.layout.paper_bgcolor == "rgba(0,0,0,0)"


def test_hostile_names_stay_text_in_plotly() -> None:
    """Plotly reads <b>, <br>, <a href> and entities in its texts; names must not be read so."""
    markup = re.compile(r"</?(b|br)>|<extra></extra>")
    for figure in every_figure("hostile"):
        for text in strings_of(figure.to_plotly_json()):
            assert "<" not in markup.sub("", text)
            assert "\x1b" not in text
            assert "\u202e" not in text
            assert len(text) < 400
            if "bold" in text:
                assert "&lt;b&gt;bold" in text or "…" in text


def strings_of(plain: object) -> list[str]:
    if isinstance(plain, str):
        return [plain]
    if isinstance(plain, dict):
        return [text for value in plain.values() for text in strings_of(value)]
    if isinstance(plain, list | tuple):
        return [text for value in plain for text in strings_of(value)]
    return []


def test_safe_text_comes_back_as_it_was() -> None:
    assert theme.safe("<b>&amp;") == "&lt;b&gt;&amp;amp;"
    assert theme.tick("encoder.layers.11.norm1") == "e.layers.11.norm1"


def test_every_factor_has_its_own_look() -> None:
    assert set(theme.FILLS) == set(FACTORS)
    looks = {(fill.color, fill.pattern) for fill in theme.FILLS.values()}
    assert len(looks) == len(FACTORS)


# --- the heat map --------------------------------------------------------------------------------


def test_the_heat_map_holds_every_level_of_the_sampled_steps() -> None:
    model = DIAGNOSES["vanishing"].run.models[0]
    focus = model.traces[-1]
    figure = figures.heatmap(model.traces, focus)
    assert figure is not None
    (cells,) = (trace for trace in figure.data if trace.type == "heatmap")
    columns, _rows = figures.heat_lines(model.traces, focus)
    for row, trace in zip(cells.z, model.traces, strict=True):
        by_place = {(layer.module, layer.call, layer.op): layer for layer in trace.layers}
        for value, column in zip(row, columns, strict=True):
            level = by_place[column.module, column.call, column.op].level_log10
            assert value == (level if level is not None and math.isfinite(level) else None)
    assert list(cells.y) == [str(trace.step) for trace in model.traces]


def test_the_heat_map_stays_light_at_a_thousand_samples() -> None:
    model = DIAGNOSES["deep"].run.models[0]
    trace = model.traces[0]
    many = [replace(trace, step=step) for step in range(1000)]
    columns, rows = figures.heat_lines(many, trace)
    assert len(columns) * len(rows) <= MOST_CELLS
    assert [rows[0].step, rows[-1].step] == [0, 999]


def test_one_step_is_no_heat_map() -> None:
    trace = first("vanishing")
    assert figures.heatmap([trace], trace) is None
