"""How deep a plain network trains, by its starting weights: `make bench-depth`.

The networks have neither skips nor normalisation: `depth` hidden layers of 64 units on the digits
of scikit-learn, 20 epochs of minibatches of 64. Starting weights are PyTorch's own, the textbook's
(Xavier for the sigmoid, Xavier × 5/3 for tanh, He for the others) and `unvanish.init_`; the last
table is of activations shaped for their depth, fed with samples of equal norm.

All rates of one grid are trained at once, as one batched network, on the first seed; the one with
the lowest training loss is then trained on the two other seeds. The test set chooses nothing. A
network that is still at chance after a quarter of the budget, or has diverged, is stopped and keeps
the accuracy that it has. Results are written cell by cell, and a run that was stopped goes on.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

import unvanish
from unvanish.meanfield import named
from unvanish.meanfield.shaping import Shaping, dks, tailored_relu
from unvanish.testing.data import digits
from unvanish.testing.nets import mlp

RESULTS = Path(__file__).parent / "results" / "depth.json"
WIDTH, CLASSES, TRAINING = 64, 10, 1297
EPOCHS, BATCH = 20, 64
SEEDS = (0, 1, 2)
DEPTHS = (3, 5, 10, 20, 50, 100, 200)
SHOWN = (10, 20, 50, 100, 200)
SHAPED_DEPTH = 300
ACTIVATIONS: dict[str, tuple[Callable[[], nn.Module], Callable[[Tensor], Tensor]]] = {
    "sigmoid": (nn.Sigmoid, torch.sigmoid),
    "tanh": (nn.Tanh, torch.tanh),
    "relu": (nn.ReLU, torch.relu),
    "gelu": (nn.GELU, F.gelu),
    "silu": (nn.SiLU, F.silu),
    "softplus": (nn.Softplus, F.softplus),
}
SCHEMES = ("pytorch default", "textbook", "init_")
RATES = {
    "sgd": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1),  # momentum 0.9
    "adam": (3e-5, 1e-4, 3e-4, 1e-3, 3e-3),
}
CHANCE = math.log(CLASSES)
STILL_AT_CHANCE = 0.02  # nats of training loss below chance that count as learning
GOAL, USABLE = 0.95, 0.90


@dataclass(frozen=True)
class Cell:
    """One kind of network, trained with every rate of the grid."""

    scheme: str
    activation: str
    optimizer: str
    depth: int

    @property
    def key(self) -> str:
        return f"{self.scheme}/{self.activation}/{self.optimizer}/{self.depth}"


@dataclass
class Outcome:
    """Of one network: its accuracy on the test set, and the loss of its last epoch."""

    rate: float
    seed: int
    accuracy: float
    loss: float
    epochs: int


def cells() -> Iterator[Cell]:
    for scheme in reversed(SCHEMES):
        for optimizer in RATES:
            for activation in ACTIVATIONS:
                for depth in DEPTHS:
                    yield Cell(scheme, activation, optimizer, depth)
    for activation in ACTIVATIONS:
        yield Cell("shaped", activation, "sgd", SHAPED_DEPTH)


# --- starting weights -----------------------------------------------------------------------------


class Shaped(nn.Module):
    """γ (φ(αx + β) + δ)."""

    def __init__(self, activation: Callable[[Tensor], Tensor], shaping: Shaping) -> None:
        super().__init__()
        self.activation, self.shaping = activation, shaping

    def forward(self, x: Tensor) -> Tensor:
        s = self.shaping
        return s.gamma * (self.activation(s.alpha * x + s.beta) + s.delta)


@cache
def shaped(name: str) -> nn.Module:
    """Return the activation shaped for `SHAPED_DEPTH` layers: DKS, and TAT for ReLU."""
    if name == "relu":
        slope, _gain = tailored_relu(SHAPED_DEPTH)
        return nn.LeakyReLU(slope)
    return Shaped(ACTIVATIONS[name][1], dks(named(name), SHAPED_DEPTH))


def started(cell: Cell, seed: int, inputs: Tensor) -> nn.Sequential:
    """Return one network with its starting weights, which follow from the seed."""
    torch.manual_seed(seed)
    if cell.scheme == "shaped":
        one = shaped(cell.activation)
        model = mlp([WIDTH] * (cell.depth + 1) + [CLASSES], lambda: one)
        unvanish.init_(model, inputs, scheme="orthogonal")
        return model
    model = mlp([WIDTH] * (cell.depth + 1) + [CLASSES], ACTIVATIONS[cell.activation][0])
    if cell.scheme == "textbook":
        for layer in model:
            if isinstance(layer, nn.Linear):
                _textbook(layer, cell.activation)
    elif cell.scheme == "init_":
        unvanish.init_(model, inputs)
    return model


def _textbook(layer: nn.Linear, activation: str) -> None:
    if activation in ("sigmoid", "tanh"):
        nn.init.xavier_normal_(layer.weight, nn.init.calculate_gain(activation))
    else:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)


# --- training, many networks at once --------------------------------------------------------------


class Ensemble:
    """Networks of one shape that learn the same minibatches at rates of their own.

    Hidden weights are (layers, networks, in, out), so that a layer is one batched product and the
    optimiser's step one operation on everything.
    """

    def __init__(
        self, models: list[nn.Sequential], activation: Callable[[Tensor], Tensor], optimizer: str
    ) -> None:
        layers = [[m for m in model if isinstance(m, nn.Linear)] for model in models]
        hidden = range(len(layers[0]) - 1)
        self.activation, self.optimizer = activation, optimizer
        with torch.no_grad():
            self.parameters = [
                torch.stack([torch.stack([net[i].weight.T for net in layers]) for i in hidden]),
                torch.stack([torch.stack([net[i].bias[None] for net in layers]) for i in hidden]),
                torch.stack([net[-1].weight.T for net in layers])[None],
                torch.stack([net[-1].bias[None] for net in layers])[None],
            ]
        self.first = [torch.zeros_like(p) for p in self.parameters]
        self.second = [torch.zeros_like(p) for p in self.parameters if optimizer == "adam"]
        self.steps = 0

    def forward(self, inputs: Tensor, parameters: list[Tensor]) -> Tensor:
        """Return the scores (networks, samples, classes)."""
        weights, biases, head, head_bias = parameters
        h = inputs.expand(weights.shape[1], *inputs.shape)
        for w, b in zip(weights.unbind(), biases.unbind(), strict=True):
            h = self.activation(torch.baddbmm(b, h, w))
        return torch.baddbmm(head_bias[0], h, head[0])

    def step(self, inputs: Tensor, labels: Tensor, rates: Tensor) -> Tensor:
        """Learn one minibatch; return the losses."""
        leaves = [p.requires_grad_() for p in self.parameters]
        scores = self.forward(inputs, leaves)
        count = len(scores)
        losses = F.cross_entropy(scores.flatten(0, 1), labels.repeat(count), reduction="none")
        losses = losses.view(count, -1).mean(1)
        gradients = torch.autograd.grad(losses.sum(), leaves)
        self.parameters = [p.detach() for p in leaves]
        self.steps += 1
        rate = rates.view(1, -1, 1, 1)
        for number, (p, g) in enumerate(zip(self.parameters, gradients, strict=True)):
            if self.optimizer == "sgd":
                p.sub_(rate * self.first[number].mul_(0.9).add_(g))
            else:
                self._adam(number, p, g, rate)
        return losses.detach()

    def _adam(self, number: int, p: Tensor, g: Tensor, rate: Tensor) -> None:
        first = self.first[number].mul_(0.9).add_(g, alpha=0.1)
        second = self.second[number].mul_(0.999).addcmul_(g, g, value=0.001)
        size = (second / (1 - 0.999**self.steps)).sqrt_().add_(1e-8)
        p.sub_((rate / (1 - 0.9**self.steps)) * first / size)

    def keep(self, chosen: Tensor) -> None:
        """Go on with some of the networks."""
        for state in (self.parameters, self.first, self.second):
            state[:] = [tensor[:, chosen].contiguous() for tensor in state]


@dataclass
class Data:
    inputs: Tensor
    labels: Tensor
    test_inputs: Tensor
    test_labels: Tensor


def load(equal_norms: bool) -> Data:
    inputs, labels = digits()
    if equal_norms:
        inputs = inputs / inputs.square().mean(1, keepdim=True).sqrt()
    return Data(inputs[:TRAINING], labels[:TRAINING], inputs[TRAINING:], labels[TRAINING:])


def train(cell: Cell, members: list[tuple[int, float]], data: Data) -> list[Outcome]:
    """Train one network for each (seed, rate), all on the minibatches of the first one's seed."""
    models = {seed: started(cell, seed, data.inputs[:256]) for seed in {s for s, _r in members}}
    activation = ACTIVATIONS[cell.activation][1]
    if cell.scheme == "shaped":
        activation = shaped(cell.activation)
    ensemble = Ensemble([models[seed] for seed, _rate in members], activation, cell.optimizer)
    rates = torch.tensor([rate for _seed, rate in members])
    alive = list(range(len(members)))
    outcomes: dict[int, Outcome] = {}
    order = torch.Generator().manual_seed(1000 + members[0][0])
    for epoch in range(1, EPOCHS + 1):
        shuffled = torch.randperm(len(data.inputs), generator=order)
        batches = [b for b in shuffled.split(BATCH) if len(b) == BATCH]
        losses = torch.stack(
            [ensemble.step(data.inputs[b], data.labels[b], rates[alive]) for b in batches]
        ).mean(0)
        going = torch.isfinite(losses) & (losses < 4 * CHANCE)
        if epoch == EPOCHS // 4:
            going &= losses < CHANCE - STILL_AT_CHANCE
        if epoch == EPOCHS:
            going[:] = False
        if going.all():
            continue
        right = ensemble.forward(data.test_inputs, ensemble.parameters).argmax(-1)
        accuracy = (right == data.test_labels).float().mean(1)
        for place in (~going).nonzero().flatten().tolist():
            seed, rate = members[alive[place]]
            loss = float(losses[place])
            outcomes[alive[place]] = Outcome(rate, seed, float(accuracy[place]), loss, epoch)
        alive = [one for one, goes in zip(alive, going.tolist(), strict=True) if goes]
        if not alive:
            break
        ensemble.keep(going)
    return [outcomes[number] for number in range(len(members))]


