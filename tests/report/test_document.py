"""The JSON contract: real documents satisfy the schema, broken ones do not."""

from __future__ import annotations

import json
import math
import runpy
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest

from tests.report import builders
from unvanish import codec, records
from unvanish.report.document import document, schema

DIAGNOSES = builders.every_diagnosis()
ROOT = Path(__file__).parents[2]
LAYER_KEYS = tuple(schema()["$defs"]["layer"]["properties"])


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    jsonschema.Draft202012Validator.check_schema(schema())
    return jsonschema.Draft202012Validator(schema())


@pytest.mark.parametrize("name", DIAGNOSES)
def test_documents_satisfy_the_schema_as_strict_json(
    name: str, validator: jsonschema.Draft202012Validator
) -> None:
    text = codec.dumps(document(DIAGNOSES[name], exit_code=1))
    read = json.loads(text, parse_constant=lambda token: pytest.fail(f"not JSON: {token}"))
    validator.validate(read)
    assert read["exit_code"] == 1


def one_step(diagnosis: records.Diagnosis) -> records.Diagnosis:
    """Keep the first trace only: validating is slow."""
    models = tuple(replace(model, traces=model.traces[:1]) for model in diagnosis.run.models)
    return replace(diagnosis, run=replace(diagnosis.run, models=models))


def without(*path: Any) -> Callable[[dict[str, Any]], None]:
    def damage(plain: dict[str, Any]) -> None:
        target: Any = plain
        for key in path[:-1]:
            target = target[key]
        del target[path[-1]]

    return damage


def put(value: Any, *path: Any) -> Callable[[dict[str, Any]], None]:
    def damage(plain: dict[str, Any]) -> None:
        target: Any = plain
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = value

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        *(without(key) for key in schema()["properties"]),
        *(without("findings", 0, key) for key in schema()["$defs"]["finding"]["properties"]),
        *(without("findings", 0, "where", key) for key in ("module", "op", "call", "source")),
        *(without("traces", 0, "layers", 3, key) for key in LAYER_KEYS),
        *(without("traces", 0, "main_path", 0, key) for key in ("factor", "gain_log10")),
        put(2, "schema"),
        put("sick", "verdict"),
        put("fine", "training"),
        put("fatal", "findings", 0, "severity"),
        put("magic", "findings", 0, "factor"),
        put({"file": "x.py"}, "findings", 0, "where", "source"),
        put("slope", "traces", 0, "main_path", 0, "gain_log10"),
        put(1.5, "traces", 0, "layers", 3, "saturated_share"),
        put({"magic": -1.0}, "traces", 0, "layers", 3, "factors_log10"),
        put(1, "surprise"),
        put(1, "findings", 0, "surprise"),
        put(1, "traces", 0, "layers", 0, "surprise"),
        put([0.5], "models", 0, "traces"),
    ],
)  # fmt: skip
def test_the_schema_rejects_what_is_broken(
    damage: Callable[[dict[str, Any]], None], validator: jsonschema.Draft202012Validator
) -> None:
    plain = document(one_step(DIAGNOSES["vanishing"]))
    validator.validate(plain)
    damage(plain)
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(plain)


def test_nothing_that_was_recorded_is_lost() -> None:
    """Every field of the records is a key of the schema, save those that are named here."""
    left_out = {"Trace": {"ops"}, "Incident": {"readings", "traces"}}
    pairs = {
        "finding": records.Finding,
        "where": records.Where,
        "evidence": records.Evidence,
        "layer": records.LayerSignal,
        "edge": records.PathEdge,
        "trace": records.Trace,
        "step": records.StepRecord,
        "incident": records.Incident,
        "parameter": records.ParameterFacts,
        "parameter_signal": records.ParameterSignal,
        "optimizer": records.OptimizerFacts,
        "environment": records.Environment,
        "nonfinite": records.NonFinite,
        "probe": records.Probe,
        "recurrence": records.Recurrence,
        "loss_term": records.LossTerm,
        "segment": records.Segment,
        "source_line": records.SourceLine,
        "graph": records.OpGraph,
        "activation_input": records.ActivationInput,
        "spectrum": records.Spectrum,
        "graph_call": records.GraphCall,
    }
    for name, record in pairs.items():
        keys = set(schema()["$defs"][name]["properties"])
        lost = {field.name for field in fields(record)} - keys
        assert lost == left_out.get(record.__name__, set()), name


