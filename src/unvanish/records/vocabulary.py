"""The closed vocabularies that records are written in, and a place in the source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Factor = Literal[
    "slope",  # element-wise nonlinearity
    "weight",  # linear map with parameters
    "gate",  # product of two data tensors
    "norm",  # normalisation
    "attention",
    "pool",  # reductions
    "scale",  # constants, dropout, views
    "merge",  # sums, concatenation, fan-out
    "loss",  # everything after the network's output
    "recurrence",  # the same weights again, on their own output
    "opaque",  # fused or compiled: one node that hides several factors
]
FACTORS: tuple[Factor, ...] = get_args(Factor)

Verdict = Literal[
    "vanishing",
    "exploding",
    "dead-units",
    "forward-collapse",
    "non-finite",
    "cut-graph",
    "loss-head",
    "update-size",
    "healthy",
]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
Severity = Literal["error", "warning", "info"]
Training = Literal["falling", "stuck", "diverging", "too-short"]
Ending = Literal[
    "finished",
    "steps-reached",
    "exited",
    "crashed",
    "interrupted",
    "running",  # read while it goes on
    "killed",  # it left no end: killed, or its machine stopped
]
Phase = Literal[
    "unscaled",
    "scaled",  # a gradient scaler's factor is still in the gradients that the optimiser gets
    "clipped",
]
GradientState = Literal["none", "zero", "nonfinite", "some"]
CureStatus = Literal[
    "proven",
    "measured",  # the finding is gone; the yardstick changed with the loss, or no seed varies
    "tried",  # trained, and not proven
    "screened-out",  # trained for a short time only
    "not-tried",  # proposed, but the budget went to others
    "refused",  # does not fit this network
    "failed",  # the training crashed under it
]


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A place in the user's source: the line that calls a module, or its class."""

    file: str
    line: int
