"""Changing a live model in place: modules, parameters and their place in the optimiser."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

HOOKS = (
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_backward_pre_hooks",
    "_backward_hooks",
)


def replace_module(root: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put `new` wherever `old` stands below `root`, under the same names.

    Hooks, the training flag, the device and the type go over to `new`.
    """
    for name in HOOKS:
        setattr(new, name, getattr(old, name))
    place(new, like=old if any(True for _ in old.parameters()) else root)
    new.train(old.training)
    for parent in list(root.modules()):
        for name, child in list(parent.named_children()):
            if child is old:
                setattr(parent, name, new)


def wrap_module(root: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put `new`, which holds `old`, in its place; hooks stay outermost."""
    replace_module(root, old, new)
    for name in HOOKS:
        setattr(old, name, type(getattr(old, name))())


def place(new: nn.Module, like: nn.Module) -> None:
    """Move `new` to the device and the floating type of the first parameter of `like`."""
    reference = next(like.parameters(), None)
    if reference is not None:
        new.to(device=reference.device, dtype=reference.dtype)


def optimise(
    optimizer: Optimizer | None, new: Mapping[str, Tensor], beside: Iterable[Tensor]
) -> None:
    """Add parameters, by name, to the group of the first of `beside` that is optimised.

    Where none is, the first group takes them. The optimiser and its groups stay the same objects,
    so schedulers made before or after see no difference. Those it has already are passed over.
    """
    if optimizer is None:
        return
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    group = _group_of(optimizer, beside)
    for name, parameter in new.items():
        if id(parameter) in held:
            continue
        group["params"].append(parameter)
        if "param_names" in group:
            group["param_names"].append(name)


def forget(optimizer: Optimizer | None, gone: Iterable[Tensor]) -> None:
    """Take parameters out of the optimiser's groups, with their state."""
    if optimizer is None:
        return
    ids = {id(parameter) for parameter in gone}
    for group in optimizer.param_groups:
        kept = [i for i, p in enumerate(group["params"]) if id(p) not in ids]
        if "param_names" in group:
            group["param_names"][:] = [group["param_names"][i] for i in kept]
        group["params"][:] = [group["params"][i] for i in kept]
    for parameter in [p for p in optimizer.state if id(p) in ids]:
        del optimizer.state[parameter]


def resize(parameter: Tensor, values: Tensor, optimizer: Optimizer | None) -> None:
    """Give a parameter values of another shape; it stays the same object, its state is dropped."""
    with torch.no_grad():
        parameter.grad = None
        parameter.data = values.to(device=parameter.device, dtype=parameter.dtype)
    if optimizer is not None:
        optimizer.state.pop(parameter, None)


def _group_of(optimizer: Optimizer, beside: Iterable[Tensor]) -> dict[str, Any]:
    for neighbour in beside:
        for group in optimizer.param_groups:
            if any(held is neighbour for held in group["params"]):
                return group
    first: dict[str, Any] = optimizer.param_groups[0]
    return first
