"""What a seed changes: the initial weights, drawn again from the law that they seem to follow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from unvanish.measure.preserve import RandomStates

_SAME_LAW = 1.25  # ratio of standard deviations up to which a reset drew from the same law


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators inside the block, and put their states back after it."""
    states = RandomStates.capture()
    try:
        torch.manual_seed(seed)
        yield
    finally:
        states.restore()


def redraw(model: nn.Module, seed: int) -> int:
    """Draw the trainable weights of `model` again, in place; return how many tensors changed.

    A module's own `reset_parameters` is used where it gives weights of the spread that they have.
    Where it does not (they were initialised otherwise), rows and columns are permuted and their
    signs drawn: that leaves the law of independent entries, and singular values, as they are.
    Frozen parameters stay.
    """
    changed = 0
    with seeded(seed), torch.no_grad():
        for module in model.modules():
            own = dict(module.named_parameters(recurse=False))
            kept = {name: parameter.detach().clone() for name, parameter in own.items()}
            reset = getattr(module, "reset_parameters", None) or getattr(
                module, "_reset_parameters", None
            )
            if callable(reset) and kept:
                reset()
            for name, before in kept.items():
                parameter = own[name]
                if not parameter.requires_grad:
                    parameter.copy_(before)
                    continue
                if not (callable(reset) and _same_law(before, parameter)):
                    parameter.copy_(_permuted(before))
                changed += not torch.equal(before, parameter)
    return changed


def _same_law(before: Tensor, after: Tensor) -> bool:
    if before.numel() < 2 or not before.is_floating_point():
        return torch.equal(before, after)
    one, other = float(before.float().std()), float(after.float().std())
    if min(one, other) == 0.0:
        return one == other and torch.equal(before, after)
    return max(one, other) / min(one, other) < _SAME_LAW


def _permuted(weight: Tensor) -> Tensor:
    """Return P W Q with random signed permutations P, Q of what leaves and enters the layer."""
    if weight.dim() < 2 or not weight.is_floating_point():
        return weight
    flat = weight.reshape(weight.shape[0], -1)
    for size, dim in ((flat.shape[0], 0), (flat.shape[1], 1)):
        signs = torch.randint(2, (size,), device=flat.device).to(flat.dtype) * 2 - 1
        flat = flat.index_select(dim, torch.randperm(size).to(flat.device))
        flat = flat * (signs.unsqueeze(1) if dim == 0 else signs)
    return flat.reshape(weight.shape)
