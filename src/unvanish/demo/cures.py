"""The end of the demo: the course note's two methods, and others, tried as cures and proven or not.

Method 1, large initial weights, is no cure of ours; it is trained here beside the untreated
network by the same rule as one. Method 2, ReLU, is (with weights that match).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from unvanish.demo.train_digits import network
from unvanish.fix import prove
from unvanish.fix.live import LiveTrainer
from unvanish.fix.random_search import Remembered
from unvanish.fix.search import Budget, Progress, Search
from unvanish.fix.trial import UNTREATED, Outcome, Treatment
from unvanish.i18n import _
from unvanish.records import Fix, Verdict

STEPS, BATCH = 230, 64  # ten passes over the digits
SEEDS = (1, 2, 3)
RELU = "relu-swap"
_SGD = partial(torch.optim.SGD, lr=0.01, momentum=0.9)


@dataclass(frozen=True, slots=True)
class Method:
    """One of the note's two methods, held against the rule of a proof."""

    name: str  # "large-weights", "relu"
    scores: tuple[float, ...]
    baseline_scores: tuple[float, ...]
    verdict_after: Verdict
    proven: bool


@dataclass(frozen=True, slots=True)
class Story:
    """What fixing the ten-layer sigmoid network showed."""

    methods: tuple[Method, ...]
    fix: Fix


def story(progress: Progress) -> Story:
    """Search for cures of the demo's sigmoid network, and try the note's methods beside them."""
    batches = _batches()
    trainer = Remembered(_trainer("default", batches))
    fix = Search(trainer, Budget(), ("unvanish", "demo"), progress).run()
    baseline = [trainer.train(UNTREATED, seed, STEPS) for seed in SEEDS]
    large = _trainer("large", batches)
    methods = []
    for name, of, treatment in (
        ("large-weights", large, UNTREATED),
        ("relu", trainer, Treatment((RELU,))),
    ):
        progress(_("the course note's method: {name}").format(name=name), 0.99)
        found = [of.train(treatment, seed, STEPS) for seed in SEEDS]
        methods.append(_method(name, baseline, found, fix))
    return Story(tuple(methods), fix)


def _method(name: str, baseline: list[Outcome], found: list[Outcome], fix: Fix) -> Method:
    scores = [one.score if one.usable else math.inf for one in found]
    theirs = [one.score for one in baseline]
    after = [one.diagnosis for one in found]
    verdicts = [one.verdict for one in after if one is not None]
    code = fix.diagnosis.findings[0].code if fix.diagnosis.findings else None
    gone = prove.gone(fix.verdict_before, code, after)
    return Method(
        name,
        tuple(scores),
        tuple(theirs),
        next((verdict for verdict in verdicts if verdict != "healthy"), "healthy"),
        gone and prove.beats(theirs, scores),
    )


def _trainer(weights: str, batches: list[tuple[Tensor, Tensor]]) -> LiveTrainer:
    build = partial(network, "sigmoid", weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build()
    return LiveTrainer(model, batches, _loss, _SGD, steps=STEPS, model_fn=build)


def _loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    inputs, labels = batch
    return nn.functional.cross_entropy(model(inputs), labels)


def _batches() -> list[tuple[Tensor, Tensor]]:
    """The digits as the demo's script has them, in batches of mixed classes."""
    digits = load_digits()
    images = torch.tensor(digits.data / 16.0, dtype=torch.float32)
    images = (images - images.mean()) / images.std()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images, labels = images[order], torch.tensor(digits.target)[order]
    return list(zip(torch.split(images, BATCH), torch.split(labels, BATCH), strict=True))
