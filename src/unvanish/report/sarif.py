"""SARIF 2.1.0, the format in which code scanning services take the findings of any tool.

One SARIF run for one run of ours, one result a finding. That the signal is healthy is no result: a
clean file has none, and says the verdict among its properties.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from unvanish import codec, words
from unvanish.diagnose.catalogue import rules
from unvanish.diagnose.rule import Rule, sections
from unvanish.i18n import _, current
from unvanish.records import Diagnosis, Finding, Run, Severity
from unvanish.report.checkout import place, reported

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS: dict[Severity, str] = {"error": "error", "warning": "warning", "info": "note"}
_ROOT = "SRCROOT"
_LANGUAGES = {"en": "en-US", "zh": "zh-CN"}  # of the texts
_ESCAPES = str.maketrans({"{": "{{", "}": "}}", "[": r"\[", "]": r"\]"})


def sarif(diagnosis: Diagnosis, root: Path) -> dict[str, Any]:
    """Return `diagnosis` as a SARIF log; `root` is the checkout that file names are relative to."""
    run = diagnosis.run
    findings = reported(diagnosis.findings)
    codes = list(dict.fromkeys(finding.code for finding in findings))
    driver = {
        "name": "Unvanish",
        "version": run.tool_version,
        "rules": [_rule(code) for code in codes],
    }
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "language": _LANGUAGES[current()],
                "invocations": [_invocation(run)],
                "originalUriBaseIds": {_ROOT: {"uri": root.resolve().as_uri() + "/"}},
                "results": [_result(finding, codes, run, root) for finding in findings],
                "properties": {
                    "verdict": diagnosis.verdict,
                    "training": diagnosis.training,
                    "run": run.id,
                },
            }
        ],
    }


def _invocation(run: Run) -> dict[str, Any]:
    succeeded = run.ending in {"finished", "steps-reached"} or run.exit_code == 0
    return {"executionSuccessful": succeeded, "exitCode": run.exit_code}


def _rule(code: str) -> dict[str, Any]:
    """Return what is known of a rule; one that another machine's package added is only named."""
    rule = next((each for each in rules() if each.code == code), None)
    if rule is None:
        return {"id": code}
    return {
        "id": code,
        "shortDescription": {"text": _escaped(_(rule.title))},
        "fullDescription": {"text": _escaped(_first_section(rule))},
        "help": {"text": _escaped(rule.translated), "markdown": rule.translated},
        "properties": {"tags": [rule.verdict]},
    }


def _first_section(rule: Rule) -> str:
    return next(iter(sections(rule.translated).values()), _(rule.title))


def _result(finding: Finding, codes: Sequence[str], run: Run, root: Path) -> dict[str, Any]:
    text = " ".join(filter(None, (finding.title, finding.remedy)))
    return {
        "ruleId": finding.code,
        "ruleIndex": codes.index(finding.code),
        "level": LEVELS[finding.severity],
        "message": {"text": _escaped(words.printable(text))},
        "locations": [_location(finding, run, root)],
        "partialFingerprints": {"unvanish/v1": _fingerprint(finding)},
        "properties": _properties(finding),
    }


def _location(finding: Finding, run: Run, root: Path) -> dict[str, Any]:
    location: dict[str, Any] = {}
    found = place(finding, run, root)
    if found is not None:
        physical: dict[str, Any] = {"artifactLocation": _artifact(found.file)}
        if found.line is not None:
            physical["region"] = {"startLine": found.line}
        location["physicalLocation"] = physical
    if finding.where.module is not None:
        name = words.module_name(finding.where.module)
        location["logicalLocations"] = [{"fullyQualifiedName": name, "kind": "member"}]
    return location


def _artifact(file: Path) -> dict[str, str]:
    if file.is_absolute():
        return {"uri": file.as_uri()}
    return {"uri": quote(file.as_posix()), "uriBaseId": _ROOT}


def _properties(finding: Finding) -> dict[str, Any]:
    plain: dict[str, Any] = codec.to_plain(
        {
            "verdict": finding.verdict,
            "factor": finding.factor,
            "model": finding.model,
            "step": finding.step,
            "op": finding.where.op,
            "explains": finding.explains,
            "evidence": finding.evidence,
        }
    )
    return plain


def _fingerprint(finding: Finding) -> str:
    """Tell a finding from others of a run, and know it again in the next, whatever its numbers."""
    where = finding.where
    parts = (finding.code, finding.model, where.module or "", where.op or "", str(where.call or 0))
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _escaped(text: str) -> str:
    """Escape what would be a placeholder or a link in a message (sections 3.11.5 and 3.11.6)."""
    return text.translate(_ESCAPES)
