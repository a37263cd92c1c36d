"""Faults put into an architecture, and what the faulty network then learns.

Every case trains on one real batch of 8 to 10 until it is overfitted, or not. What it reached is
held against the clean network under the same optimiser and learning rate:

    progress = (chance - end) / (chance - end of the clean network)

where chance is the cross-entropy of a model that only knows how often each label occurs, which is
all that a network with a dead trunk can learn. "Trains" from 0.5
on, "untrainable" below 0.25, between them neither (left out of the rates). A detach is labelled by
what it is, "cut": whatever lies before it gets no gradient, and what lies behind may overfit all
the same.
"""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from benchmarks.zoo.kept import keep
from benchmarks.zoo.specimen import Specimen, UnbuildableError, chance
from torch import Tensor, nn

from unvanish.monitor.program import Outcome
from unvanish.monitor.schedule import Schedule, WatchOptions
from unvanish.monitor.session import Session
from unvanish.records import Run

Label = Literal["trains", "untrainable", "cut", "neither"]

TRAINS, UNTRAINABLE = 0.5, 0.25
STEPS, PATIENCE = 60, 144  # of the clean network, and of a faulty one that has not learnt by then
REACHED = 0.9  # progress at which a training may end early
# Found to overfit most clean networks of the library: text models want a large rate under SGD.
RATES = {
    "transformers": {"SGD": 0.5, "Adam": 3e-3},
    "timm": {"SGD": 0.05, "Adam": 1e-3},
    "torchvision": {"SGD": 0.05, "Adam": 1e-3},
}
SLOWEST = 0.05  # seconds of processor time a step: the sample is of those that train quickly
LEARNS = 0.5  # share of chance that the clean network must overcome, or it is no yardstick
_WEIGHTED = (nn.Linear, nn.modules.conv._ConvNd)


def faults() -> dict[str, Callable[[nn.Module], None]]:
    """Return each fault by name, a function that puts it into a model in place."""
    return {
        "clean": lambda model: None,
        "weights halved": lambda model: scaled(model, 0.5),
        "weights doubled": lambda model: scaled(model, 2.0),
        "weights N(0, 0.001)": lambda model: drawn(model, 1e-3),
        "weights N(0, 1)": lambda model: drawn(model, 1.0),
        "detach": detached,
    }


def weights(model: nn.Module) -> Iterator[Tensor]:
    """Yield the weights of all linear and convolution layers, those that are shared once."""
    seen: set[int] = set()
    for module in model.modules():
        weight = getattr(module, "weight", None)
        # transformers' own: Conv1D, and experts that hold theirs as one tensor
        known = isinstance(module, _WEIGHTED) or type(module).__name__ == "Conv1D"
        if known and isinstance(weight, nn.Parameter) and id(weight) not in seen:
            seen.add(id(weight))
            yield weight


@torch.no_grad()
def scaled(model: nn.Module, by: float) -> None:
    """Multiply all linear and convolution weights."""
    for weight in weights(model):
        weight.mul_(by)


@torch.no_grad()
def drawn(model: nn.Module, deviation: float) -> None:
    """Draw all linear and convolution weights from N(0, deviation²)."""
    generator = torch.Generator().manual_seed(1)
    for weight in weights(model):
        weight.copy_(torch.randn(weight.shape, generator=generator) * deviation)


