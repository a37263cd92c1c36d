"""Faults, and look-alikes, of the loss, the optimiser and the loop."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam

from unvanish.testing.corpus import own, own_healthy
from unvanish.testing.corpus.classify import adam, classifier, cross_entropy, sgd
from unvanish.testing.data import (
    accuracy,
    diabetes,
    digits,
    minibatches,
    standard,
    tumours,
    wines,
)
from unvanish.testing.experiment import Batch, Experiment
from unvanish.testing.nets import he, init, mlp


def _digit_mlp(hidden: int = 2) -> nn.Sequential:
    model = mlp([64] * (hidden + 1) + [10], nn.ReLU)
    init(model, he)
    return model


def learning_rate_1e_6(cured: bool) -> Experiment:
    """SGD at 1e-6 on a good net; cured: 0.1."""
    return classifier(_digit_mlp(), sgd(0.1 if cured else 1e-6), steps=200)


def broadcast_mse(cured: bool) -> Experiment:
    """Predictions of shape (n, 1) against targets of shape (n,): an (n, n) table of errors."""
    inputs, target = diabetes()
    target = standard(target)
    model = mlp([10, 32, 32, 1], nn.ReLU)
    init(model, he)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        x, y = batch
        predicted = model(x).squeeze(-1) if cured else model(x)
        return (predicted - y).pow(2).mean()

    return Experiment(
        model,
        Adam(model.parameters(), 3e-3),
        minibatches(inputs, target),
        loss,
        200,
        lambda: 1 - float((model(inputs).squeeze(-1) - target).pow(2).mean()),  # share explained
    )


def nll_without_log_softmax(cured: bool) -> Experiment:
    """The likelihood's loss on plain logits: it falls for ever; cured: log-softmax before it."""
    model = _digit_mlp()
    experiment = classifier(model, adam(1e-3), steps=200)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        logits = model(batch[0])
        return functional.nll_loss(logits.log_softmax(-1) if cured else logits, batch[1])

    experiment.loss = loss
    return experiment


def sigmoid_before_bce_with_logits(cured: bool) -> Experiment:
    """A sigmoid before the loss that holds another: it cannot come below 0.31; cured: logits."""
    inputs, labels = tumours()
    inputs, labels = standard(inputs), labels[:, None]
    model = mlp([30, 32, 32, 1], nn.ReLU, last=None if cured else nn.Sigmoid())
    init(model, he)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return functional.binary_cross_entropy_with_logits(model(batch[0]), batch[1])

    return Experiment(model, Adam(model.parameters(), 3e-3), minibatches(inputs, labels), loss, 200)


class _Cut(nn.Module):
    """Two halves with a detach between them."""

    def __init__(self, *, detach: bool) -> None:
        super().__init__()
        self.front = mlp([64, 64, 64, 32], nn.ReLU)
        self.back = mlp([32, 32, 10], nn.ReLU)
        self.detach = detach

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.front(x))
        return self.back(hidden.detach() if self.detach else hidden)


def detach_between_halves(cured: bool) -> Experiment:
    """The first half's output is detached; cured: it is not."""
    return classifier(_Cut(detach=not cured), adam(3e-3), steps=120)


def body_replaced_after_optimizer(cured: bool) -> Experiment:
    """The optimiser was made before the body was replaced: it steps the old one."""
    model = _Cut(detach=False)
    experiment = classifier(model, adam(3e-3), steps=120)
    model.front = mlp([64, 64, 64, 32], nn.ReLU)
    if cured:
        experiment.optimizer = Adam(model.parameters(), 3e-3)
    return experiment


