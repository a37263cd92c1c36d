"""Classifiers of the digits: what most cases are made of."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, Adam, Optimizer

from unvanish.testing.data import Pair, accuracy, digits, minibatches
from unvanish.testing.experiment import Batch, Experiment

Optimise = Callable[..., Optimizer]


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy of the model's output as logits."""
    inputs, labels = batch
    return functional.cross_entropy(model(inputs), labels)


def classifier(
    model: nn.Module,
    optimise: Optimise,
    *,
    steps: int,
    size: int = 64,
    data: Pair | None = None,
    loss: Callable[[nn.Module, Batch], Tensor] = cross_entropy,
) -> Experiment:
    """Return the training of `model` on the digits (unit variance) under `optimise(parameters)`."""
    inputs, labels = digits() if data is None else data
    return Experiment(
        model,
        optimise(model.parameters()),
        minibatches(inputs, labels, size=size),
        loss,
        steps,
        accuracy(model, inputs, labels),
    )


def sgd(lr: float, momentum: float = 0.0) -> Optimise:
    """Return a maker of SGD."""
    return partial(SGD, lr=lr, momentum=momentum)


def adam(lr: float) -> Optimise:
    """Return a maker of Adam."""
    return partial(Adam, lr=lr)
