"""Annotations: one command a line, whatever the names of layers and files hold."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from tests.report import builders
from unvanish.records import Diagnosis, SourceLine, Where
from unvanish.report.github import annotate

ROOT = Path("/home/ada")


def understood(line: str) -> tuple[str, dict[str, str], str]:
    """Read a command back as the runner does: properties split first, then unescaped."""
    match = re.fullmatch(r"::(\w+) ([^\n]*?)::([^\n]*)", line)
    assert match is not None, line
    pairs = (pair.split("=", 1) for pair in match[2].split(","))
    properties = {key: unescaped(value, ":,") for key, value in pairs}
    return match[1], properties, unescaped(match[3], "")


def unescaped(text: str, more: str) -> str:
    for character in "\r\n" + more:
        text = text.replace(f"%{ord(character):02X}", character)
    return text.replace("%25", "%")


def test_a_finding_becomes_a_line_with_its_place() -> None:
    lines = annotate(builders.vanishing(), ROOT)
    level, properties, message = understood(lines[0])
    assert level == "error"
    assert properties == {"file": "train.py", "line": "31", "title": "VG101: Vanishing gradient"}
    finding = builders.VANISHING_BY_SLOPE
    assert message == f"{finding.title} {finding.remedy}"
    assert lines[1].startswith("::warning file=train.py,line=31,title=VG103")


def test_a_remark_is_a_notice_and_health_is_silent() -> None:
    remark = replace(builders.VANISHING_BY_WEIGHTS, severity="info")
    assert annotate(of(remark), ROOT)[0].startswith("::notice ")
    assert annotate(builders.healthy(), ROOT) == []


def test_no_name_can_end_a_command_or_begin_another() -> None:
    nasty = "a::b\n::error file=x::gotcha\r, 100%0A \x1b[31m"
    finding = replace(
        builders.VANISHING_BY_SLOPE,
        title=nasty,
        where=Where("net", source=SourceLine("/home/ada/we,i:rd%\nname.py", 3)),
    )
    (line,) = annotate(of(finding), ROOT)
    assert "\n" not in line
    assert "\r" not in line
    assert "\x1b" not in line
    _level, properties, message = understood(line)
    assert properties["file"] == "we,i:rd%\nname.py"
    assert properties["line"] == "3"
    # Control characters are shown as escapes; a percent sign comes back as it was.
    assert message.startswith(r"a::b\n::error file=x::gotcha\r, 100%0A \x1b[31m")


def test_without_any_place_only_the_title_is_given() -> None:
    finding = replace(builders.VANISHING_BY_SLOPE, where=Where("net.1"))
    diagnosis = of(finding)
    placeless = replace(diagnosis, run=replace(diagnosis.run, command=()))
    assert annotate(placeless, ROOT)[0].startswith("::error title=VG101%3A Vanishing gradient::")


def of(finding: builders.Finding) -> Diagnosis:
    return replace(builders.vanishing(), findings=(finding,))
