"""The JSON contract of `unvanish fix`, as `docs/json-fix.md` and `fix_schema.json` describe it.

`SCHEMA` is raised when a key is removed or changes its meaning; a new key does not raise it.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from unvanish import codec
from unvanish._version import __version__
from unvanish.records import Cure, Fix, Proof

SCHEMA = 1


def document(fix: Fix, exit_code: int = 0) -> dict[str, Any]:
    """Return `fix` as dicts, lists, strings and finite numbers.

    `exit_code` is what the command that prints the document exits with.
    """
    made: dict[str, Any] = {
        "schema": SCHEMA,
        "tool_version": __version__,
        "exit_code": exit_code,
        "command": fix.command,
        "verdict_before": fix.verdict_before,
        "training_before": fix.training_before,
        "findings": fix.diagnosis.findings,
        "yardstick": fix.yardstick,
        "steps": fix.steps,
        "short_steps": fix.short_steps,
        "baseline": fix.baseline,
        "baseline_scores": fix.baseline_scores,
        "baseline_short": fix.baseline_short,
        "rates": fix.rates,
        "cures": [_cure(one, rank) for rank, one in enumerate(fix.cures, start=1)],
        "best": fix.best,
        "trainings_spent": fix.trainings_spent,
        "random_search": fix.random_search,
        "ensembles": fix.ensembles,
        "interrupted": fix.interrupted,
        "notes": fix.notes,
    }
    plain: dict[str, Any] = codec.to_plain(made)
    return plain


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of `document`."""
    text = resources.files("unvanish.report").joinpath("fix_schema.json").read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def _cure(one: Cure, rank: int) -> dict[str, Any]:
    return {
        "rank": rank,
        "name": one.name,
        "status": one.status,
        "proven": one.status == "proven",
        "applicability": one.applicability,
        "kind": one.kind,
        "keeps_activation": one.keeps_activation,
        "summary": one.summary,
        "code": one.code,
        "edits": one.edits,
        "note": one.note,
        "prior": one.prior,
        "predicted": one.predicted,
        "screened": one.screened,
        "proof": None if one.proof is None else _proof(one.proof),
        "verdict_after": _after(one.proof),
        "why": one.proof.why_not if one.proof is not None else one.why,
        "sources": one.sources,
    }


def _proof(proof: Proof) -> dict[str, Any]:
    return {
        "seeds": proof.seeds,
        "steps": proof.steps,
        "losses": proof.losses,
        "scores": proof.scores,
        "baseline_scores": proof.baseline_scores,
        "beaten": proof.beaten,
        "gone": proof.gone,
        "verdicts_after": proof.verdicts_after,
        "verdict_after": _after(proof),
        "proven": proof.proven,
        "why_not": proof.why_not,
    }


def _after(proof: Proof | None) -> str | None:
    """The verdict on the cured network: the first seed's that is not healthy, if there is one."""
    if proof is None or not proof.verdicts_after:
        return None
    sick = (verdict for verdict in proof.verdicts_after if verdict != "healthy")
    return next(sick, "healthy")
