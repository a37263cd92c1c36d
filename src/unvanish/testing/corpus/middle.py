"""The hard middle ground: bad gradients by the book, and some of these nets train all the same.

What is right about them is what their training shows: how far it came, beside the same net with
good weights (the cure), under the same optimiser, in the same steps.
"""

from __future__ import annotations

import math
from functools import partial

from torch import nn

from unvanish.records import Severity, Verdict
from unvanish.testing.corpus import own
from unvanish.testing.corpus.classify import Optimise, adam, classifier, sgd
from unvanish.testing.experiment import Case, Experiment, Kind
from unvanish.testing.nets import he, init, mlp, scaled

OPTIMISERS: dict[str, Optimise] = {"sgd": sgd(0.02, 0.9), "adam": adam(1e-3)}
STEPS = 300
CURE = 0.95  # the accuracy that every cure here reaches within the steps, and more
CHANCE = 0.1
# How much of the way from chance to the cure's level makes training good, halting, or nothing.
NEAR, HALF, HARDLY = 0.9, 0.5, 0.15


def reached(experiment: Experiment) -> float:
    """How much of the way from chance to the cure's level the training went; not finite: none."""
    if math.isnan(experiment.result()):
        return 0.0
    return (experiment.result() - CHANCE) / (CURE - CHANCE)


def sigmoid(depth: int, optimiser: str, cured: bool) -> Experiment:
    """`depth` sigmoid layers with PyTorch's weights; cured: ReLU, He."""
    model = mlp([64] * (depth + 1) + [10], nn.ReLU if cured else nn.Sigmoid)
    if cured:
        init(model, he)
    return classifier(model, OPTIMISERS[optimiser], steps=STEPS)


def relu(depth: int, factor: float, optimiser: str, cured: bool) -> Experiment:
    """`depth` ReLU layers with He's weights times `factor`; cured: times 1."""
    model = mlp([64] * (depth + 1) + [10], nn.ReLU)
    init(model, he if cured else scaled(factor))
    return classifier(model, OPTIMISERS[optimiser], steps=STEPS)


def _verdicts(fault: tuple[Verdict, ...], experiment: Experiment) -> tuple[Verdict, ...]:
    way = reached(experiment)
    if way >= NEAR:
        return ("healthy",)
    return (*fault, "healthy") if way >= HALF else fault


def _severities(experiment: Experiment) -> tuple[Severity, ...]:
    way = reached(experiment)
    if way >= NEAR:
        return ("info",)
    if way >= HALF:
        return ("info", "warning")
    return ("warning", "error") if way >= HARDLY else ("error",)


def _cases() -> tuple[Case, ...]:
    middle = partial(own, good=CURE, severities=_severities, cure="ReLU with He's weights", bad=1.0)
    sigmoids = [
        middle(
            f"middle_sigmoid_{depth}_{optimiser}",
            "small weights or slopes",
            f"{depth} sigmoid layers, default weights, {optimiser.upper()}",
            partial(sigmoid, depth, optimiser),
            ("vanishing", "healthy"),
            factors=("slope", "weight"),
            depends=partial(_verdicts, ("vanishing",)),
        )
        for optimiser in OPTIMISERS
        for depth in (3, 4, 5, 6)
    ]
    # Weights too large in a net that fits its learning rate otherwise: both are fair to name.
    kinds: dict[str, tuple[float, Kind, tuple[Verdict, ...]]] = {
        "half": (0.5, "small weights or slopes", ("vanishing",)),
        "twice": (2.0, "exploding", ("exploding", "update-size")),
    }
    relus = [
        middle(
            f"middle_relu_{name}_he_{depth}_{optimiser}",
            kind,
            f"{depth} ReLU layers, {name} He's weights, {optimiser.upper()}",
            partial(relu, depth, factor, optimiser),
            (*fault, "healthy"),
            depends=partial(_verdicts, fault),
        )
        for optimiser in OPTIMISERS
        for name, (factor, kind, fault) in kinds.items()
        for depth in (6, 12)
    ]
    return (*sigmoids, *relus)


CASES = _cases()
