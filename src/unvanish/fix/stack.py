"""Several trainings of one shape as one: their tensors stacked, a row for each.

The forward of all rows is one call under `torch.func.vmap` (the loss of each row depends on its own
row alone), the backward an ordinary one of the sum of the losses, and the steps are those of the
user's own optimiser class on the stacked tensors. That is exact, not only close, for optimisers
that treat every entry by itself; rows whose options or rates differ get an optimiser each.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.optim import Optimizer
from torch.utils import _pytree as pytree

from unvanish.fix.cure import LossFunction
from unvanish.fix.training import Training
from unvanish.i18n import _

# Optimisers of torch that treat every entry by itself, with what they keep for a tensor as a whole:
# counts and products that do not depend on its entries. Exactly these classes: one derived from
# them may do anything.
ELEMENTWISE: tuple[type[Optimizer], ...] = (
    torch.optim.SGD,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.Adamax,
    torch.optim.Adagrad,
    torch.optim.Adadelta,
    torch.optim.RMSprop,
)
_COUNTS = frozenset({"step", "mu_product"})


class Unfit(Exception):  # noqa: N818 - an answer, not a failure
    """These trainings cannot run as one ensemble; `str` is the reason."""


class Stack:
    """The state of `trainings`, in rows, from here until `write_back`."""

    def __init__(self, trainings: Sequence[Training]) -> None:
        """`trainings` are of one shape; those with the same options and rates are neighbours."""
        self._trainings = trainings
        models = [training.live.model for training in trainings]
        self.parameters, self._buffers = stack_module_state(models)
        # The first model lends its code; while it runs, its tensors are the stacked ones.
        self._whole = _Loss(models[0], trainings[0].live.loss_fn)
        self._ranks: list[_Rank] = []
        start = 0
        for _key, members in groupby(trainings, key=options):
            own = list(members)
            rows = slice(start, start := start + len(own))
            self._ranks.append(_Rank(own, rows, self.parameters))

    def backward(self, batches: Sequence[Any]) -> list[float]:
        """Compute the gradients of all rows, each on its own batch, and return their losses.

        Batches are of one structure, and their tensors of one shape; where all are the same object,
        they are not copied. Raises Unfit, and whatever the user's loss raises under vmap.
        """
        for parameter in self.parameters.values():
            parameter.grad = None
        leaves, places, spec = _stacked(batches)

        def one(parameters: Any, buffers: Any, tensors: Any) -> Tensor:
            batch = pytree.tree_unflatten(tensors, spec)
            named = {f"model.{name}": tensor for name, tensor in (parameters | buffers).items()}
            # No parameter is shared, so that there is nothing to tie.
            loss: Tensor = functional_call(self._whole, named, (batch,), tie_weights=False)
            return loss

        with warnings.catch_warnings():
            # That an op is not batched makes it slow, and what is slow is not used.
            warnings.simplefilter("ignore")
            rows: Any = vmap(one, in_dims=(0, 0, places), randomness="error")
            losses = rows(self.parameters, self._buffers, leaves)
        if losses.numel() != len(self._trainings):
            raise Unfit(_("the loss is not one number"))
        torch.autograd.backward(losses.sum())
        found: list[float] = losses.detach().reshape(-1).tolist()
        return found

    def step(self) -> None:
        """Step all rows, with the gradients that `backward` left."""
        for rank in self._ranks:
            rank.step()

    def write_back(self) -> None:
        """Give every training its row: parameters and the optimiser's state."""
        with torch.no_grad():
            for row, training in enumerate(self._trainings):
                for name, parameter in training.live.model.named_parameters():
                    parameter.copy_(self.parameters[name][row])
                    parameter.grad = None
            for rank in self._ranks:
                rank.write_back()


class _Loss(nn.Module):
    """The user's loss as a module, so that its model's tensors can be lent to it."""

    def __init__(self, model: nn.Module, loss_fn: LossFunction) -> None:
        super().__init__()
        self.model = model
        self._loss_fn = loss_fn

    def forward(self, batch: Any) -> Tensor:
        return self._loss_fn(self.model, batch)


@dataclass(slots=True)
class _Pair:
    """A parameter of each of some trainings, and the rows of the stack that stand for them."""

    name: str
    rows: Tensor
    own: list[Tensor]


