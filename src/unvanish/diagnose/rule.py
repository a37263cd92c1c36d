"""What a rule is: one file that declares its code, its verdict, its documentation and a check.

The module docstring of the file is the documentation, Markdown under the fixed `HEADINGS`; it is
printed by `unvanish rule CODE`. A package adds rules of its own by entry points:

    [project.entry-points."unvanish.rules"]
    XY101 = "my_package.my_rule:RULE"
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from unvanish.diagnose.thresholds import THRESHOLDS
from unvanish.diagnose.view import View
from unvanish.i18n import translate_text
from unvanish.records import VERDICTS, Finding, Verdict

HEADINGS = (
    "What it finds",
    "Why it matters",
    "Known problems",
    "Example",
    "Cure",
    "References",
)
_CODE = re.compile(r"[A-Z]{2,4}[0-9]{3}")
_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `check` looks at one model's view and returns what it found, often nothing.

    In a finding, `explains` is a claim: codes whose findings this one accounts for. The engine
    keeps those that fired, and hangs them under it.
    """

    code: str  # family and number, such as "VG101"
    verdict: Verdict
    title: str  # what it is about, in a few words
    check: Callable[[View], Sequence[Finding]]
    documentation: str
    thresholds: tuple[str, ...] = ()  # names of those it uses
    preview: bool = False  # not proven yet: off by default
    when_healthy: bool = False  # runs last, and only if nothing above info was found

    def __post_init__(self) -> None:
        """Raise ValueError for a malformed code, verdict or threshold name."""
        if not _CODE.fullmatch(self.code):
            raise ValueError(f"rule code {self.code!r} is not like 'VG101'")
        if self.verdict not in VERDICTS:
            raise ValueError(f"rule {self.code}: {self.verdict!r} is not a verdict")
        unknown = set(self.thresholds) - set(THRESHOLDS)
        if unknown:
            raise ValueError(f"rule {self.code}: unknown thresholds {sorted(unknown)}")

    @property
    def family(self) -> str:
        """The letters of the code."""
        return self.code.rstrip("0123456789")

    @property
    def translated(self) -> str:
        """The documentation in the language in use."""
        return translate_text(self.documentation, "rules")


def sections(documentation: str) -> dict[str, str]:
    """Return the text under each heading of a rule's documentation, in order."""
    parts = _HEADING.split(documentation)
    return {
        heading.strip(): body.strip()
        for heading, body in zip(parts[1::2], parts[2::2], strict=True)
    }