def test_the_words_of_the_schema_are_those_of_the_records() -> None:
    defs = schema()["$defs"]
    assert defs["factor"]["enum"] == list(records.FACTORS)
    assert defs["verdict"]["enum"] == list(records.VERDICTS)
    assert defs["training"]["enum"] == list(get_args(records.Training))
    assert defs["finding"]["properties"]["severity"]["enum"] == list(get_args(records.Severity))
    assert defs["run"]["properties"]["ending"]["enum"] == list(get_args(records.Ending))
    states = list(get_args(records.GradientState))
    assert defs["parameter"]["properties"]["gradient"]["enum"] == states


def test_every_part_of_the_schema_is_described_and_closed() -> None:
    def visit(part: Any, path: str) -> None:
        if isinstance(part, dict):
            if part.get("type") == "object" and "properties" in part:
                assert part["additionalProperties"] is False, path
            for key, child in part.get("properties", {}).items():
                assert "description" in child or "$ref" in child, f"{path}/{key}"
            for key, child in part.items():
                visit(child, f"{path}/{key}")

    visit(schema(), "")
    assert all("description" in part for part in schema()["$defs"].values())


def test_numbers_that_json_lacks_survive() -> None:
    plain = document(DIAGNOSES["nonfinite"])
    bad = plain["traces"][-1]
    assert bad["loss"] == "NaN"
    assert math.isnan(codec.number(bad["main_path"][-1]["gain_log10"]))
    assert plain["findings"][0]["evidence"][0]["value"] == "NaN"


def test_two_models_are_told_apart() -> None:
    plain = document(DIAGNOSES["gan"])
    generator, critic = plain["models"]
    assert [generator["name"], critic["name"]] == ["generator", "discriminator"]
    assert [generator["verdict"], critic["verdict"]] == ["healthy", "vanishing"]
    assert plain["verdict"] == "vanishing"
    assert plain["findings"][0]["model"] == "discriminator"
    assert [plain["findings"][i]["code"] for i in critic["findings"]] == ["VG101"]
    assert [plain["findings"][i]["code"] for i in generator["findings"]] == ["OK001"]
    assert {plain["traces"][i]["model"] for i in critic["traces"]} == {"discriminator"}
    assert sorted(generator["traces"] + critic["traces"]) == list(range(len(plain["traces"])))


@pytest.mark.parametrize("name", ["vanishing", "residual", "recurrent", "deep"])
def test_the_main_path_adds_up_in_the_document(name: str) -> None:
    trace = document(DIAGNOSES[name])["traces"][0]
    total = math.fsum(edge["gain_log10"] + edge["merge_log10"] for edge in trace["main_path"])
    source = trace["main_source"]
    # 1,002 edges were summed one by one by the builder: 1,002 roundings of numbers up to 422.
    assert total == pytest.approx(source["level_log10"] - source["root_level_log10"], abs=1e-10)


def test_a_run_without_a_trace_is_a_document_too() -> None:
    plain = document(DIAGNOSES["empty"])
    assert plain["traces"] == []
    assert plain["models"][0]["optimizer"] is None
    assert plain["run"]["notes"] == ["No backward pass could be measured."]


def test_the_documentation_is_that_of_the_schema() -> None:
    writer = runpy.run_path(str(ROOT / "docs" / "write_json_page.py"))
    assert (ROOT / "docs" / "json.md").read_text("utf-8") == writer["page"]()