class _Straight(torch.autograd.Function):
    """Rounds forward; its backward is to pass the gradient on."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, right: bool) -> Tensor:
        ctx.right = right
        return (x * 8).round() / 8

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        grad = grads[0]
        return (grad if ctx.right else torch.ones_like(grad) / grad.numel()), None


class _Rounded(nn.Module):
    """An MLP with a layer that rounds in its middle."""

    def __init__(self, *, right: bool) -> None:
        super().__init__()
        self.front = mlp([64, 64, 32], nn.ReLU)
        self.back = mlp([32, 32, 10], nn.ReLU)
        self.right = right

    def forward(self, x: Tensor) -> Tensor:
        hidden: Any = _Straight.apply(torch.tanh(self.front(x)), self.right)
        return self.back(hidden)


def backward_drops_grad_output(cured: bool) -> Experiment:
    """A custom backward that forgets what came in; cured: it passes it on."""
    return classifier(_Rounded(right=cured), sgd(0.2, 0.9), steps=200)


def ok_straight_through(cured: bool) -> Experiment:
    """A rounding layer with a straight-through backward: not the derivative, yet it trains."""
    return classifier(_Rounded(right=True), adam(3e-3), steps=200)


def ok_gradient_accumulation(cured: bool) -> Experiment:
    """Four backward passes for one step."""
    experiment = classifier(_digit_mlp(), adam(3e-3), steps=100, size=16)

    def advance(experiment: Experiment, number: int) -> Tensor:
        total = torch.zeros(())
        for part in range(4):
            loss = experiment.loss(experiment.model, experiment.batch(4 * number + part)) / 4
            loss.backward()
            total += loss.detach()
        experiment.optimizer.step()
        experiment.optimizer.zero_grad()
        return total

    experiment.advance = advance
    return experiment


def ok_loss_times_10000(cured: bool) -> Experiment:
    """The loss times 10,000 under Adam, which does not care."""

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return cross_entropy(model, batch) * 1e4

    return classifier(_digit_mlp(3), adam(1e-3), steps=200, loss=loss)


def ok_scaler_overflows_first(cured: bool) -> Experiment:
    """A gradient scaler that starts far too high, and skips steps until it has found its scale."""
    model = _digit_mlp()
    experiment = classifier(model, adam(3e-3), steps=200)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)

    def advance(experiment: Experiment, number: int) -> Tensor:
        inputs, labels = experiment.batch(number)
        with torch.autocast("cpu", torch.float16):
            loss = functional.cross_entropy(experiment.model(inputs), labels)
        experiment.optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(experiment.optimizer)
        scaler.update()
        return loss

    experiment.advance = advance
    return experiment


def ok_converged(cured: bool) -> Experiment:
    """178 wines learnt by heart long before the end: gradients of 1e-6 and less."""
    columns, labels = wines()
    inputs = standard(columns)
    model = mlp([13, 64, 64, 3], nn.ReLU)
    init(model, he)
    return classifier(model, adam(1e-2), steps=500, data=(inputs, labels))


def ok_large_targets(cured: bool) -> Experiment:
    """Targets of 25 to 346 as they are: a loss of 29,000 at first."""
    inputs, target = diabetes()
    model = mlp([10, 64, 64, 1], nn.ReLU)
    init(model, he)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return functional.mse_loss(model(batch[0]).squeeze(-1), batch[1])

    return Experiment(
        model,
        Adam(model.parameters(), 1e-2),
        minibatches(inputs, target),
        loss,
        300,
        lambda: 1 - float((model(inputs).squeeze(-1) - target).pow(2).mean() / target.var()),
    )


class _Words(nn.Module):
    """Each digit as 64 words of a vocabulary of 1,100, of which most are rare."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(64 * 17 + 12, 32, sparse=True, mode="sum")
        self.head = mlp([32, 32, 10], nn.ReLU)
        nn.init.normal_(self.words.weight, std=0.1)

    def forward(self, words: Tensor) -> Tensor:
        return self.head(torch.relu(self.words(words)))


def ok_rare_words(cured: bool) -> Experiment:
    """Sparse gradients of an embedding most of whose rows no batch asks for."""
    images, labels = digits()
    levels = ((images - images.min()) / (images.max() - images.min()) * 16).round().long()
    words = levels + 17 * torch.arange(64)
    model = _Words()
    return classifier(model, sgd(0.5), steps=300, data=(words, labels))


