"""Dead rectifiers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from unvanish.records import Verdict
from unvanish.testing.corpus.classify import adam, classifier, sgd
from unvanish.testing.data import always, digits
from unvanish.testing.experiment import Batch, Case, Experiment
from unvanish.testing.nets import dead_units, init, mlp


def xor() -> tuple[Tensor, Tensor]:
    """The four points of XOR and their labels."""
    inputs = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    return inputs, torch.tensor([[0.0], [1.0], [1.0], [0.0]])


def xor_2_2_1_dead_relu(cured: bool) -> Experiment:
    """XOR with two hidden ReLUs; cured: eight."""
    inputs, labels = xor()
    model = mlp([2, 8 if cured else 2, 1], nn.ReLU)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return functional.binary_cross_entropy_with_logits(model(batch[0]), batch[1])

    return Experiment(
        model,
        sgd(0.5)(model.parameters()),
        always(inputs, labels),
        loss,
        600,
        lambda: float(((model(inputs) > 0) == (labels > 0.5)).float().mean()),
    )


def _xor_verdicts(experiment: Experiment) -> tuple[Verdict, ...]:
    hidden = experiment.model.get_submodule("linear0")
    dead = dead_units([hidden(xor()[0])])[0]
    return ("dead-units",) if dead > 0 and experiment.result() < 1 else ("healthy",)


def high_lr_dead_hidden(cured: bool) -> Experiment:
    """Adam at 0.3 drives the last hidden ReLUs negative; cured: 3e-3."""
    model = mlp([64, 128, 64, 10], nn.ReLU)
    return classifier(model, adam(3e-3 if cured else 0.3), steps=200)


def _last_hidden_is_dead(experiment: Experiment) -> tuple[Verdict, ...]:
    hidden = digits()[0]
    for name in ("linear0", "act0", "linear1"):
        hidden = experiment.model.get_submodule(name)(hidden)
    return ("dead-units",) if dead_units([hidden])[0] > 0.9 else ("dead-units", "update-size")


class Branches(nn.Module):
    """Three branches, joined, and two more layers, all ReLU."""

    def __init__(self, last: nn.Module, activation: type[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Linear(10, 3), activation()) for _ in range(3)
        )
        self.join = nn.Sequential(nn.Linear(9, 3), activation())
        self.out = nn.Sequential(nn.Linear(3, 3), last)

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat([branch(x) for branch in self.branches], dim=1)
        answer: Tensor = self.out(self.join(joined))
        return answer


def multi_branch_zero_input_relu(cured: bool) -> Experiment:
    """Zero inputs and biases before ReLUs; cured: inputs that are not 0, a leaky and linear net."""
    model = Branches(nn.Identity(), nn.LeakyReLU) if cured else Branches(nn.ReLU(), nn.ReLU)
    init(model, None)
    inputs = torch.randn(8, 10) if cured else torch.zeros(8, 10)
    target = torch.full((8, 3), 1 / 3)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return functional.mse_loss(model(batch[0]), batch[1])

    return Experiment(model, sgd(0.1)(model.parameters()), always(inputs, target), loss, 150)


CASES = (
    Case(
        "xor_2_2_1_dead_relu",
        "dead relu",
        "one of two hidden ReLUs is off for all four inputs, on some seeds",
        xor_2_2_1_dead_relu,
        ("dead-units", "healthy"),
        cure="more hidden units",
        layers=("act0", ""),
        bad=0.75,
        good=1.0,
        depends=_xor_verdicts,
    ),
    Case(
        "high_lr_dead_hidden",
        "dead relu",
        "too large a step drives every unit of the last hidden layer negative",
        high_lr_dead_hidden,
        ("dead-units",),
        cure="a smaller learning rate",
        layers=("act*",),
        bad=0.3,
        good=0.9,
        depends=_last_hidden_is_dead,
    ),
    Case(
        "multi_branch_zero_input_relu",
        "dead relu",
        "inputs and biases are 0, so every pre-activation is 0 and no ReLU passes anything",
        multi_branch_zero_input_relu,
        ("dead-units", "forward-collapse"),
        cure="inputs that are not 0, leaky ReLU, a linear output",
        layers=("branches*", "join*", "out*"),
        bad=-0.1,
        good=-0.01,
    ),
)
