"""One architecture at initialisation: does it train a step, is it traced, what is said of it."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from benchmarks.zoo.specimen import Specimen, UnbuildableError

import unvanish
from unvanish import store
from unvanish.diagnose import diagnose
from unvanish.records import Diagnosis, Run


def traced(build: Callable[[], Specimen], directory: Path) -> dict[str, Any]:
    """Build, train one step of a copy, and judge one traced backward of the untouched model.

    The record is kept in `directory`, so that it can be judged again.

    `status` is "traced"; or why not: "unbuilt" (no configuration found), "untrained" (the step
    itself fails, without us), "crash" (the step succeeds, and we fail).
    """
    torch.manual_seed(0)
    started = time.monotonic()
    try:
        specimen = build()
    except UnbuildableError as error:
        return {"status": "unbuilt", "error": str(error)[-600:]}
    row: dict[str, Any] = {
        "parameters": specimen.parameters,
        "build_s": round(time.monotonic() - started, 2),
    }
    try:
        row["step_s"] = round(_step(specimen), 3)
    except Exception as error:  # nothing of ours has run yet
        return {**row, "status": "untrained", "error": _told(error)}
    started = time.monotonic()
    try:
        diagnosis = unvanish.check(specimen.model, specimen.batch, specimen.loss_fn, probes=1)
    except Exception as error:
        return {**row, "status": "crash", "error": _told(error)}
    row["check_s"] = round(time.monotonic() - started, 3)
    started = time.monotonic()
    diagnose(diagnosis.run)
    row["judge_s"] = round(time.monotonic() - started, 4)
    row["run"] = store.save(lean(diagnosis.run), directory).name
    return {**row, "status": "traced", **said(diagnosis)}


def lean(run: Run) -> Run:
    """Drop the single ops of each trace: no rule reads them, and they are most of a record."""
    models = tuple(
        replace(model, traces=tuple(replace(trace, ops=()) for trace in model.traces))
        for model in run.models
    )
    return replace(run, models=models)


def said(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return the verdict and its findings in short, and what the run says of itself."""
    trace = diagnosis.run.models[0].traces[-1]
    return {
        "ops": trace.op_count,
        "verdict": diagnosis.verdict,
        "findings": [
            {
                "code": each.code,
                "severity": each.severity,
                "module": each.where.module,
                "title": each.title,
            }
            for each in diagnosis.findings
            if each.verdict != "healthy"
        ],
        "notes": [*diagnosis.run.notes, *trace.notes],
    }


def _step(specimen: Specimen) -> float:
    """Train one step of a copy, and return the seconds it took."""
    model = copy.deepcopy(specimen.model)
    started = time.monotonic()
    loss = specimen.loss_fn(model, specimen.batch)
    loss.backward()
    torch.optim.SGD(model.parameters(), lr=1e-4).step()
    return time.monotonic() - started


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}"
