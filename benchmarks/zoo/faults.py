"""Faults put into an architecture, and what the faulty network then learns.

Every case trains on one real batch of 8 to 10 until it is overfitted, or not. The clean network
chooses the learning rate, from a few; its faulty versions are trained at the same. What they reach
is held against it:

    progress = (chance - end) / (chance - end of the clean network)

where chance is the cross-entropy of a model that only knows how often each label occurs, which is
all that a network with a dead trunk can learn. "Trains" from 0.5 on, "untrainable" below 0.1,
between them neither (left out of the rates). A detach is labelled by what it is, "cut": whatever
lies before it gets no gradient, and what lies behind may overfit all the same.
"""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from dataclasses import replace as changed
from pathlib import Path
from typing import Any, Literal

import torch
from benchmarks.zoo.kept import keep
from benchmarks.zoo.rates import order
from benchmarks.zoo.specimen import Specimen, TooLargeError, UnbuildableError, chance
from benchmarks.zoo.surgery import (
    detached,
    drawn,
    everything,
    raw,
    scaled,
    with_sigmoid,
    without_norms,
)
from torch import nn

from unvanish.monitor.program import Outcome
from unvanish.monitor.schedule import Schedule, WatchOptions
from unvanish.monitor.session import Session
from unvanish.records import Run

Label = Literal["trains", "untrainable", "cut", "neither"]

TRAINS, UNTRAINABLE = 0.5, 0.1
STEPS, PATIENCE = 45, 80  # of the clean network, and of a faulty one that has not learnt by then
REACHED = 0.9  # progress at which a training may end early
# The usual one first; the next are tried where the clean network has not learnt most of it.
RATES = {"SGD": (0.05, 0.015, 0.005, 0.2), "Adam": (1e-3, 5e-3, 2e-4)}
ENOUGH = 0.8  # share of chance overcome at which no further rate is tried
LEARNS = 0.5  # share of chance that the clean network must overcome, or it is no yardstick
SLOWEST = 0.06  # seconds of processor time a step: the sample is of those that train quickly


@dataclass(frozen=True)
class Fault:
    """What is done to a clean network before it is trained."""

    put: Callable[[nn.Module], None] = lambda model: None
    rate: float = 1.0  # factor of the learning rate
    raw: bool = False  # inputs from 0 to 255
    cut: bool = False  # a detach in the middle


def faults() -> dict[str, Fault]:
    """Return each fault by name."""

    def bare(then: Callable[[nn.Module], None]) -> Callable[[nn.Module], None]:
        def put(model: nn.Module) -> None:
            without_norms(model)
            then(model)

        return put

    return {
        "clean": Fault(),
        "weights halved": Fault(lambda model: scaled(model, 0.5)),
        "weights doubled": Fault(lambda model: scaled(model, 2.0)),
        "weights N(0, 0.001)": Fault(lambda model: drawn(model, 1e-3)),
        "weights N(0, 1)": Fault(lambda model: drawn(model, 1.0)),
        "all parameters x0.1": Fault(lambda model: everything(model, 0.1)),
        "all parameters x10": Fault(lambda model: everything(model, 10.0)),
        "sigmoid for every activation": Fault(with_sigmoid),
        "no normalisation": Fault(without_norms),
        "no normalisation, weights halved": Fault(bare(lambda model: scaled(model, 0.5))),
        "no normalisation, N(0, 0.01)": Fault(bare(lambda model: drawn(model, 0.01))),
        "no normalisation, N(0, 1)": Fault(bare(lambda model: drawn(model, 1.0))),
        "no normalisation, sigmoid": Fault(bare(with_sigmoid)),
        "inputs from 0 to 255": Fault(raw=True),
        "no normalisation, inputs from 0 to 255": Fault(without_norms, raw=True),
        "learning rate x100": Fault(rate=100.0),
        "detach": Fault(cut=True),
    }


# Put into every architecture; of the others each gets DRAWN, by a hash of its name.
ALWAYS = ("clean", "weights halved", "weights doubled", "weights N(0, 0.001)", "detach")
DRAWN = 6


def chosen(name: str) -> dict[str, Fault]:
    """Return the faults that are put into the architecture `name`."""
    known = faults()
    others = sorted(set(known) - set(ALWAYS), key=lambda fault: order(f"{name}: {fault}"))
    return {fault: known[fault] for fault in (*ALWAYS, *others[:DRAWN])}


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
        WatchOptions(Schedule(), probe=True),
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


