"""A sink for a TensorBoard writer (torch's, or tensorboardX's)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unvanish.records import Finding


class TensorBoardSink:
    """Writes numbers as scalars and alarms as text. The writer stays the user's own and open."""

    def __init__(self, writer: Any) -> None:
        """`writer` is a SummaryWriter."""
        self._writer = writer

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Add one scalar for each number."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def alarm(self, step: int, finding: Finding) -> None:
        """Add the alarm as text."""
        text = f"**{finding.code}** {finding.title} {finding.remedy}"
        self._writer.add_text("unvanish/alarm", text, step)

    def close(self) -> None:
        """Flush the writer."""
        self._writer.flush()
