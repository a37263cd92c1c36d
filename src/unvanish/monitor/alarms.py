"""Alarms while a run goes on: the findings of the rules, once for each cause.

A finding becomes an alarm when it stands in two looks in a row (a non-finite one at once), and can
become one again only after it was gone for four: a value that swings about its threshold is one
alarm. What another finding explains is none of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unvanish.records import Diagnosis, Finding

_RAISE_AFTER = 2  # looks in a row
_CLEAR_AFTER = 4
Cause = tuple[str, str, str | None]  # code, model, module


@dataclass(slots=True)
class _State:
    seen: int = 0  # looks in a row
    missed: int = 0
    raised: bool = False


class Alarms:
    """Remembers causes from look to look."""

    def __init__(self) -> None:
        self._causes: dict[Cause, _State] = {}

    def judge(self, diagnosis: Diagnosis) -> list[Finding]:
        """Return the findings of this look that are new alarms."""
        present = {cause_of(finding): finding for finding in _leading(diagnosis.findings)}
        for key in present:
            self._causes.setdefault(key, _State())
        raised = []
        for key, cause in list(self._causes.items()):
            finding = present.get(key)
            if finding is None:
                cause.seen, cause.missed = 0, cause.missed + 1
                if cause.missed >= _CLEAR_AFTER:
                    del self._causes[key]
                continue
            cause.seen, cause.missed = cause.seen + 1, 0
            at_once = finding.verdict == "non-finite"
            if not cause.raised and (at_once or cause.seen >= _RAISE_AFTER):
                cause.raised = True
                raised.append(finding)
        return raised


def _leading(findings: Sequence[Finding]) -> list[Finding]:
    explained = {code for finding in findings for code in finding.explains}
    return [
        finding
        for finding in findings
        if finding.severity != "info" and finding.code not in explained
    ]


def cause_of(finding: Finding) -> Cause:
    """Return what makes two findings one alarm."""
    # Once something is not finite, all is: where it is seen next is no cause of its own.
    module = None if finding.verdict == "non-finite" else finding.where.module
    return finding.code, finding.model, module
