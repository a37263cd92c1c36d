"""What is known of one treatment on its way through a search, and what is told of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from unvanish.fix import prove
from unvanish.fix.trial import Candidate, Outcome, Treatment
from unvanish.records import Cure, CureStatus, Proof

_ORDER: dict[CureStatus, int] = {
    "proven": 0,
    "measured": 1,
    "tried": 2,
    "screened-out": 3,
    "not-tried": 4,
    "failed": 5,
    "refused": 6,
}


@dataclass
class Tried:
    """A treatment on its way."""

    treatment: Treatment
    candidates: tuple[Candidate, ...]
    short: Outcome | None = None
    proof: Proof | None = None
    last: Outcome | None = None  # the newest training: its edits and code are shown
    why: str = ""

    @property
    def score(self) -> float:
        """The yardstick after the short training; +inf without one that ended."""
        return self.short.score if self.short is not None and self.short.usable else math.inf

    @property
    def keeps_activation(self) -> bool:
        """Whether the network keeps its activations."""
        return all(one.keeps_activation for one in self.candidates)

    @property
    def measured_only(self) -> bool:
        """Whether it changes the loss, so that losses alone prove nothing."""
        return any(one.kind == "loss" for one in self.candidates)

    def record(self) -> Cure:
        """Return what is told of it."""
        shown = self.last or Outcome()
        parts = self.candidates
        return replace(
            untried(parts[0]),
            name=self.treatment.label,
            applicability=_least_safe(
                [
                    *(part.applicability for part in parts),
                    *(["unsafe"] if self.treatment.lr_factor != 1.0 else []),
                ]
            ),
            keeps_activation=self.keeps_activation,
            summary=" ".join(part.summary for part in parts),
            sources=tuple(dict.fromkeys(source for part in parts for source in part.sources)),
            predicted=parts[0].predicted if len(parts) == 1 else None,
            status=self.status,
            code=shown.code,
            edits=shown.edits,
            note=shown.note,
            screened=self.short.score if self.short is not None and self.short.usable else None,
            proof=self.proof,
            why=self.why,
        )

    @property
    def status(self) -> CureStatus:
        """How far it came."""
        if self.proof is not None:
            if self.proof.proven:
                return "proven"
            beats = prove.beats(self.proof.baseline_scores, self.proof.scores)
            return "measured" if self.proof.gone and (self.measured_only or beats) else "tried"
        if self.short is None or self.short.refused is not None:
            return "refused"
        return "failed" if self.short.error is not None else "screened-out"


def untried(one: Candidate) -> Cure:
    """Return what is told of a cure that no training has shown yet."""
    return Cure(
        name=one.name,
        applicability=one.applicability,
        kind=one.kind,
        keeps_activation=one.keeps_activation,
        summary=one.summary,
        sources=one.sources,
        prior=one.prior,
        status="not-tried" if one.refused is None else "refused",
        predicted=one.predicted,
        why=one.refused or "",
    )


def rank(one: Cure) -> tuple[int, float, float]:
    """Return the place of a cure in the table, for sorting."""
    score = max(one.proof.scores) if one.proof is not None else one.screened
    return _ORDER[one.status], math.inf if score is None else score, -one.prior


def _least_safe(kinds: Sequence[str]) -> str:
    order = ("safe", "unsafe", "display-only")
    return max(kinds, key=order.index)