class _Tasks(nn.Module):
    """A body with two heads, for two tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp([64, 64, 64], nn.ReLU, last=nn.ReLU())
        self.digit = nn.Linear(64, 10)
        self.parity = nn.Linear(64, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.digit(self.body(x))


def ok_tasks_take_turns(cured: bool) -> Experiment:
    """Two heads, of which each step uses one."""
    inputs, labels = digits()
    model = _Tasks()
    experiment = classifier(model, adam(3e-3), steps=200)
    draw = minibatches(inputs, labels)
    experiment.batch = lambda number: (*draw(number), number % 2)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        x, y, parity = batch
        hidden = model.get_submodule("body")(x)
        if parity:
            return functional.cross_entropy(model.get_submodule("parity")(hidden), y % 2)
        return functional.cross_entropy(model.get_submodule("digit")(hidden), y)

    experiment.loss = loss
    return experiment


def ok_lbfgs(cured: bool) -> Experiment:
    """L-BFGS, which takes several backward passes for a step."""
    columns, labels = wines()
    inputs = standard(columns)
    model = mlp([13, 16, 3], nn.Tanh)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=5)
    experiment = classifier(model, sgd(0.1), steps=15, data=(inputs, labels))
    experiment.optimizer = optimizer

    def advance(experiment: Experiment, number: int) -> Tensor:
        def closure() -> float:
            optimizer.zero_grad()
            loss = functional.cross_entropy(experiment.model(inputs), labels)
            loss.backward()
            return float(loss.detach())

        return torch.as_tensor(optimizer.step(closure))

    experiment.advance = advance
    return experiment


def ok_nothing_to_learn(cured: bool) -> Experiment:
    """Targets that are noise: the gradient is healthy, and the loss stays."""
    inputs, _labels = digits()
    target = torch.randint(10, (len(inputs),))
    model = _digit_mlp()
    experiment = classifier(model, sgd(0.02), steps=150, data=(inputs, target))
    fresh = torch.randint(10, (len(inputs),))
    experiment.score = accuracy(model, inputs, fresh)
    return experiment


CASES = (
    own(
        "learning_rate_1e_6",
        "not a gradient-depth problem",
        "steps of a millionth: the weights do not move",
        learning_rate_1e_6,
        ("update-size",),
        cure="a learning rate of 0.1",
        bad=0.3,
        good=0.9,
    ),
    own(
        "broadcast_mse",
        "not a gradient-depth problem",
        "(n, 1) against (n,): each prediction is compared with every target",
        broadcast_mse,
        ("loss-head",),
        cure="squeeze the predictions",
        factors=("loss",),
        bad=0.15,
        good=0.4,
    ),
    own(
        "nll_without_log_softmax",
        "not a gradient-depth problem",
        "nll_loss on logits has no lower bound",
        nll_without_log_softmax,
        ("loss-head",),
        cure="log_softmax, or cross_entropy",
        factors=("loss",),
        bad=0.3,
        good=0.9,
    ),
    own(
        "sigmoid_before_bce_with_logits",
        "not a gradient-depth problem",
        "the sigmoid twice: the loss cannot come below 0.31",
        sigmoid_before_bce_with_logits,
        ("loss-head",),
        cure="pass logits",
        factors=("loss",),
        layers=("last",),
        bad=-0.4,
        good=-0.2,
    ),
    own(
        "detach_between_halves",
        "not a gradient-depth problem",
        "detach: the first half gets no gradient",
        detach_between_halves,
        ("cut-graph",),
        cure="no detach",
        layers=("front*",),
        bad=0.85,
        good=0.93,
    ),
    own(
        "body_replaced_after_optimizer",
        "not a gradient-depth problem",
        "the optimiser steps weights that the model no longer has",
        body_replaced_after_optimizer,
        ("cut-graph",),
        cure="make the optimiser last",
        layers=("front*",),
        bad=0.85,
        good=0.93,
    ),
    own(
        "backward_drops_grad_output",
        "not a gradient-depth problem",
        "a custom backward that returns ones: the front moves, whatever the loss says",
        backward_drops_grad_output,
        ("update-size", "cut-graph"),
        cure="multiply by grad_output",
        bad=0.3,
        good=0.85,
    ),
    own_healthy("ok_straight_through", "a straight-through backward", 0.9, ok_straight_through),
    own_healthy(
        "ok_gradient_accumulation", "four passes a step, on purpose", 0.93, ok_gradient_accumulation
    ),
    own_healthy("ok_loss_times_10000", "large gradients, under Adam", 0.95, ok_loss_times_10000),
    own_healthy(
        "ok_scaler_overflows_first",
        "infinite gradients while a scaler finds its scale",
        0.93,
        ok_scaler_overflows_first,
    ),
    own_healthy("ok_converged", "tiny gradients, because all is learnt", 0.99, ok_converged),
    own_healthy("ok_large_targets", "large gradients of large targets", 0.4, ok_large_targets),
    own_healthy("ok_rare_words", "embedding rows without a gradient", 0.9, ok_rare_words),
    own_healthy(
        "ok_tasks_take_turns",
        "each step leaves one head without a gradient",
        0.9,
        ok_tasks_take_turns,
    ),
    own_healthy("ok_lbfgs", "several passes a step, by L-BFGS", 0.95, ok_lbfgs),
    own_healthy(
        "ok_nothing_to_learn", "stuck, because targets are noise", 0.0, ok_nothing_to_learn
    ),
)
