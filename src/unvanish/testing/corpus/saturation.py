"""Vanishing by saturation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from unvanish.testing.corpus.classify import classifier, sgd
from unvanish.testing.data import blobs, digits, minibatches, pixels
from unvanish.testing.experiment import Batch, Case, Experiment
from unvanish.testing.nets import init, mlp, unit_normal


def raw_pixels_into_sigmoid(cured: bool) -> Experiment:
    """Sigmoids on pixels of 0 to 255 with N(0, 1) weights; cured: scaled inputs, Xavier."""
    model = mlp([64, 32, 32, 10], nn.Sigmoid)
    init(model, nn.init.xavier_normal_ if cured else unit_normal)
    return classifier(model, sgd(0.3, 0.9), steps=200, data=digits() if cured else pixels())


def sigmoid_output_mse_wrong_side(cured: bool) -> Experiment:
    """A sigmoid output with its bias far off under squared error; cured: cross-entropy."""
    inputs, labels = blobs()
    model = mlp([2, 16, 1], nn.Tanh, last=None if cured else nn.Sigmoid())
    with torch.no_grad():
        model.get_parameter("head.bias").fill_(-10.0)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        x, y = batch
        if cured:
            return functional.binary_cross_entropy_with_logits(model(x), y)
        return functional.mse_loss(model(x), y)

    middle = 0.0 if cured else 0.5
    return Experiment(
        model,
        sgd(0.5)(model.parameters()),
        minibatches(inputs, labels, size=32),
        loss,
        200,
        lambda: float(((model(inputs) > middle) == (labels > 0.5)).float().mean()),
    )


CASES = (
    Case(
        "raw_pixels_into_sigmoid",
        "saturation",
        "unscaled inputs (0 to 255) with N(0, 1) weights put every first sigmoid at 0 or 1",
        raw_pixels_into_sigmoid,
        ("vanishing",),
        cure="scale the inputs to unit variance",
        factors=("slope",),
        layers=("act0", "linear0"),
        names="input_rms",
        bad=0.4,
        good=0.9,
    ),
    Case(
        "sigmoid_output_mse_wrong_side",
        "saturation",
        "the output sigmoid starts saturated on the wrong side; squared error multiplies by sigma'",
        sigmoid_output_mse_wrong_side,
        ("loss-head", "vanishing"),
        cure="cross-entropy (BCEWithLogits) instead of squared error",
        factors=("slope", "loss"),
        layers=("last", "head"),
        bad=0.6,
        good=0.95,
    ),
)
