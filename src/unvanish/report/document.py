"""The JSON contract: a diagnosis as plain data, as `docs/json.md` and `schema.json` describe it.

`SCHEMA` is raised when a key is removed or changes its meaning; a new key does not raise it.
Numbers that JSON lacks are the strings "NaN", "Infinity" and "-Infinity" (`codec.number` reads
them back).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from typing import Any

import msgspec

from unvanish import codec
from unvanish.records import (
    Diagnosis,
    Finding,
    Incident,
    MainPath,
    ModelDiagnosis,
    ModelRun,
    Run,
    StepRecord,
    Trace,
)

SCHEMA = 1


def document(diagnosis: Diagnosis, exit_code: int = 0) -> dict[str, Any]:
    """Return `diagnosis` as dicts, lists, strings and finite numbers.

    `exit_code` is what the command that prints the document exits with. Findings stand at the
    top level, the gravest first, and traces by model and step; an entry of `models` refers to both
    by their index.
    """
    run = diagnosis.run
    findings = _findings(diagnosis)
    traces = [(model.name, trace) for model in run.models for trace in model.traces]
    verdicts = {model.name: model for model in diagnosis.models}
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "tool_version": run.tool_version,
        "verdict": diagnosis.verdict,
        "training": diagnosis.training,
        "exit_code": exit_code,
        "run": _run(run),
        "environment": run.environment,
        "models": [
            _model(model, verdicts.get(model.name), findings, traces) for model in run.models
        ],
        "findings": [_finding(finding) for finding in findings],
        "traces": [_trace(name, trace) for name, trace in traces],
    }
    plain: dict[str, Any] = codec.to_plain(document)
    return plain


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of `document`."""
    text = resources.files("unvanish.report").joinpath("schema.json").read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def _findings(diagnosis: Diagnosis) -> list[Finding]:
    """Return all findings, the gravest first; those that only a model lists come after."""
    own = [finding for model in diagnosis.models for finding in model.findings]
    return [*diagnosis.findings, *(f for f in own if f not in diagnosis.findings)]


def _run(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "kind": run.kind,
        "created": run.created,
        "command": run.command,
        "directory": run.directory,
        "ending": run.ending,
        "exit_code": run.exit_code,
        "error": run.error,
        "notes": run.notes,
        "seconds": run.seconds,
        "alarms": [_finding(alarm) for alarm in run.alarms],
        "incidents": [_incident(incident) for incident in run.incidents],
    }


def _incident(incident: Incident) -> dict[str, Any]:
    """Return `incident` without its readings and traces: the run itself holds those that matter."""
    return {
        "step": incident.step,
        "seen_at": incident.seen_at,
        "kind": incident.kind,
        "quantity": incident.quantity,
        "value": incident.value,
        "usual": incident.usual,
        "model": incident.model,
        "parameter": incident.parameter,
        "guilty": incident.guilty,
        "command": incident.command,
        "steps": [_step(step) for step in incident.steps],
    }


def _model(
    model: ModelRun,
    verdict: ModelDiagnosis | None,
    findings: Sequence[Finding],
    traces: Sequence[tuple[str, Trace]],
) -> dict[str, Any]:
    return {
        "name": model.name,
        "type": model.type,
        "verdict": verdict.verdict if verdict else None,
        "training": verdict.training if verdict else None,
        "optimizer": model.optimizer,
        "findings": [i for i, finding in enumerate(findings) if finding.model == model.name],
        "traces": [i for i, (name, _) in enumerate(traces) if name == model.name],
        "steps": [_step(step) for step in model.steps],
        "parameters": model.parameters,
        "always_dead": model.always_dead,
    }


def _step(step: StepRecord) -> dict[str, Any]:
    return {
        "step": step.step,
        "loss": step.loss,
        "sampled": step.sampled,
        "skipped": step.skipped,
        "backwards": step.backwards,
        "phase": step.phase,
        "loss_scale": step.loss_scale,
        "clip_log10": step.clip_log10,
        "lr": step.lr,
        "rank": step.rank,
        "gradient_log10": step.gradient_log10,
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "family": finding.family,
        "severity": finding.severity,
        "where": finding.where,
        "factor": finding.factor,
        "evidence": finding.evidence,
        "remedy": finding.remedy,
        "explains": finding.explains,
        "model": finding.model,
        "step": finding.step,
        "title": finding.title,
        "verdict": finding.verdict,
    }


def _trace(model: str, trace: Trace) -> dict[str, Any]:
    """Return `trace` without its ops, its paths as lists of edges beside their sources."""
    plain: dict[str, Any] = msgspec.to_builtins(replace(trace, ops=(), main_path=None, paths=()))
    del plain["ops"]
    return {
        "model": model,
        **plain,
        "main_path": trace.main_path.edges if trace.main_path else (),
        "main_source": _source(trace.main_path) if trace.main_path else None,
        "paths": [{"source": _source(path), "edges": path.edges} for path in trace.paths],
    }


def _source(path: MainPath) -> dict[str, Any]:
    return {
        "op": path.source_op,
        "module": path.source_module,
        "call": path.source_call,
        "level_log10": path.source_level_log10,
        "root_level_log10": path.root_level_log10,
    }
