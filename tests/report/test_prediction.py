"""The prediction in words and in the table of layers."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import jsonschema
import msgspec
import pytest

from tests.figures.test_prediction import one, trace
from tests.report import builders
from unvanish import codec
from unvanish.records import LayerPrediction, LayerSignal, Trace
from unvanish.report import layers, prediction
from unvanish.report.document import document, schema
from unvanish.report.page import render_page
from unvanish.report.terminal import text

PLAIN = tuple(one(k, math.log10(0.143)) for k in range(3))


def row(module: str, op: str | None = None, call: int = 0) -> LayerSignal:
    return LayerSignal(module, "Linear", call, op, 0.0, -0.2)


def test_predicted_and_measured_in_one_sentence() -> None:
    measured = math.log10(0.146)
    shown = tuple(replace(p, total_measured_log10=measured * (3 - k)) for k, p in enumerate(PLAIN))
    (sentence,) = prediction.sentences(trace(*shown))
    assert "a layer: predicted ×0.143, measured ×0.146" in sentence
    assert "from the output to `net.0`: predicted ×0.0029 (×0.0015 to ×0.0058" in sentence


def test_reasons_are_told_once_with_their_places() -> None:
    same = [one(k, -0.2, "weights act again") for k in range(2)]
    told = prediction.sentences(trace(*same, one(2, -0.2)))
    assert told[-1] == "Where theory does not apply: `net.0` and 1 more; weights act again."
    told = prediction.sentences(trace(*(one(k, -0.2, "it was trained") for k in range(3))))
    assert told[-1] == "Where theory does not apply: everywhere; it was trained."


def test_the_sentence_is_of_the_part_that_theory_knows() -> None:
    shown = (one(0, None, "nobody knows"), one(1, -0.2), one(2, -0.2))
    first, second = prediction.sentences(trace(*shown))
    assert "from the output to `net.1`" in first
    assert "`net.0`; nobody knows" in second
    assert prediction.sentences(trace()) == []
    assert prediction.sentences(trace(one(2, None, "why"))) == [
        "Where theory does not apply: everywhere; why."
    ]


def test_a_prediction_outside_the_assumptions_is_no_plain_prediction() -> None:
    why = "outside the theory's assumptions: its biases follow its weights"
    first, second = prediction.sentences(trace(*(one(k, -0.2, why) for k in range(3))))
    assert first.startswith("Theory, not to be trusted from the output to `net.0`")
    assert "in nine of ten" not in first  # no interval around what is not trusted
    assert "×0.25 for random networks of these sizes" in first  # 10^-0.6
    assert why in second


def test_rows_take_the_gain_of_their_ops() -> None:
    twice = replace(PLAIN[0], predicted_log10=-0.1)
    rows = layers.rows(
        [row("net.0"), row("net.1"), row("net.7")], (), {}, [PLAIN[0], twice, PLAIN[1]]
    )
    gain = math.log10(0.143)
    assert [r.predicted_log10 for r in rows] == [pytest.approx(gain - 0.1), gain, None]
    unknown = layers.rows([row("net.0")], (), {}, [PLAIN[0], one(0, None)])
    assert unknown[0].predicted_log10 is None


def test_functional_ops_are_matched_in_order_or_not_at_all() -> None:
    ops = [replace(one(0, gain), module="net") for gain in (-0.1, -0.3)]
    functional = row("net", "AddmmBackward0")
    rows = layers.rows([functional, functional], (), {}, ops)
    assert [r.predicted_log10 for r in rows] == [-0.1, -0.3]
    rows = layers.rows([functional] * 3, (), {}, ops)
    assert [r.predicted_log10 for r in rows] == [None] * 3


def shown(predictions: tuple[LayerPrediction, ...]) -> tuple[Trace, str, str]:
    diagnosis = builders.vanishing()
    model = diagnosis.run.models[0]
    traces = tuple(replace(t, predictions=predictions) for t in model.traces)
    run = replace(diagnosis.run, models=(replace(model, traces=traces),))
    diagnosis = replace(diagnosis, run=run)
    plain = document(diagnosis)
    jsonschema.validate(plain, schema())
    assert len(plain["traces"][0]["predictions"]) == len(predictions)
    return traces[0], text(diagnosis, width=120), render_page(diagnosis)


def test_terminal_page_and_json_show_it() -> None:
    own = builders.vanishing().run.models[0].traces[0].layers
    predictions = tuple(replace(p, module=own[k].module) for k, p in enumerate(PLAIN))
    _trace, terminal, page = shown(predictions)
    assert "theory" in terminal
    assert "×0.14" in terminal
    assert "nine of ten random networks" in terminal.replace("\n", " ")
    assert "Predicted against measured" in page
    assert 'data-picture="prediction"' in page
    _trace, terminal, page = shown(())
    assert "theory" not in terminal
    assert 'data-picture="prediction"' not in page


def test_files_without_predictions_are_still_read() -> None:
    """What an earlier version saved has no such key."""
    run = builders.vanishing().run
    plain = msgspec.to_builtins(run)
    for trace_ in plain["models"][0]["traces"]:
        del trace_["predictions"]
    head = codec.encode_run(run).split(b"\n", 2)
    old = b"\n".join([*head[:2], msgspec.msgpack.encode(plain)])
    assert codec.decode_run(old) == run
    changed = replace(run.models[0].traces[0], predictions=PLAIN)
    again = replace(run, models=(replace(run.models[0], traces=(changed,)),))
    assert codec.decode_run(codec.encode_run(again)) == again
    assert json.dumps(codec.to_plain(again), allow_nan=False)
