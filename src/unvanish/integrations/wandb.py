"""A sink for a W&B run.

W&B counts its own steps, and drops what is logged for a step that is over. So numbers go into the
row that the user's next `run.log` will commit, beside `unvanish/step`, which the charts of all
`unvanish/` numbers have as their axis. Only where the user has not logged since does the sink
commit its own last row, so that no numbers are lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unvanish.monitor.sinks import alarm_text
from unvanish.records import Finding


class WandbSink:
    """Logs numbers, and sends alarms as W&B alerts. The run stays the user's own and open."""

    def __init__(self, run: Any) -> None:
        """`run` is what `wandb.init` returned."""
        self._run = run
        self._pending: tuple[int, int] | None = None  # our last row: W&B's step of it, and ours
        run.define_metric("unvanish/step", hidden=True)
        run.define_metric("unvanish/*", step_metric="unvanish/step")

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Log `numbers` at `step` of the training."""
        self._log(step, dict(numbers))

    def alarm(self, step: int, finding: Finding) -> None:
        """Log the alarm, and send it as an alert."""
        text = alarm_text(finding)
        self._log(step, {"unvanish/alarm": text})
        self._run.alert(title=f"unvanish {finding.code}", text=text)

    def close(self) -> None:
        """Commit what is pending."""
        self._commit()

    def _log(self, step: int, row: dict[str, Any]) -> None:
        self._commit()
        self._run.log({**row, "unvanish/step": step}, commit=False)
        self._pending = (self._run.step, step)

    def _commit(self) -> None:
        """Commit our last row, unless a row of the user's has done so."""
        if self._pending is not None and self._run.step == self._pending[0]:
            self._run.log({"unvanish/step": self._pending[1]}, commit=True)
        self._pending = None
