"""Inputs and losses of the wrong scale."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

from unvanish.testing.corpus import own, own_healthy
from unvanish.testing.corpus.classify import classifier, sgd
from unvanish.testing.data import digits
from unvanish.testing.experiment import Batch, Experiment
from unvanish.testing.nets import he, init, mlp

FAINT = 1e-5


def inputs_scaled_away(cured: bool) -> Experiment:
    """Inputs divided by 255 two or three times too often; cured: of unit variance."""
    images, labels = digits()
    model = mlp([64] * 5 + [10], nn.ReLU)
    init(model, he)
    data = (images if cured else images * FAINT, labels)
    return classifier(model, sgd(0.05, 0.9), steps=150, data=data)


def ok_faint_inputs_normalised(cured: bool) -> Experiment:
    """The same inputs, which a batch norm brings to unit variance."""
    images, labels = digits()
    model = mlp([64] * 5 + [10], nn.ReLU)
    init(model, he)
    # Running statistics would still remember the variance of 1 that they start from.
    norm = nn.BatchNorm1d(64, eps=1e-12, track_running_stats=False)
    data = (images * FAINT, labels)
    return classifier(nn.Sequential(norm, *model), sgd(0.05, 0.9), steps=150, data=data)


def summed(reduction: str) -> Callable[[nn.Module, Batch], Tensor]:
    """Cross-entropy, reduced as said."""

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        inputs, labels = batch
        return functional.cross_entropy(model(inputs), labels, reduction=reduction)

    return loss


def _digits_under(loss: Callable[[nn.Module, Batch], Tensor], lr: float) -> Experiment:
    model = mlp([64, 64, 64, 10], nn.ReLU)
    init(model, he)
    return classifier(model, sgd(lr), steps=150, loss=loss)


def loss_summed(cured: bool) -> Experiment:
    """A sum over the batch under a learning rate that suits the mean; cured: the mean."""
    return _digits_under(summed("mean" if cured else "sum"), 0.1)


def ok_loss_summed(cured: bool) -> Experiment:
    """A sum over the batch, and a learning rate that is as many times smaller."""
    return _digits_under(summed("sum"), 0.1 / 64)


CASES = (
    own(
        "inputs_scaled_away",
        "small weights or slopes",
        "inputs of 1e-5: the biases alone decide, and all samples look alike",
        inputs_scaled_away,
        ("forward-collapse",),
        cure="inputs of unit variance",
        layers=("linear0",),
        bad=0.3,
        good=0.9,
    ),
    own(
        "loss_summed",
        "not a gradient-depth problem",
        "the loss sums over the batch: its steps are 64 times those of the mean",
        loss_summed,
        ("loss-head", "update-size"),
        cure='reduction="mean"',
        factors=("loss",),
        bad=0.3,
        good=0.9,
    ),
    own_healthy(
        "ok_faint_inputs_normalised",
        "inputs of 1e-5, which a norm puts right",
        0.9,
        ok_faint_inputs_normalised,
    ),
    own_healthy("ok_loss_summed", "a sum, with a learning rate to match", 0.9, ok_loss_summed),
)
