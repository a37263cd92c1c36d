"""What a rule found, with its evidence and its place."""

from __future__ import annotations

from dataclasses import dataclass

from unvanish.records.vocabulary import Factor, Severity, SourceLine, Verdict


@dataclass(frozen=True, slots=True)
class Evidence:
    """A measured number beside the threshold that it crossed (None: shown for information)."""

    name: str
    value: float | str
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Where:
    """The place a finding points to."""

    module: str | None = None
    op: str | None = None
    call: int | None = None
    source: SourceLine | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that fired."""

    code: str
    family: str
    verdict: Verdict
    severity: Severity
    title: str  # one sentence, with its numbers
    where: Where
    factor: Factor | None
    evidence: tuple[Evidence, ...]
    remedy: str
    model: str = ""
    step: int | None = None  # when it was first seen
    explains: tuple[str, ...] = ()  # codes that hang under it
