"""A sink for an MLflow run: `sinks=[mlflow.start_run()]`.

Numbers are metrics with our steps, logged in batches; an alarm is a tag, unvanish/alarm/STEP/CODE,
for a metric holds no text. MLflow allows few characters in names: # is written as :, others as _.
Logging waits for the tracking server.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping
from typing import Any

from unvanish.monitor.sinks import alarm_text
from unvanish.records import Finding

_BATCH = 1000  # metrics that MLflow takes at a time
_TAG = 5000  # characters that every tracking server takes
_OTHERS = re.compile(r"[^\w\-. :/]", re.ASCII)


class MlflowSink:
    """Logs metrics and tags to a run, which stays the user's own and open."""

    def __init__(self, run: Any, client: Any = None) -> None:
        """`run` is what `mlflow.start_run` returned; `client` the MlflowClient to log with.

        Without one it is of the tracking server that is set where the run was made.
        """
        self._module = sys.modules["mlflow"]  # whoever has a run has imported it
        self._client = client or self._module.MlflowClient()
        self._run = run.info.run_id

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Log one metric for each number."""
        now = time.time_ns() // 1_000_000
        metric = self._module.entities.Metric
        metrics = [metric(_name(name), value, now, step) for name, value in numbers.items()]
        for start in range(0, len(metrics), _BATCH):
            self._client.log_batch(self._run, metrics=metrics[start : start + _BATCH])

    def alarm(self, step: int, finding: Finding) -> None:
        """Set the alarm as a tag."""
        tag = f"unvanish/alarm/{step}/{finding.code}"
        self._client.set_tag(self._run, tag, alarm_text(finding)[:_TAG])

    def close(self) -> None:
        """Do nothing: MLflow keeps each batch as it comes."""


def _name(name: str) -> str:
    # MLflow's store of files takes names for paths: none may be the beginning of another.
    whole = f"{name}/all parameters" if name == "unvanish/gradient" else name
    return _OTHERS.sub("_", whole.replace("#", ":"))[:250]
