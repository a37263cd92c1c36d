"""Annotations for GitHub Actions: one workflow command a finding, shown beside the source line.

The form is `::error file=NAME,line=N,title=TITLE::MESSAGE`. Names of modules are untrusted: a line
break in one would end the command and begin another, so what has a meaning there is escaped as the
runner expects it ("Workflow commands for GitHub Actions"; its toolkit's `command.ts`).
"""

from __future__ import annotations

from pathlib import Path

from unvanish import words
from unvanish.records import Diagnosis, Finding, Severity
from unvanish.report.checkout import place, reported

LEVELS: dict[Severity, str] = {"error": "error", "warning": "warning", "info": "notice"}


def annotate(diagnosis: Diagnosis, root: Path) -> list[str]:
    """Return one line for each finding, the gravest first; `root` is the checkout."""
    return [_line(finding, diagnosis, root) for finding in reported(diagnosis.findings)]


def _line(finding: Finding, diagnosis: Diagnosis, root: Path) -> str:
    properties: dict[str, str] = {}
    where = place(finding, diagnosis.run, root)
    if where is not None:
        properties["file"] = where.file.as_posix()
        if where.line is not None:
            properties["line"] = str(where.line)
    name = words.verdict_name(finding.verdict)
    properties["title"] = f"{finding.code}: {name}"
    given = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
    message = " ".join(filter(None, (finding.title, finding.remedy)))
    return f"::{LEVELS[finding.severity]} {given}::{_data(words.printable(message))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