def detached(model: nn.Module) -> None:
    """Detach the output of the middle block of the stack that holds most of the parameters."""
    stacks = [
        module
        for module in model.modules()
        if isinstance(module, nn.ModuleList | nn.Sequential) and len(module) > 1
    ]
    if not stacks:
        raise UnbuildableError("no stack of blocks to detach in")
    stack = max(stacks, key=lambda each: sum(p.numel() for p in each.parameters()))
    block = list(stack)[(len(stack) - 1) // 2]
    forward = block.forward

    def cut(*args: Any, **kwargs: Any) -> Any:
        return _detached(forward(*args, **kwargs))

    block.forward = cut  # type: ignore[method-assign]


def _detached(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, list | tuple):
        return type(value)(map(_detached, value))
    return value


# --- training ------------------------------------------------------------------------------------


def optimizer_for(name: str, model: nn.Module, rate: float) -> torch.optim.Optimizer:
    if name == "SGD":
        return torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    return torch.optim.Adam(model.parameters(), lr=rate)


def overfit(
    specimen: Specimen, model: nn.Module, name: str, rate: float, goal: float | None = None
) -> list[float]:
    """Train `model` on the batch and return the losses.

    It trains for STEPS steps; with a `goal`, until the loss lies there, for PATIENCE steps at most,
    as a faulty network may only be slower. It ends early where nothing is finite.
    """
    torch.manual_seed(0)
    optimizer = optimizer_for(name, model, rate)
    losses: list[float] = []
    for _step in range(STEPS if goal is None else PATIENCE):
        optimizer.zero_grad()
        loss = specimen.loss_fn(model, specimen.batch)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        if len(losses) > 12 and not any(map(math.isfinite, losses[-8:])):
            break
        if goal is not None and len(losses) >= STEPS and end(losses) <= goal:
            break
    return losses


def watched(
    specimen: Specimen, model: nn.Module, name: str, rate: float, goal: float
) -> tuple[Run, list[float]]:
    """Train under the ears of `unvanish run`; return its record and the losses."""
    session = Session(
        WatchOptions(Schedule(0), probe=True),
        kind="watch",
        command=(),
        directory="",
        say=lambda line: None,
    )
    session.begin()
    try:
        losses = overfit(specimen, model, name, rate, goal)
    finally:
        session.end()
    return session.run(Outcome("finished", 0)), losses


def end(losses: list[float]) -> float:
    """Return the loss at the end, the median of the last three; infinite if it is not finite."""
    value = statistics.median(losses[-3:])
    return value if math.isfinite(value) else math.inf


def label(progress: float) -> Label:
    """Return what became of a training, by the two shares."""
    if progress >= TRAINS:
        return "trains"
    return "untrainable" if progress < UNTRAINABLE else "neither"


def _cost(specimen: Specimen) -> float:
    """Return the seconds of processor time that a step takes, the second of two."""
    model = copy.deepcopy(specimen.model)
    for _ in range(2):
        started = time.process_time()
        specimen.loss_fn(model, specimen.batch).backward()
        cost = time.process_time() - started
    return cost


def studied(library: str, build: Callable[[], Specimen], directory: Path) -> dict[str, Any]:
    """Put each fault in, train under each optimiser, and keep the records in `directory`.

    An architecture that does not overfit the batch when clean is no yardstick: that optimiser's
    only case has the label "not learning".
    """
    torch.manual_seed(0)
    try:
        specimen = build()
    except UnbuildableError as error:
        return {"status": "unbuilt", "error": str(error)[-300:]}
    if specimen.labels is None:
        return {"status": "other loss"}
    cost = _cost(specimen)
    if cost > SLOWEST:
        return {"status": "slow", "step_s": round(cost, 3)}
    floor = chance(specimen.labels)
    row: dict[str, Any] = {"status": "studied", "chance": floor, "cases": []}
    for name, rate in RATES[library].items():
        clean = end(overfit(specimen, copy.deepcopy(specimen.model), name, rate))
        if floor - clean < LEARNS * floor:
            row["cases"].append({"optimizer": name, "label": "not learning", "end": clean})
            continue
        row["cases"] += [
            case
            for fault, put in faults().items()
            for case in _case(specimen, fault, put, (name, rate), (floor, clean), directory)
        ]
    return row


def _case(
    specimen: Specimen,
    fault: str,
    put: Callable[[nn.Module], None],
    optimizer: tuple[str, float],
    yardstick: tuple[float, float],
    directory: Path,
) -> Iterator[dict[str, Any]]:
    """Yield what came of one fault under one optimiser; nothing where it cannot be put in.

    `yardstick`: chance, and the end of the clean network.
    """
    model = copy.deepcopy(specimen.model)
    try:
        put(model)
    except UnbuildableError:
        return
    floor, clean = yardstick
    fall = floor - clean
    run, losses = watched(specimen, model, *optimizer, floor - REACHED * fall)
    progress = (floor - end(losses)) / fall
    yield {
        "optimizer": optimizer[0],
        "rate": optimizer[1],
        "fault": fault,
        "steps": len(losses),
        "start": losses[0],
        "end": end(losses),
        "progress": progress,
        "label": "cut" if fault == "detach" else label(progress),
        "run": keep(run, directory) if run.models else None,
    }
