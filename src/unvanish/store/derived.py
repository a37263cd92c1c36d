"""Numbers by quantity from a record: what a run shows of which no samples were added."""

from __future__ import annotations

from unvanish.records import ModelRun, Readings, Run, Trace
from unvanish.store.contract import STEPS


def samples_of(model: ModelRun, quantity: str) -> list[Readings]:
    """Return one quantity at every traced step of a finished record."""
    return [one for trace in model.traces for one in readings_of(trace) if one.quantity == quantity]


def quantities_in(run: Run) -> set[tuple[int, str]]:
    """Return what a record has numbers of: (model, quantity)."""
    found = set()
    for position, model in enumerate(run.models):
        if model.steps:
            found.add((position, STEPS))
        found |= {(position, one.quantity) for trace in model.traces for one in readings_of(trace)}
    return found


def readings_of(trace: Trace) -> tuple[Readings, ...]:
    """Return the numbers of a trace by quantity: of its layers, and of its parameters."""
    rows = {
        "level": [
            (f"{row.module}#{row.call}", row.level_log10)
            for row in trace.layers
            if row.level_log10 is not None
        ],
        "gradient": [
            (signal.name, signal.grad_log10)
            for signal in trace.parameters
            if signal.grad_log10 is not None
        ],
        "weight": [(signal.name, signal.weight_log10) for signal in trace.parameters],
        "update": [
            (signal.name, signal.update_ratio_log10)
            for signal in trace.parameters
            if signal.update_ratio_log10 is not None
        ],
    }
    return tuple(
        Readings(
            quantity,
            trace.step,
            tuple(name for name, _ in pairs),
            tuple(value for _, value in pairs),
        )
        for quantity, pairs in rows.items()
        if pairs
    )
