"""Vanishing by small weights or small slopes, times depth (or time)."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from unvanish.testing.corpus.classify import adam, classifier, sgd
from unvanish.testing.data import accuracy, digits, minibatches
from unvanish.testing.experiment import Batch, Case, Experiment
from unvanish.testing.nets import TokenEncoder, he, init, lecun, mlp


def sigmoid_mlp_nielsen_4x30(cured: bool) -> Experiment:
    """Four sigmoid layers of 30 and a sigmoid output under cross-entropy, SGD 0.1."""
    if cured:
        model = mlp([64, 30, 30, 30, 30, 10], nn.ReLU)
        init(model, he)
        return classifier(model, sgd(0.1), steps=300)
    model = mlp([64, 30, 30, 30, 30, 10], nn.Sigmoid, last=nn.Sigmoid())
    init(model, lecun, nn.init.normal_)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        inputs, labels = batch
        target = functional.one_hot(labels, 10).float()
        return functional.binary_cross_entropy(model(inputs), target) * 10  # a sum over outputs

    return classifier(model, sgd(0.1), steps=300, loss=loss)


def sigmoid_mlp_20_layers(cured: bool) -> Experiment:
    """20 sigmoid layers of 100, default weights; cured: ReLU, He."""
    model = mlp([64] + [100] * 20 + [10], nn.ReLU if cured else nn.Sigmoid)
    if cured:
        init(model, he)
    return classifier(model, sgd(0.02), steps=200)


def vgg19_gauss001_init(cured: bool) -> Experiment:
    """16 convolutions with N(0, 0.01) weights; cured: He, batch norm."""
    layers: list[tuple[str, nn.Module]] = []
    channels = 1
    for i in range(16):
        layers.append((f"conv{i}", nn.Conv2d(channels, 16, 3, padding=1)))
        if cured:
            layers.append((f"norm{i}", nn.BatchNorm2d(16)))
        layers.append((f"act{i}", nn.ReLU()))
        if i in (3, 7):
            layers.append((f"pool{i}", nn.MaxPool2d(2)))
        channels = 16
    layers += [("flat", nn.Flatten()), ("head", nn.Linear(64, 10))]
    model = nn.Sequential(OrderedDict(layers))
    init(model, he if cured else lambda weight: nn.init.normal_(weight, std=0.01))
    inputs, labels = digits()
    return classifier(
        model, sgd(0.05, 0.9), steps=100, size=32, data=(inputs.view(-1, 1, 8, 8), labels)
    )


def relu_mlp_30_default_init(cured: bool) -> Experiment:
    """30 ReLU layers with PyTorch's default weights; cured: He."""
    model = mlp([64] * 31 + [10], nn.ReLU)
    if cured:
        init(model, he)
    return classifier(model, sgd(0.01, 0.9), steps=200)


def post_ln_transformer_18(cured: bool) -> Experiment:
    """18 encoder layers, norm behind the sum, Adam 3e-3 without warm-up; cured: norm first."""
    return classifier(TokenEncoder(18, norm_first=cured), adam(3e-3), steps=200, size=32)


class LastState(nn.Module):
    """A recurrent cell whose last state is read out."""

    def __init__(self, rnn: nn.RNNBase, classes: int) -> None:
        super().__init__()
        self.rnn = rnn
        self.head = nn.Linear(rnn.hidden_size, classes)

    def forward(self, x: Tensor) -> Tensor:
        outputs, _state = self.rnn(x)
        answer: Tensor = self.head(outputs[:, -1])
        return answer


def rnn_tanh_first_token_T100(cured: bool) -> Experiment:  # noqa: N802  # the case's public name
    """nn.RNN asked for the sign of the first of 100 inputs; cured: orthogonal weights."""
    rnn = nn.RNN(1, 32, batch_first=True)
    if cured:
        nn.init.orthogonal_(rnn.get_parameter("weight_hh_l0"))
        nn.init.zeros_(rnn.get_parameter("bias_hh_l0"))
        nn.init.zeros_(rnn.get_parameter("bias_ih_l0"))
    model = LastState(rnn, 2)
    inputs = torch.randn(1024, 100, 1)
    labels = (inputs[:, 0, 0] > 0).long()
    return Experiment(
        model,
        adam(2e-3)(model.parameters()),
        minibatches(inputs, labels, size=64),
        lambda model, batch: functional.cross_entropy(model(batch[0]), batch[1]),
        300 if cured else 150,
        accuracy(model, inputs, labels),
    )


def deep_relu_34_keras_default(cured: bool) -> Experiment:
    """34 ReLU layers with Glorot weights under Adam; cured: SELU with its own weights."""
    model = mlp([64] + [128] * 34 + [10], nn.SELU if cured else nn.ReLU)
    init(model, lecun if cured else nn.init.xavier_uniform_)
    return classifier(model, adam(5e-4 if cured else 1e-3), steps=150)


CASES = (
    Case(
        "sigmoid_mlp_nielsen_4x30",
        "small weights or slopes",
        "the sigmoid's slope is at most 1/4: four layers lose three decades",
        sigmoid_mlp_nielsen_4x30,
        ("vanishing",),
        cure="ReLU with He weights, and cross-entropy",
        factors=("slope",),
        layers=("act*", "linear*"),
        bad=0.5,
        good=0.85,
    ),
    Case(
        "sigmoid_mlp_20_layers",
        "small weights or slopes",
        "the sigmoid's slope, 20 times, and default weights",
        sigmoid_mlp_20_layers,
        ("vanishing",),
        cure="ReLU with He weights, or batch norm",
        factors=("slope",),
        layers=("act*", "linear*"),
        bad=0.2,
        good=0.9,
    ),
    Case(
        "vgg19_gauss001_init",
        "small weights or slopes",
        "16 convolutions with N(0, 0.01) weights",
        vgg19_gauss001_init,
        ("vanishing",),
        cure="He weights and batch norm",
        factors=("weight",),
        layers=("conv*",),
        bad=0.2,
        good=0.9,
    ),
    Case(
        "relu_mlp_30_default_init",
        "small weights or slopes",
        "default weights have 0.41 of what a ReLU needs, 30 times",
        relu_mlp_30_default_init,
        ("vanishing",),
        cure="kaiming_normal_ with nonlinearity='relu'",
        factors=("weight",),
        layers=("linear*",),
        bad=0.2,
        good=0.9,
    ),
    Case(
        "post_ln_transformer_18",
        "small weights or slopes",
        "norm behind the sum: fine at step 0, the front dies during training",
        post_ln_transformer_18,
        ("vanishing",),
        cure="norm_first=True, or warm-up",
        layers=("encoder*",),
        known_by=150,
        unknown_at=0,
        bad=0.3,
        good=0.8,
    ),
    Case(
        "rnn_tanh_first_token_T100",
        "small weights or slopes",
        "default recurrent weights have a spectral radius of about 0.6, 100 times",
        rnn_tanh_first_token_T100,
        ("vanishing",),
        cure="orthogonal recurrent weights, or a gated cell",
        factors=("recurrence",),
        layers=("rnn",),
        bad=0.65,
        good=0.95,
    ),
    Case(
        "deep_relu_34_keras_default",
        "small weights or slopes",
        "Glorot's weights have 0.71 of what a ReLU needs, 34 times",
        deep_relu_34_keras_default,
        ("vanishing",),
        cure="SELU with LeCun's weights",
        factors=("weight",),
        layers=("linear*",),
        bad=0.7,
        good=0.9,
    ),
)
