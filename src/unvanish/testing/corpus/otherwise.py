"""Not a problem of gradients and depth, but people take them for one."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from unvanish.testing.corpus.classify import adam, classifier, sgd
from unvanish.testing.data import accuracy, always, digits, minibatches
from unvanish.testing.experiment import Batch, Case, Experiment
from unvanish.testing.nets import he, init, mlp, unit_normal


def pinn_relu_second_derivative(cured: bool) -> Experiment:
    """u'' = -pi^2 sin(pi x) by a net of ReLUs, whose second derivative is 0; cured: tanh."""
    model = mlp([1, 32, 32, 32, 1], nn.Tanh if cured else nn.ReLU)
    init(model, nn.init.xavier_normal_ if cured else he)
    points = torch.linspace(-1, 1, 64)[:, None]
    ends = torch.tensor([[-1.0], [1.0]])
    solution = torch.sin(math.pi * points)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        x = batch[0].clone().requires_grad_()
        u = model(x)
        first = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
        second = torch.autograd.grad(first.sum(), x, create_graph=True, allow_unused=True)[0]
        if second is None:  # a net of straight pieces has no second derivative at all
            second = torch.zeros_like(x)
        residual = second / math.pi**2 + torch.sin(math.pi * x)
        return residual.pow(2).mean() + model(ends).pow(2).mean()

    return Experiment(
        model,
        adam(3e-3)(model.parameters()),
        always(points),
        loss,
        400,
        lambda: -float((model(points) - solution).pow(2).mean().sqrt()),
    )


def keras_no_activation_lr3(cured: bool) -> Experiment:
    """No activation, N(0, 1) weights, squared error, SGD at 3; cured: sigmoid, cross-entropy."""
    model = mlp([64, 30, 10], nn.Sigmoid if cured else None)
    init(model, unit_normal)
    if cured:
        return classifier(model, sgd(0.5), steps=300)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        target = functional.one_hot(batch[1], 10).float()
        return functional.mse_loss(model(batch[0]), target)

    return classifier(model, sgd(3.0), steps=40, loss=loss)


def softmax_before_ce(cured: bool) -> Experiment:
    """Softmax, then the cross-entropy that holds another; cured: logits."""
    model = mlp([64, 64, 64, 10], nn.ReLU, last=None if cured else nn.Softmax(dim=-1))
    init(model, he)
    experiment = classifier(model, adam(3e-3), steps=200)
    experiment.score = None  # the loss cannot come below 1.46
    return experiment


def missing_zero_grad(cured: bool) -> Experiment:
    """No zero_grad in the loop; cured: with it."""
    model = mlp([64, 64, 64, 10], nn.ReLU)
    init(model, he)
    experiment = classifier(model, sgd(0.1), steps=200)

    def advance(experiment: Experiment, number: int) -> Tensor:
        loss = experiment.loss(experiment.model, experiment.batch(number))
        loss.backward()
        experiment.optimizer.step()
        return loss

    if not cured:
        experiment.advance = advance
    return experiment


class Listed(nn.Module):
    """An MLP whose hidden layers stand in a list, so that the module does not know them."""

    def __init__(self, *, registered: bool) -> None:
        super().__init__()
        hidden = [nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 64)]
        self.hid = nn.ModuleList(hidden) if registered else hidden
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.hid:
            x = torch.relu(layer(x))
        answer: Tensor = self.head(x)
        return answer


def layers_in_python_list(cured: bool) -> Experiment:
    """Hidden layers in a Python list; cured: in a ModuleList."""
    return classifier(Listed(registered=cured), adam(3e-3), steps=150)


class Coded(nn.Module):
    """An encoder that chooses one of 16 codes, and a decoder."""

    def __init__(self, *, soft: bool) -> None:
        super().__init__()
        self.soft = soft
        self.encoder = mlp([64, 64, 16], nn.ReLU)
        self.decoder = mlp([16, 32, 10], nn.ReLU)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.encoder(x)
        if self.soft:
            code = functional.softmax(scores, dim=-1)
        else:
            code = functional.one_hot(scores.argmax(-1), 16).float()
        answer: Tensor = self.decoder(code)
        return answer


def argmax_between_modules(cured: bool) -> Experiment:
    """argmax between encoder and decoder; cured: softmax."""
    return classifier(Coded(soft=cured), adam(3e-3), steps=200)


def clip_before_unscale(cured: bool) -> Experiment:
    """Clipping gradients that still carry a loss scale of 65536; cured: unscale before."""
    model = mlp([64, 64, 64, 10], nn.ReLU)
    init(model, he)
    experiment = classifier(model, sgd(0.1), steps=200)
    scaler = torch.amp.GradScaler("cpu", init_scale=65536.0)

    def advance(experiment: Experiment, number: int) -> Tensor:
        optimizer = experiment.optimizer
        loss = experiment.loss(experiment.model, experiment.batch(number))
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        if cured:
            scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(experiment.model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        return loss

    experiment.advance = advance
    return experiment


def fp16_gradient_underflow(cured: bool) -> Experiment:
    """A loss averaged over so much that float16 gradients are 0; cured: float32."""
    inputs, _labels = digits()
    model = mlp([64, 32, 64], nn.ReLU)
    if not cured:
        model, inputs = model.half(), inputs.half()

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        difference = model(batch[0]).float() - batch[0].float()
        return difference.pow(2).mean() * (1.0 if cured else 1 / 65536)

    return Experiment(
        model,
        sgd(0.5)(model.parameters()),
        minibatches(inputs, size=64),
        loss,
        200,
        lambda: -float((model(inputs) - inputs).float().pow(2).mean()),
    )


def labels_shuffled(cured: bool) -> Experiment:
    """Labels that belong to other inputs; cured: their own."""
    inputs, labels = digits()
    if not cured:
        labels = labels[torch.randperm(len(labels))]
    model = mlp([64, 64, 64, 10], nn.ReLU)
    init(model, he)
    experiment = classifier(model, sgd(0.1), steps=200, data=(inputs, labels))
    experiment.score = accuracy(model, inputs, labels)
    return experiment


CASES = (
    Case(
        "pinn_relu_second_derivative",
        "not a gradient-depth problem",
        "the second derivative of a ReLU is 0: the residual sends no gradient at all",
        pinn_relu_second_derivative,
        ("vanishing", "cut-graph"),
        cure="a smooth activation (tanh, sine)",
        factors=("slope",),
        bad=-0.3,
        good=-0.1,
    ),
    Case(
        "keras_no_activation_lr3",
        "not a gradient-depth problem",
        "a learning rate of 3 on linear layers with N(0, 1) weights and squared error",
        keras_no_activation_lr3,
        ("update-size", "exploding", "non-finite"),
        cure="sigmoid, cross-entropy, a learning rate of 0.1",
        bad=0.2,
        good=0.85,
    ),
    Case(
        "softmax_before_ce",
        "not a gradient-depth problem",
        "softmax twice: the loss cannot come below 1.46",
        softmax_before_ce,
        ("loss-head",),
        cure="pass logits",
        factors=("loss",),
        layers=("last",),
        bad=-1.4,
        good=-0.4,
    ),
    Case(
        "missing_zero_grad",
        "not a gradient-depth problem",
        "gradients add up over the whole run; every single backward pass is right",
        missing_zero_grad,
        ("update-size",),
        cure="optimizer.zero_grad() each step",
        bad=0.9,
        good=0.95,
    ),
    Case(
        "layers_in_python_list",
        "not a gradient-depth problem",
        "hidden layers that are not registered are never updated",
        layers_in_python_list,
        ("cut-graph",),
        cure="nn.ModuleList",
        layers=("hid*",),
        bad=0.9,
        good=0.95,
    ),
    Case(
        "argmax_between_modules",
        "not a gradient-depth problem",
        "argmax cuts the graph: the encoder gets no gradient",
        argmax_between_modules,
        ("cut-graph",),
        cure="softmax, or a straight-through estimate",
        layers=("encoder*",),
        bad=0.45,
        good=0.5,
    ),
    Case(
        "clip_before_unscale",
        "not a gradient-depth problem",
        "clipping acts on gradients times 65536: after unscaling next to nothing is left",
        clip_before_unscale,
        ("update-size",),
        cure="scaler.unscale_(optimizer) before clipping",
        bad=0.3,
        good=0.9,
    ),
    Case(
        "fp16_gradient_underflow",
        "not a gradient-depth problem",
        "gradients below 6e-8 are 0 in float16",
        fp16_gradient_underflow,
        ("update-size", "vanishing"),
        cure="loss scaling, bfloat16 or float32",
        bad=-0.8,
        good=-0.5,
    ),
    Case(
        "labels_shuffled",
        "not a gradient-depth problem",
        "labels of other inputs: the gradient is healthy, there is nothing to learn",
        labels_shuffled,
        ("healthy",),
        cure="pair inputs with their labels",
        bad=0.4,
        good=0.95,
    ),
)