def yardstick(specimen: Specimen, optimizer: str, floor: float) -> tuple[float, float]:
    """Return the rate at which the clean network learns, and the loss it reaches by it.

    The first of RATES that overcomes ENOUGH of chance, which is `floor`; else the best of them.
    """
    tried: list[tuple[float, float]] = []
    for rate in RATES[optimizer]:
        reached = end(overfit(specimen, copy.deepcopy(specimen.model), optimizer, rate))
        tried.append((reached, rate))
        if floor - reached >= ENOUGH * floor:
            break
    reached, rate = min(tried)
    return rate, reached


def _cost(specimen: Specimen) -> float:
    """Return the seconds of processor time that a step takes, the quicker of two."""
    model = copy.deepcopy(specimen.model)
    costs = []
    for _ in range(3):
        started = time.process_time()
        specimen.loss_fn(model, specimen.batch).backward()
        costs.append(time.process_time() - started)
    return min(costs[1:])


def studied(
    build: Callable[[], Specimen], optimizer: str, directory: Path, slowest: float = SLOWEST
) -> dict[str, Any]:
    """Put each fault in, train under `optimizer`, and keep the records in `directory`.

    An architecture that does not overfit the batch when clean is no yardstick: "not learning".
    """
    torch.manual_seed(0)
    try:
        specimen = build()
    except UnbuildableError as error:
        return {"status": "unbuilt", "error": str(error)[-300:]}
    except TooLargeError as error:
        return {"status": "too large", "error": str(error)}
    if specimen.labels is None:
        return {"status": "other loss"}
    cost = _cost(specimen)
    if cost > slowest:
        return {"status": "slow", "step_s": round(cost, 3)}
    floor = chance(specimen.labels)
    row: dict[str, Any] = {"chance": floor, "step_s": round(cost, 4)}
    rate, clean = yardstick(specimen, optimizer, floor)
    row |= {"rate": rate, "clean": clean}
    if floor - clean < LEARNS * floor:
        return {**row, "status": "not learning"}
    cases = [
        case
        for name, fault in chosen(specimen.name).items()
        for case in _case(specimen, name, fault, (optimizer, rate), (floor, clean), directory)
    ]
    return {**row, "status": "studied", "cases": cases}


def tried(build: Callable[[], Specimen]) -> dict[str, Any]:
    """Train an architecture as it is, at two rates of each optimiser; return the best outcome.

    `fall`: the share of the loss, or of chance where that is known and smaller, that it lost.
    """
    torch.manual_seed(0)
    specimen = build()
    floor = math.inf if specimen.labels is None else chance(specimen.labels)
    best: dict[str, Any] = {"status": "trained", "fall": -math.inf}
    for optimizer, rates in reversed(RATES.items()):
        for rate in rates[:2]:
            losses = overfit(specimen, copy.deepcopy(specimen.model), optimizer, rate)
            base = min(losses[0], floor)
            fall = (base - end(losses)) / base if math.isfinite(base) else -math.inf
            if fall > best["fall"]:
                best |= {"fall": round(fall, 3), "optimizer": optimizer, "rate": rate,
                         "start": losses[0], "end": end(losses), "steps": len(losses)}  # fmt: skip
            if best["fall"] >= ENOUGH:
                return best
    return best


def _case(
    specimen: Specimen,
    name: str,
    fault: Fault,
    optimizer: tuple[str, float],
    ends: tuple[float, float],
    directory: Path,
) -> Iterator[dict[str, Any]]:
    """Yield what came of one fault; nothing where it cannot be put in.

    `ends`: chance, and the end of the clean network.
    """
    specimen = changed(specimen, model=copy.deepcopy(specimen.model))
    try:
        if fault.raw:
            specimen = changed(specimen, batch=raw(specimen.batch))
        fault.put(specimen.model)
        if fault.cut:
            detached(specimen.model, lambda: specimen.loss_fn(specimen.model, specimen.batch))
        specimen.loss_fn(specimen.model, specimen.batch)
    except Exception:  # nothing of ours runs yet: this fault does not suit it
        return
    floor, clean = ends
    fall = floor - clean
    rate = optimizer[1] * fault.rate
    run, losses = watched(specimen, specimen.model, optimizer[0], rate, floor - REACHED * fall)
    progress = (floor - end(losses)) / fall
    yield {
        "optimizer": optimizer[0],
        "rate": rate,
        "fault": name,
        "steps": len(losses),
        "start": losses[0],
        "end": end(losses),
        "progress": progress,
        "label": "cut" if fault.cut else label(progress),
        "run": keep(run, directory) if run.models else None,
    }
