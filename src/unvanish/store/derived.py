"""Numbers by quantity from a record: what a run shows of which no samples were added."""

from __future__ import annotations

from unvanish.records import ModelRun, Readings, Run, StepRecord, Trace
from unvanish.store.contract import STEPS


def numbers_of(step: StepRecord) -> dict[str, float | None]:
    """Return the numbers of a step record, which are the quantity "steps"."""
    rates = {f"lr/{group}": rate for group, rate in enumerate(step.lr)}
    return {"loss": step.loss, "gradient": step.gradient_log10, "clip": step.clip_log10, **rates}


def of_step(step: StepRecord) -> Readings:
    """Return those that were read."""
    known = {name: value for name, value in numbers_of(step).items() if value is not None}
    return Readings(STEPS, step.step, tuple(known), tuple(known.values()))


def recorded(
    model: ModelRun, quantity: str, first: int | None = None, last: int | None = None
) -> list[Readings]:
    """Return one quantity of a record between two steps: all it holds, or has traced."""
    if quantity == STEPS:
        found = [of_step(step) for step in model.steps]
    else:
        found = [one for trace in model.traces for one in readings_of(trace)]
    return [
        one
        for one in found
        if one.quantity == quantity
        and (first is None or one.step >= first)
        and (last is None or one.step <= last)
    ]


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
