"""A sink for OpenTelemetry metrics: `sinks=[provider]`, or a meter of it.

"unvanish/gradient/0.weight" is the gauge unvanish.gradient with the attribute name="0.weight";
"unvanish/loss" the gauge unvanish.loss. A gauge has no steps: unvanish.step says which one the
others are of. OpenTelemetry takes finite numbers only: others are counted in unvanish.not_finite,
alarms in unvanish.alarm, with what they say as attributes. What a reader collects between two
samples is the later one's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from unvanish.monitor.sinks import alarm_text
from unvanish.records import Finding


class OpenTelemetrySink:
    """Sets gauges. The provider, its readers and exporters stay the user's own."""

    def __init__(self, given: Any) -> None:
        """`given` is a MeterProvider or a Meter."""
        self._provider = given if hasattr(given, "get_meter") else None
        self._meter = given if self._provider is None else given.get_meter("unvanish")
        self._gauges: dict[str, Any] = {}
        self._not_finite = self._meter.create_counter(
            "unvanish.not_finite", description="numbers that were NaN or infinite"
        )
        self._alarms = self._meter.create_counter("unvanish.alarm", description="alarms")

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Set one gauge for each number."""
        self._gauge("unvanish.step").set(step)
        for name, value in numbers.items():
            gauge, attributes = _split(name)
            if math.isfinite(value):
                self._gauge(gauge).set(value, attributes)
            else:
                self._not_finite.add(1, {**attributes, "quantity": gauge})

    def alarm(self, step: int, finding: Finding) -> None:
        """Count the alarm."""
        self._alarms.add(
            1,
            {
                "code": finding.code,
                "severity": finding.severity,
                "step": step,
                "text": alarm_text(finding),
            },
        )

    def close(self) -> None:
        """Let the provider hand on what it has."""
        flush = getattr(self._provider, "force_flush", None)
        if flush is not None:
            flush()

    def _gauge(self, name: str) -> Any:
        if name not in self._gauges:
            self._gauges[name] = self._meter.create_gauge(name)
        return self._gauges[name]


def _split(name: str) -> tuple[str, dict[str, str]]:
    """Return the name of the gauge of a number, and the attributes that tell it from others."""
    family, _slash, rest = name.partition("/")
    quantity, slash, which = rest.partition("/")
    return f"{family}.{quantity}", {"name": which} if slash else {}
