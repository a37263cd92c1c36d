"""Measuring the backward signal: one backward pass, every op."""

from unvanish.measure.calls import CallLog
from unvanish.measure.names import NameBook
from unvanish.measure.parameters import ParameterUpdate
from unvanish.measure.pending import PendingTrace
from unvanish.measure.trace import BackwardTracer, TraceOptions

__all__ = [
    "BackwardTracer",
    "CallLog",
    "NameBook",
    "ParameterUpdate",
    "PendingTrace",
    "TraceOptions",
]
