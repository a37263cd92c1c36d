"""Does a plain tanh network train where theory says so? Depth against 6 ξ_c, on real digits.

    make bench-boundary

Schoenholz et al. (2017) found that networks train while their depth is below about 6 ξ_c, the depth
in which correlations settle. Here: tanh, σ_b² = 0.05, width 96, eight σ_w² at seven depths, SGD
with momentum, three learning rates (the best counts), one budget for all. All networks of a depth
train side by side as one batched matrix product. A cell is called right if the network trains
(accuracy on held-out digits of at least a half, ten classes) exactly where its depth is at most
6 ξ_c. Results are appended depth by depth; a depth that is there already is not run again.

Depth 90 is run too and not counted: there depth over width is about 1, and no network trains within
the budget, not even at σ_w² = 1.75, whose 6 ξ_c is 2,557: the limit is not that of correlations.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from itertools import pairwise
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from unvanish.meanfield import named
from unvanish.meanfield.maps import Layer, fixed_point

RESULTS = Path(__file__).with_name("results") / "boundary.json"
SIGMA_W2 = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)
SIGMA_B2 = 0.05
DEPTHS = (5, 10, 15, 20, 35, 45, 60)
BEYOND = (90,)  # run, and not counted
RATES = (0.002, 0.01, 0.05)
WIDTH, BATCH, STEPS = 96, 64, 300
TRAINS = 0.5  # accuracy from which a network counts as training; chance is 0.1


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return inputs of mean square 1 and labels: 1,297 to train on, 500 to test on."""
    loaded = load_digits()
    x = torch.tensor(loaded.data, dtype=torch.float32)
    x = (x - x.mean()) / x.std()
    y = torch.tensor(loaded.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, test = order[500:], order[:500]
    return x[train], y[train], x[test], y[test]


def forward(weights: list[Tensor], biases: list[Tensor], x: Tensor) -> Tensor:
    """Return the logits of all networks, (networks, samples, 10)."""
    h = x.expand(weights[0].shape[0], *x.shape)
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        h = torch.tanh(torch.baddbmm(bias, h, weight))
    return torch.baddbmm(biases[-1], h, weights[-1])


def accuracies(depth: int, steps: int) -> dict[str, float]:
    """Return test accuracy by σ_w², the best over learning rates."""
    torch.manual_seed(depth)
    x, y, x_test, y_test = digits()
    scale = torch.tensor([s for s in SIGMA_W2 for _ in RATES]).sqrt()[:, None, None]
    rate = torch.tensor([r for _ in SIGMA_W2 for r in RATES])[:, None, None]
    widths = [x.shape[1], *[WIDTH] * depth, 10]
    weights, biases = [], []
    for n_in, n_out in pairwise(widths):
        weights.append(scale * torch.randn(len(scale), n_in, n_out) / math.sqrt(n_in))
        biases.append(math.sqrt(SIGMA_B2) * torch.randn(len(scale), 1, n_out))
    parameters = [p.requires_grad_() for p in (*weights, *biases)]
    momenta = [torch.zeros_like(p) for p in parameters]
    for step in range(steps):
        rows = torch.randint(0, len(x), (BATCH,))
        logits = forward(weights, biases, x[rows])
        logp = torch.log_softmax(logits, dim=2)
        loss = -logp[:, torch.arange(BATCH), y[rows]].mean(dim=1).sum()
        gradients = torch.autograd.grad(loss, parameters)
        warm = min(1.0, (step + 1) / 20)
        with torch.no_grad():
            for p, m, g in zip(parameters, momenta, gradients, strict=True):
                p.sub_(warm * rate * m.mul_(0.9).add_(g))
    with torch.no_grad():
        right = forward(weights, biases, x_test).argmax(dim=2) == y_test
    best = right.float().mean(dim=1).reshape(len(SIGMA_W2), len(RATES)).amax(dim=1)
    return {f"{s:g}": round(float(a), 4) for s, a in zip(SIGMA_W2, best, strict=True)}


def boundary(sigma_w2: float) -> float:
    """Return 6 ξ_c."""
    layer = Layer(named("tanh"), math.sqrt(sigma_w2), math.sqrt(SIGMA_B2))
    return fixed_point(layer).trainable_depth


def summary(runs: dict[str, dict[str, float]]) -> dict[str, object]:
    """Return how many cells the criterion calls right, and those that it does not."""
    counted = {d: row for d, row in runs.items() if int(d) in DEPTHS}
    cells = [(int(d), float(s), a) for d, row in counted.items() for s, a in row.items()]
    wrong = [
        {
            "depth": depth,
            "sigma_w2": s,
            "accuracy": accuracy,
            "depth_over_boundary": round(depth / boundary(s), 3),
        }
        for depth, s, accuracy in cells
        if (accuracy >= TRAINS) != (depth <= boundary(s))
    ]
    return {"cells": len(cells), "right": len(cells) - len(wrong), "wrong": wrong}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depths", type=int, nargs="*", default=[*DEPTHS, *BEYOND])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--json", type=Path, default=RESULTS)
    options = parser.parse_args()
    found = json.loads(options.json.read_text()) if options.json.exists() else {}
    runs = found.get("accuracy", {}) if found.get("steps") == options.steps else {}
    for depth in options.depths:
        if str(depth) in runs:
            continue
        start = time.time()
        runs[str(depth)] = accuracies(depth, options.steps)
        runs = dict(sorted(runs.items(), key=lambda item: int(item[0])))
        report = {
            "setting": "tanh, sigma_b^2 = 0.05, width 96, digits, SGD with momentum 0.9",
            "steps": options.steps,
            "learning_rates": RATES,
            "trains_from_accuracy": TRAINS,
            "boundary": {f"{s:g}": round(boundary(s), 1) for s in SIGMA_W2},
            "accuracy": runs,
            **summary(runs),
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")
        print(f"depth {depth}: {runs[str(depth)]} ({time.time() - start:.0f} s)", flush=True)
    print(summary(runs))


if __name__ == "__main__":
    main()
