"""How strongly findings speak for a cure."""

from __future__ import annotations

from collections.abc import Mapping

from unvanish.records import Diagnosis, Finding

_FURTHER = 0.7  # a finding that does not lead speaks less


def prior(diagnosis: Diagnosis, table: Mapping[str, float]) -> float:
    """Return the strongest word that a finding of `diagnosis` speaks for a cure, 0 if none does.

    `table` gives the word in (0, 1] by code ("VG101"), family ("VG") or verdict ("vanishing");
    the most special entry counts. The leading finding speaks in full, the others less.
    """
    strongest = 0.0
    for position, finding in enumerate(serious(diagnosis)):
        word = next(
            (table[key] for key in (finding.code, finding.family, finding.verdict) if key in table),
            0.0,
        )
        strongest = max(strongest, word * (1.0 if position == 0 else _FURTHER))
    return strongest


def serious(diagnosis: Diagnosis) -> list[Finding]:
    """Findings above a remark, the gravest first."""
    return [each for each in diagnosis.findings if each.severity != "info"]


def evidence(diagnosis: Diagnosis, code: str, name: str) -> float | str | None:
    """A value that the finding `code` shows; None where there is no such finding or value."""
    for finding in diagnosis.findings:
        if finding.code == code:
            for row in finding.evidence:
                if row.name == name:
                    return row.value
    return None


def fired(diagnosis: Diagnosis, *codes: str) -> bool:
    """Whether one of these codes or families is among the findings above a remark."""
    return any(each.code in codes or each.family in codes for each in serious(diagnosis))