class _Rank:
    """Neighbouring rows with the same options and rates, and their optimiser."""

    def __init__(
        self, trainings: Sequence[Training], which: slice, stacked: Mapping[str, Tensor]
    ) -> None:
        self._trainings = trainings
        self._which = which
        self._stacked = stacked
        self._pairs: list[_Pair] = []
        first = self._trainings[0].optimizer
        model = self._trainings[0].live.model
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        groups = []
        for position, group in enumerate(first.param_groups):
            pairs = []
            for place, parameter in enumerate(group["params"]):
                name = names[id(parameter)]
                own = [
                    training.optimizer.param_groups[position]["params"][place]
                    for training in self._trainings
                ]
                pairs.append(_Pair(name, stacked[name].detach()[which], own))
            kept = {k: v for k, v in group.items() if k not in ("params", "param_names")}
            groups.append({**kept, "params": [pair.rows for pair in pairs]})
            self._pairs += pairs
        kind: Any = type(first)
        self._optimizer: Optimizer = kind(groups)
        self._rates = [group["lr"] for group in self._optimizer.param_groups]
        for pair in self._pairs:
            self._take(pair)

    def step(self) -> None:
        """Step these rows."""
        factors = [training.rates.next() for training in self._trainings]  # all are equal
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate if factors[0] == 1.0 else rate * factors[0]
        for pair in self._pairs:
            gradient = self._stacked[pair.name].grad
            pair.rows.grad = None if gradient is None else gradient[self._which]
        self._optimizer.step()

    def _take(self, pair: _Pair) -> None:
        """Stack what the trainings' optimisers keep for one parameter."""
        states = [
            training.optimizer.state.get(own, {})
            for training, own in zip(self._trainings, pair.own, strict=True)
        ]
        taken: dict[str, Any] = {}
        for key, value in states[0].items():
            values = [state[key] for state in states]
            if not isinstance(value, Tensor):
                taken[key] = value
            elif key in _COUNTS:
                taken[key] = value.clone()
            else:
                taken[key] = torch.stack(values)
        if taken:
            self._optimizer.state[pair.rows] = taken

    def write_back(self) -> None:
        """Give the trainings' optimisers what theirs has become."""
        for pair in self._pairs:
            kept = self._optimizer.state.get(pair.rows)
            if not kept:
                continue
            for row, (training, own) in enumerate(zip(self._trainings, pair.own, strict=True)):
                training.optimizer.state[own] = {
                    key: _own(key, value, row) for key, value in kept.items()
                }


def options(training: Training) -> str:
    """Return what decides the size of a step, beside the gradients: an optimiser's options."""
    groups = [
        {key: value for key, value in group.items() if key not in ("params", "param_names")}
        for group in training.optimizer.param_groups
    ]
    settings = training.live.settings
    return repr((groups, settings.lr_factor, settings.warmup_steps))


def signature(batch: Any) -> tuple[Any, ...]:
    """Return what two batches must share to be stacked: structure, shapes, and all but tensors."""
    leaves, spec = pytree.tree_flatten(batch)
    return (
        spec,
        *(
            (leaf.shape, leaf.dtype, leaf.device)
            if type(leaf) is Tensor and leaf.layout is torch.strided and not leaf.requires_grad
            else _Same(leaf)
            for leaf in leaves
        ),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Same:
    """A part of a batch that is no tensor: it must be the same object, or an equal plain value."""

    value: Any

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Same):
            return False
        plain = isinstance(self.value, int | float | str | bytes | None)
        return self.value is other.value or (
            plain and type(self.value) is type(other.value) and bool(self.value == other.value)
        )

    def __hash__(self) -> int:
        return hash(type(self.value))


def _stacked(batches: Sequence[Any]) -> tuple[list[Any], list[int | None], Any]:
    """Return the leaves, stacked where the batches differ, the rows' dimension, the structure."""
    flat = [pytree.tree_flatten(batch) for batch in batches]
    leaves, spec = flat[0]
    if all(batch is batches[0] for batch in batches):
        return leaves, [None] * len(leaves), spec
    found, places = [], []
    for own in zip(*(each for each, _spec in flat), strict=True):
        together = isinstance(own[0], Tensor)
        found.append(torch.stack(own) if together else own[0])
        places.append(0 if together else None)
    return found, places, spec


def _own(key: str, value: Any, row: int) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value.clone() if key in _COUNTS else value[row].clone()
