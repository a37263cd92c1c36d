"""What a user's function gives to be fixed: (model, batches, loss_fn, optimizer)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unvanish.errors import UsageError
from unvanish.fix.cure import LossFunction
from unvanish.fix.live import MakeOptimizer
from unvanish.fix.seeds import seeded
from unvanish.i18n import _


@dataclass(frozen=True, slots=True)
class Given:
    """The arguments of `unvanish.fix`."""

    model: nn.Module
    batches: Iterable[Any]
    loss_fn: LossFunction
    optimizer: MakeOptimizer
    model_fn: Callable[[], nn.Module] | None


def given(function: Callable[[], Any], name: str) -> Given:
    """Return what `function()` gives; it returns (model, batches, loss_fn, optimizer).

    `batches` is a list of batches, a DataLoader or a generator; a tuple, a dictionary or a tensor
    is one batch. `optimizer` is a function of the parameters or an optimiser, whose like is made
    for every copy. Where `function` builds another model under another seed, it is also what a
    seed of a trial changes. Raises UsageError, and whatever `function` raises.
    """
    made = function()
    if not isinstance(made, tuple) or len(made) != 4:
        kind = f"{len(made)} values" if isinstance(made, tuple) else type(made).__name__
        raise UsageError(
            _("{target} returned {kind}, not (model, batches, loss_fn, optimizer)").format(
                target=name, kind=kind
            ),
            _("Return a tuple of four; the optimiser is needed to train."),
        )
    model, batches, loss_fn, optimizer = made
    if not isinstance(model, nn.Module):
        raise UsageError(
            _("the model is of type {kind}, not a torch.nn.Module").format(
                kind=type(model).__name__
            ),
            _("Return (model, batches, loss_fn, optimizer)."),
        )
    if isinstance(batches, Tensor | tuple | Mapping):
        batches = [batches]
    if isinstance(optimizer, Optimizer):
        optimizer = like(optimizer, model)

    def again() -> nn.Module:
        built: nn.Module = function()[0]
        return built

    return Given(model, batches, loss_fn, optimizer, again if _varies(again) else None)


def like(optimizer: Optimizer, model: nn.Module) -> MakeOptimizer:
    """Return a function that makes an optimiser like `optimizer` for a copy of `model`.

    Parameters are told apart by their place in `model.parameters()`; state is not taken over.
    """
    kind = type(optimizer)
    known = inspect.signature(kind.__init__).parameters
    options = {key: value for key, value in optimizer.defaults.items() if key in known}
    place = {id(parameter): index for index, parameter in enumerate(model.parameters())}
    groups = [
        (
            [place[id(p)] for p in group["params"] if id(p) in place],
            {key: value for key, value in group.items() if key != "params" and key in known},
        )
        for group in optimizer.param_groups
    ]

    def make(parameters: Any) -> Optimizer:
        own = list(parameters)
        made = [
            {"params": [own[i] for i in places if i < len(own)], **settings}
            for places, settings in groups
        ]
        return kind([group for group in made if group["params"]], **options)

    return make


def _varies(build: Callable[[], nn.Module]) -> bool:
    """Whether another seed gives other weights: a function may set its own."""
    models = []
    for seed in (1, 2):
        with seeded(seed):
            models.append(build())
    one, other = ([p.detach() for p in model.parameters()] for model in models)
    return len(one) != len(other) or not all(map(torch.equal, one, other))
