"""Batched ensembles of `unvanish fix` against training one by one, side by side, on real digits.

    make bench-ensemble
    python benchmarks/ensemble.py [--rounds 3] [--calls 3] [--only NAME] [--json FILE]

Three measurements for each network, all as the ratio of one by one over together (above 1: the
ensemble is faster). All are of processor time on one core, one way right after the other:

- step: one bare optimiser step of 2, 4 and 6 networks;
- round: a round of the proof, 4 watched trainings of 200 steps (untreated and cured, two seeds):
  what is measured in them costs the same both ways;
- call: a whole `unvanish.fix`, where the faster way is chosen by its own clock.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import unvanish
from unvanish.fix.ensemble import Choice
from unvanish.fix.live import LiveTrainer
from unvanish.fix.stack import Stack
from unvanish.fix.trial import UNTREATED, Job, Treatment
from unvanish.testing.data import digits

RESULTS = Path(__file__).with_name("results") / "ensemble.json"
BATCH, STEPS = 64, 200
SIZES = (2, 4, 6)
CURED = Treatment(("measured-init",))
Row = dict[str, Any]


def mlp(depth: int) -> nn.Module:
    """A sigmoid network of `depth` hidden layers of 32 units."""
    layers: list[nn.Module] = [nn.Linear(64, 32), nn.Sigmoid()]
    for _ in range(depth - 1):
        layers += [nn.Linear(32, 32), nn.Sigmoid()]
    return nn.Sequential(*layers, nn.Linear(32, 10))


def cnn() -> nn.Module:
    """Six 3×3 convolutions of 8 channels with sigmoid, on images of 8×8."""
    layers: list[nn.Module] = [
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 8, 3, padding=1),
        nn.Sigmoid(),
    ]
    for _ in range(5):
        layers += [nn.Conv2d(8, 8, 3, padding=1), nn.Sigmoid()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 10))


class Transformer(nn.Module):
    """Two post-norm layers of width 32 without dropout, on the rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 32)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True) for _ in range(2)
        )
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x.unflatten(1, (8, 8)))
        for layer in self.layers:
            h = layer(h)
        out: Tensor = self.head(h.mean(1))
        return out


@dataclass(frozen=True)
class Network:
    """A network that its initial weights, or Adam's rate, make vanish."""

    make: Callable[[], nn.Module]
    lr: float = 1e-3

    def optimizer(self, parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=self.lr)

    def model(self) -> nn.Module:
        torch.manual_seed(0)
        return self.make()

    def trainer(self, steps: int, ensemble: Choice) -> LiveTrainer:
        return LiveTrainer(
            self.model(), batches(), loss_fn, self.optimizer, steps=steps, ensemble=ensemble
        )


NETWORKS = {
    "MLP of 10 layers": Network(lambda: mlp(10)),
    "MLP of 20 layers": Network(lambda: mlp(20)),
    "CNN of 6 layers": Network(cnn),
    "transformer of 2 layers": Network(Transformer, lr=0.1),
}


def batches() -> list[tuple[Tensor, Tensor]]:
    """Return the digits in whole batches."""
    images, labels = digits()
    parts = zip(images.split(BATCH), labels.split(BATCH), strict=True)
    return [part for part in parts if len(part[0]) == BATCH]


def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return functional.cross_entropy(model(batch[0]), batch[1])


def took(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def ratios(alone: Callable[[], object], together: Callable[[], object], rounds: int) -> Row:
    """Run both by turns; return the median of the ratios, their range, and median seconds."""
    pairs = []
    for number in range(rounds):
        ways = (alone, together) if number % 2 else (together, alone)
        first, second = took(ways[0]), took(ways[1])
        pairs.append((first, second) if number % 2 else (second, first))
    found = [one / other for one, other in pairs]
    return {
        "ratio": round(statistics.median(found), 2),
        "from": round(min(found), 2),
        "to": round(max(found), 2),
        "seconds_alone": round(statistics.median(one for one, _other in pairs), 5),
        "seconds_together": round(statistics.median(other for _one, other in pairs), 5),
    }


def step(network: Network, count: int) -> Row:
    """Bare steps of `count` networks."""
    made = network.trainer(STEPS, "never")
    jobs = [Job(UNTREATED, seed, STEPS) for seed in range(count)]
    alone, rows = ([made._training(job) for job in jobs] for _way in range(2))
    stack, data = Stack(rows), batches()[:count]

    def one_by_one() -> None:
        for training, batch in zip(alone, data, strict=True):
            training.step(batch)

    def as_one() -> None:
        stack.backward(data)
        stack.step()

    for _warm in range(5):
        one_by_one()
        as_one()
    return ratios(one_by_one, as_one, 41)


def watched(network: Network, rounds: int) -> Row:
    """A round of a proof: two pairs of watched trainings."""
    jobs = [Job(one, seed, STEPS) for seed in (2, 3) for one in (UNTREATED, CURED)]

    def run(ensemble: Choice) -> None:
        made = network.trainer(STEPS, ensemble)
        made.ahead(jobs, lambda count: None)
        for job in jobs:
            found = made.train(job.treatment, job.seed, job.steps)
            if not found.usable:
                raise SystemExit(f"{job} was not trained: {found.error or found.refused}")

    return ratios(lambda: run("never"), lambda: run("always"), rounds)


def call(network: Network, calls: int) -> Row:
    """Whole calls, the way chosen by their own clock against one by one."""
    chosen: list[tuple[int, int]] = []

    def run(ensemble: Choice) -> None:
        found = unvanish.fix(
            network.model(),
            batches(),
            loss_fn,
            network.optimizer,
            steps=STEPS,
            ensemble=ensemble,
        ).record
        if ensemble == "measured":
            sizes = [(len(one.cures), one.together) for one in found.ensembles]
            chosen.append((sum(n for n, _t in sizes), sum(n for n, t in sizes if t)))

    row = ratios(lambda: run("never"), lambda: run("measured"), calls)
    row["alike"], row["together"] = (sum(part) for part in zip(*chosen, strict=True))
    return row


def show(what: str, row: Row) -> None:
    print(f"  {what:26s} ×{row['ratio']:.2f}  ({row['from']:.2f} to {row['to']:.2f})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=3, help="0: no whole calls")
    parser.add_argument("--only", choices=NETWORKS)
    parser.add_argument("--json", type=Path, default=RESULTS)
    options = parser.parse_args()
    known = json.loads(options.json.read_text()) if options.json.exists() else {}
    for name, network in NETWORKS.items():
        if options.only not in (None, name):
            continue
        print(name)
        row: Row = {}
        for count in SIZES:
            row[f"step of {count}"] = step(network, count)
            show(f"step of {count}", row[f"step of {count}"])
        row["round"] = watched(network, options.rounds)
        show("round", row["round"])
        if options.calls:
            row["call"] = call(network, options.calls)
            show("call", row["call"])
        known[name] = known.get(name, {}) | row
        options.json.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
