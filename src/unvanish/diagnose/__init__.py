"""From traces to findings: the engine, the catalogue of rules, the thresholds."""

from unvanish.diagnose.engine import FailOn, diagnose, failing

__all__ = ["FailOn", "diagnose", "failing"]