def run(cell: Cell, data: Data) -> dict[str, Any]:
    """Train a cell: every rate on the first seed, the best of them on the others."""
    started_at = time.process_time()
    grid = train(cell, [(SEEDS[0], rate) for rate in RATES[cell.optimizer]], data)
    finished = [one for one in grid if math.isfinite(one.loss)] or grid
    best = min(finished, key=lambda one: (-one.epochs, one.loss))
    others = train(cell, [(seed, best.rate) for seed in SEEDS[1:]], data)
    seeds = [best, *others]
    return {
        **dataclasses.asdict(cell),
        "rate": best.rate,
        "accuracy": sum(one.accuracy for one in seeds) / len(seeds),
        "seeds": [round(one.accuracy, 4) for one in seeds],
        "grid": {f"{one.rate:g}": round(one.accuracy, 4) for one in grid},
        "epochs": [one.epochs for one in seeds],
        "core_seconds": round(time.process_time() - started_at, 1),
    }


# --- results --------------------------------------------------------------------------------------


def settings() -> dict[str, Any]:
    return {
        "data": "scikit-learn digits, 1297 to train, 500 to test",
        "width": WIDTH,
        "epochs": EPOCHS,
        "batch": BATCH,
        "seeds": list(SEEDS),
        "rates": {name: list(rates) for name, rates in RATES.items()},
        "torch": str(torch.__version__),
    }


