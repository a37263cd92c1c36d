"""Folding a long table: nothing gets lost, and the lines add up to the whole."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from tests.report import builders
from unvanish.records import Diagnosis, LayerSignal
from unvanish.report import layers
from unvanish.report.layers import Fold, Row

DIAGNOSES = builders.every_diagnosis()


def table(diagnosis: Diagnosis) -> list[Row]:
    trace = diagnosis.run.models[0].traces[0]
    return layers.rows(trace.layers, diagnosis.findings)


def expanded(lines: list[Row | Fold]) -> list[Row]:
    return [row for line in lines for row in line.rows]


@pytest.mark.parametrize("name", [name for name in DIAGNOSES if name != "empty"])
@pytest.mark.parametrize("room", [8, 20, 40])
def test_folding_keeps_every_row_in_order(name: str, room: int) -> None:
    rows = table(DIAGNOSES[name])
    assert expanded(layers.fold(rows, room)) == rows


@pytest.mark.parametrize("name", ["vanishing", "deep", "residual", "recurrent"])
def test_the_lines_add_up_to_the_main_path(name: str) -> None:
    diagnosis = DIAGNOSES[name]
    trace = diagnosis.run.models[0].traces[0]
    assert trace.main_path is not None
    folded = layers.fold(table(diagnosis), 20)
    assert len(folded) <= 21
    through_layers = math.fsum(line.gain_log10 for line in folded)
    beside = math.fsum(
        (edge.gain_log10 if edge.module is None else 0.0) + edge.merge_log10
        for edge in trace.main_path.edges
    )
    # Sums of up to 1,002 numbers below 1, in two orders.
    whole = trace.main_path.source_level_log10 - trace.main_path.root_level_log10
    assert through_layers + beside == pytest.approx(whole, abs=1e-10)


def test_a_short_table_is_left_alone() -> None:
    rows = table(DIAGNOSES["saturated"])
    assert layers.fold(rows, 20) == rows


def test_alternating_layers_fold_to_one_line() -> None:
    folded = layers.fold(table(builders.vanishing(100)), 20)
    folds = [line for line in folded if isinstance(line, Fold)]
    assert len(folds) == 1
    # 201 rows: source, two rows with findings, the last layer, and one block at each end are kept.
    assert folds[0].period == 2
    assert folds[0].text.startswith("… 194 layers like these: 97 blocks of 2, ×0.14 each, ×")


def test_equal_layers_are_told_apart_from_blocks() -> None:
    (fold,) = [line for line in layers.fold(table(DIAGNOSES["recurrent"]), 20) if line.rows[1:]]
    assert isinstance(fold, Fold)
    assert fold.period == 1
    assert fold.text.startswith("… 57 layers like these, ×0.79 each")


def test_a_layer_that_differs_is_not_folded_away() -> None:
    rows = table(builders.vanishing(100))
    odd = rows[101]
    assert odd.signal.type == "Sigmoid"
    signal = replace(odd.signal, gain_log10=-9.0, factors_log10={"slope": -9.0})
    rows[101] = replace(odd, signal=signal, flags=layers.flags(signal, 0.4))
    folded = layers.fold(rows, 20)
    assert any(isinstance(line, Row) and line.signal is signal for line in folded)
    assert expanded(folded) == rows


def test_blocks_of_different_gain_fold_with_their_range_if_there_is_no_room() -> None:
    rows = [
        Row(LayerSignal(f"b.{i}", "Block", 0, None, 0.0, -0.01 * i, on_main_path=True))
        for i in range(200)
    ]
    (first, fold, last) = layers.fold(rows, 5)
    assert isinstance(fold, Fold)
    assert (first, last) == (rows[0], rows[-1])
    assert "×0.010 to ×0.98 each" in fold.text  # 10^-1.98 and 10^-0.01


def test_without_any_repetition_the_notable_rows_stay() -> None:
    numbers = random.Random(1)
    rows = [
        Row(
            LayerSignal(
                f"l.{i}",
                f"T{numbers.randrange(10**6)}",
                0,
                None,
                0.0,
                -0.1,
                blame_log10={"weight": -5.0 if i == 70 else -0.1},
                on_main_path=True,
            ),
            codes=("VG101",) if i == 40 else (),
        )
        for i in range(150)
    ]
    folded = layers.fold(rows, 20)
    kept = {line.signal.module for line in folded if isinstance(line, Row)}
    assert {"l.0", "l.40", "l.70", "l.149"} <= kept
    assert len(folded) <= 22
    assert expanded(folded) == rows
    gap = next(line for line in folded if isinstance(line, Fold))
    assert "more layers" in gap.text


def test_zeros_and_nan_are_added_as_what_they_are() -> None:
    def fold(*gains: float) -> Fold:
        return Fold(
            tuple(
                Row(LayerSignal("a", "A", 0, None, 0.0, gain, on_main_path=True)) for gain in gains
            ),
            1,
        )

    assert fold(-1.0, -math.inf).gain_log10 == -math.inf
    assert math.isnan(fold(-1.0, math.nan).gain_log10)
    assert "×0 in all" in fold(-math.inf, -1.0).text


def test_rows_beside_the_main_path_do_not_count() -> None:
    side = Row(LayerSignal("q", "Linear", 0, None, -3.0, -2.0, on_main_path=False))
    assert side.gain_log10 == 0.0


def test_units_count_as_dead_when_they_were_off_in_every_batch() -> None:
    signal = LayerSignal("a", "ReLU", 0, None, 0.0, 0.0, dead_share=0.4)
    assert [f.text for f in layers.rows([signal])[0].flags] == ["dead 40 %"]
    assert layers.rows([signal], always_dead={"a#0": 0.01})[0].flags == ()
    assert layers.rows([signal], always_dead={"b#0": 0.01})[0].flags != ()


def test_factors_that_change_nothing_are_left_out() -> None:
    signal = LayerSignal(
        "a", "A", 0, None, 0.0, -0.4, factors_log10={"weight": -0.4, "scale": 0.0, "merge": 0.001}
    )
    assert layers.factor_parts(signal) == ["weight"]
    both = replace(signal, factors_log10={"weight": -0.4, "slope": 0.3})
    assert layers.factor_parts(both) == ["weight ×0.40", "slope ×2.0"]
    nothing = replace(signal, factors_log10={"scale": 0.0})
    assert layers.factor_parts(nothing) == ["scale"]
    assert layers.factor_parts(replace(signal, factors_log10={})) == []


def test_long_blocks_keep_the_first_of_them_only() -> None:
    kinds = ["Attention", "Norm", "Linear", "GELU", "Linear", "Dropout", "Norm", "Scale", "Merge"]
    rows = [
        Row(LayerSignal(f"b.{i}.{j}", kind, 0, None, 0.0, -0.1, on_main_path=True))
        for i in range(6)
        for j, kind in enumerate(kinds)
    ]
    folded = layers.fold(rows, 15)
    assert [line.signal.module for line in folded if isinstance(line, Row)] == [
        f"b.0.{j}" for j in range(9)
    ]
    assert folded[-1].rows == tuple(rows[9:])
    assert expanded(folded) == rows


def test_flags_appear_from_their_thresholds_on() -> None:
    quiet = LayerSignal(
        "a", "ReLU", 0, None, 0.0, 0.0, off_share=0.5, dead_share=0.04, saturated_share=0.09
    )
    assert layers.flags(quiet, 0.04) == ()
    loud = replace(quiet, off_share=0.95, dead_share=0.4, saturated_share=0.87, opaque=True)
    assert [flag.text for flag in layers.flags(loud, 0.4)] == [
        "saturated 87 %",
        "dead 40 %",
        "off 95 %",
        "opaque",
    ]


def test_totals_by_factor_add_up_with_merge_terms_apart() -> None:
    path = DIAGNOSES["residual"].run.models[0].traces[0].main_path
    assert path is not None
    totals = layers.totals(path)
    whole = path.source_level_log10 - path.root_level_log10
    assert math.fsum(totals.values()) == pytest.approx(whole, abs=1e-12)
    merges = math.fsum(edge.merge_log10 for edge in path.edges)
    assert totals["merge"] == pytest.approx(merges, abs=1e-12)
    assert list(totals) == sorted(totals, key=lambda factor: -abs(totals[factor]))


def test_bars_of_healthy_levels_look_alike() -> None:
    rows = [Row(LayerSignal("a", "A", 0, None, level, 0.0)) for level in (-0.3, 0.0, 0.3)]
    scale = layers.Scale(rows)
    assert [round(scale.share(level), 2) for level in (0.3, 0.0, -0.3)] == [1.0, 0.95, 0.9]
    assert scale.share(None) == scale.share(-math.inf) == 0.0
    deep = layers.Scale([Row(LayerSignal("a", "A", 0, None, -100.0, 0.0)), *rows])
    assert 0 < deep.share(-100.0) < 0.06
