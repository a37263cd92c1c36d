"""A sink for one of Lightning's loggers: `sinks=[CSVLogger("logs")]`.

Numbers go through `log_metrics`, as Lightning's own do. An alarm is text where the logger's
experiment takes text (TensorBoard), else a metric whose value is text (CSV, W&B).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unvanish.monitor.sinks import alarm_text
from unvanish.records import Finding

_SAVE = 100  # samples after which a logger that collects them writes them


class LightningLoggerSink:
    """Logs to a Logger of Lightning or Fabric, which stays the user's own and open."""

    def __init__(self, logger: Any) -> None:
        """`logger` is any Logger: CSVLogger, TensorBoardLogger, …"""
        self._logger = logger
        self._unsaved = 0

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Log the numbers as metrics."""
        self._logger.log_metrics(dict(numbers), step=step)
        self._unsaved += 1
        if self._unsaved >= _SAVE:
            self.close()

    def alarm(self, step: int, finding: Finding) -> None:
        """Log the alarm as text."""
        add_text = getattr(self._logger.experiment, "add_text", None)
        if add_text is not None:
            add_text("unvanish/alarm", alarm_text(finding), step)
        else:
            self._logger.log_metrics({"unvanish/alarm": alarm_text(finding)}, step=step)

    def close(self) -> None:
        """Let the logger write what it has collected."""
        self._logger.save()
        self._unsaved = 0
