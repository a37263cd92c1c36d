"""One architecture at initialisation: does it train a step, is it traced, what is said of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from benchmarks.zoo.kept import keep
from benchmarks.zoo.specimen import Specimen, TooLargeError, UnbuildableError

import unvanish
from unvanish.diagnose import diagnose
from unvanish.records import Diagnosis

WHOLE = 1e6  # parameters up to which the default settings are tried


def traced(build: Callable[[], Specimen], directory: Path, whole: bool) -> dict[str, Any]:
    """Build, and judge one traced backward at initialisation.

    `whole`: with the replays (probes, singular values) that `unvanish check` makes by default,
    where the model is small: they take several times as long as the rest, and no rule reads them
    before there is a training.
    The record is kept in `directory`, so that it can be judged again.

    `status` is "traced"; or why not: "unbuilt" (no configuration found), "too large", "untrained"
    (its own step fails too, without us), "crash" (the step succeeds, and we fail).
    """
    torch.manual_seed(0)
    started = time.process_time()
    try:
        specimen = build()
    except UnbuildableError as error:
        return {"status": "unbuilt", "error": str(error)[-600:]}
    except TooLargeError as error:
        return {"status": "too large", "error": str(error)}
    whole = whole and specimen.parameters < WHOLE
    row: dict[str, Any] = {
        "parameters": specimen.parameters,
        "settings": "default" if whole else "light",
        "build_s": round(time.process_time() - started, 2),
    }
    settings = {} if whole else {"probes": 0, "spectrum": False}
    started = time.process_time()
    try:
        diagnosis = unvanish.check(specimen.model, specimen.batch, specimen.loss_fn, **settings)
    except MemoryError:
        raise
    except Exception as error:
        return {**row, "status": _blamed(specimen), "error": _told(error)}
    row["check_s"] = round(time.process_time() - started, 3)
    started = time.process_time()
    diagnose(diagnosis.run)
    row["judge_s"] = round(time.process_time() - started, 4)
    row["run"] = keep(diagnosis.run, directory)
    return {**row, "status": "traced", **said(diagnosis)}


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


def _blamed(specimen: Specimen) -> str:
    """Return whose fault it is that no trace was made: train one step without us."""
    try:
        loss = specimen.loss_fn(specimen.model, specimen.batch)
        loss.backward()
        torch.optim.SGD(specimen.model.parameters(), lr=1e-4).step()
    except Exception:
        return "untrained"
    return "crash"


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}"