def read_results(path: Path, anew: bool) -> dict[str, dict[str, Any]]:
    """Return the cells that are done, where they were made with these settings."""
    if anew or not path.is_file():
        return {}
    known = json.loads(path.read_text())
    return known["cells"] if known["settings"] == settings() else {}


def write_results(path: Path, done: dict[str, dict[str, Any]]) -> None:
    plain = {"settings": settings(), "summary": summary(done), "cells": done}
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(plain, indent=1) + "\n")
    temporary.replace(path)


def summary(done: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the greatest usable depths, and where a goal is met and where it falls short."""
    greatest = {}
    for scheme in SCHEMES:
        for optimizer in RATES:
            for activation in ACTIVATIONS:
                good = [
                    cell["depth"]
                    for cell in done.values()
                    if (cell["scheme"], cell["optimizer"], cell["activation"])
                    == (scheme, optimizer, activation)
                    and cell["accuracy"] >= USABLE
                ]
                greatest[f"{scheme}/{activation}/{optimizer}"] = max(good, default=None)
    goals = [("init_", name, 50) for name in ACTIVATIONS]
    goals += [("init_", name, 200) for name in ("sigmoid", "tanh", "relu")]
    goals += [("shaped", name, SHAPED_DEPTH) for name in ACTIVATIONS]
    told = {}
    for scheme, name, depth in goals:
        for optimizer in ("sgd",) if scheme == "shaped" else RATES:
            cell = done.get(Cell(scheme, name, optimizer, depth).key)
            text = "not run"
            if cell is not None:
                verdict = "met" if cell["accuracy"] >= GOAL else "falls short"
                text = f"{verdict}: {cell['accuracy']:.1%}"
            told[f"{scheme}/{name}/{optimizer}/{depth}"] = text
    return {
        "core_minutes": round(sum(cell["core_seconds"] for cell in done.values()) / 60, 1),
        f"greatest depth with at least {USABLE:.0%}": greatest,
        f"goal of {GOAL:.0%}": told,
    }


def tables(done: dict[str, dict[str, Any]]) -> Iterator[Table]:
    for optimizer, told in (("sgd", "SGD with momentum"), ("adam", "Adam")):
        table = Table(title=f"test accuracy, mean of {len(SEEDS)} seeds, {told}")
        for head in ("activation", "weights", "≥ 90 % up to", *map(str, SHOWN)):
            table.add_column(head, justify="left" if head in ("activation", "weights") else "right")
        for activation in ACTIVATIONS:
            for scheme in SCHEMES:
                found = {d: done.get(Cell(scheme, activation, optimizer, d).key) for d in DEPTHS}
                good = [d for d, cell in found.items() if cell and cell["accuracy"] >= USABLE]
                shown = [found[d] for d in SHOWN]
                table.add_row(
                    activation,
                    scheme,
                    str(max(good)) if good else "–",
                    *(f"{cell['accuracy']:.1%}" if cell else "" for cell in shown),
                )
        yield table
    table = Table(title=f"shaped activation, samples of equal norm, depth {SHAPED_DEPTH}")
    table.add_column("activation")
    table.add_column("SGD with momentum", justify="right")
    for activation in ACTIVATIONS:
        cell = done.get(Cell("shaped", activation, "sgd", SHAPED_DEPTH).key)
        table.add_row(activation, f"{cell['accuracy']:.1%}" if cell else "")
    yield table


@click.command()
@click.option("--json", "path", type=click.Path(path_type=Path), default=RESULTS)
@click.option("--only", default="*", help="cells whose key is like this: init_/relu/*/50")
@click.option("--anew", is_flag=True, help="forget what is in the file")
def main(path: Path, only: str, anew: bool) -> None:
    """Train what is missing in the file, and print its tables."""
    torch.set_num_threads(1)
    done = read_results(path, anew)
    wanted = [cell for cell in cells() if fnmatch(cell.key, only) and cell.key not in done]
    plain, equal = load(False), load(True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=sum(cell.depth for cell in wanted))
        for cell in wanted:
            progress.update(task, description=cell.key)
            done[cell.key] = run(cell, equal if cell.scheme == "shaped" else plain)
            write_results(path, done)
            progress.advance(task, cell.depth)
    console = Console()
    for table in tables(done):
        console.print(table)


if __name__ == "__main__":
    main()
