"""Optimisers: which exist, what is known of them, and how much one step moved each parameter."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from unvanish.measure import ParameterUpdate
from unvanish.measure.reduce import Reducer
from unvanish.records import OptimizerFacts

# Parts of class names of optimisers whose update does not depend on the gradient's scale.
_RESCALING_NAMES = (
    "adam", "adan", "adag", "adadelta", "adafactor", "rms", "rprop", "lamb", "lion", "muon",
    "shampoo", "soap", "sophia", "novograd", "lars",
)  # fmt: skip
# State that only such optimisers keep: a running second moment or norm.
_RESCALING_STATE = frozenset({"exp_avg_sq", "square_avg", "exp_inf", "acc_delta", "exp_avg_sq_row"})


def existing_optimizers() -> list[Optimizer]:
    """Return all optimisers alive in this process.

    Looks at types only: asking some lazy objects for their class would run their code.
    """
    return [item for item in gc.get_objects() if issubclass(type(item), Optimizer)]


def parameters_of(optimizer: Optimizer) -> Iterator[tuple[int, float, Tensor]]:
    """Yield (group number, learning rate, parameter); nan where a group has no learning rate."""
    groups = getattr(optimizer, "param_groups", None) or []  # wrappers may not have them yet
    for number, group in enumerate(groups):
        lr = _number(group.get("lr"))
        for parameter in group["params"]:
            yield number, math.nan if lr is None else lr, parameter


def ids_of(optimizer: Optimizer) -> frozenset[int]:
    """Return the ids of the parameters that `optimizer` holds."""
    return frozenset(id(parameter) for _, _, parameter in parameters_of(optimizer))


def has_gradients(optimizer: Optimizer) -> bool:
    """Whether any parameter that `optimizer` holds has a gradient."""
    return any(parameter.grad is not None for _, _, parameter in parameters_of(optimizer))


def facts_of(optimizer: Optimizer) -> OptimizerFacts:
    """Describe `optimizer` as it is now."""
    groups = optimizer.param_groups
    first = groups[0] if groups else {}
    rates = [_number(group.get("lr")) for group in groups]
    return OptimizerFacts(
        name=type(optimizer).__name__,
        lr=tuple(math.nan if rate is None else rate for rate in rates),
        rescales=_rescales(optimizer),
        eps=_number(first.get("eps")),
        weight_decay=_number(first.get("weight_decay")),
        momentum=_number(first.get("momentum")),
    )


def _rescales(optimizer: Optimizer) -> bool:
    names = [base.__name__.lower() for base in type(optimizer).__mro__]
    if any(part in name for name in names for part in _RESCALING_NAMES):
        return True
    first: object = next(iter(optimizer.state.values()), None)
    return isinstance(first, dict) and not _RESCALING_STATE.isdisjoint(first)


def _number(value: object) -> float | None:
    if isinstance(value, Tensor) and value.numel() != 1:
        return None
    return float(value) if isinstance(value, int | float | Tensor) else None


@dataclass(frozen=True, slots=True)
class StepEffect:
    """What one step did. `nonfinite` are parameters that were finite before it and are not now."""

    updates: dict[int, ParameterUpdate]  # by id of the parameter
    nonfinite: frozenset[int]


class Snapshot:
    """The parameters of an optimiser before its step, to be compared with those after it."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._reducer = Reducer()
        with torch.no_grad():
            self._before = [
                (group, lr, parameter, local(parameter).clone())
                for group, lr, parameter in parameters_of(optimizer)
                if parameter.requires_grad and parameter.device.type != "meta"
            ]
            self._taken = {
                id(parameter): self._reducer.norm(parameter.grad)
                for _group, _lr, parameter, _before in self._before
                if parameter.grad is not None
            }
        # A fused optimiser unscales by itself, and sees gradients that carry the scale.
        scale = getattr(optimizer, "grad_scale", None)
        self._scale = None if scale is None else self._reducer.scalar(scale.detach().log10())

    def compare(self) -> StepEffect:
        """Return the true update ratios ||dw|| / ||w||, w before the step, in one transfer."""
        reducer = self._reducer
        slots: list[tuple[int, int]] = []
        products: dict[int, int] = {}
        with torch.no_grad():
            for _group, _lr, parameter, before in self._before:
                size = reducer.norm(before)
                # In place: the copy is ours.
                back = before.sub_(local(parameter))
                slots.append((size, reducer.norm(back)))
                if id(parameter) in self._taken and parameter.grad is not None:
                    gradient = local(parameter.grad)
                    if gradient.layout == torch.strided and not gradient.is_complex():
                        product = torch.sum(back.float() * gradient.float())
                        products[id(parameter)] = reducer.scalar(product)
        values = reducer.resolve()
        scale = 0.0 if self._scale is None else values[self._scale]
        updates: dict[int, ParameterUpdate] = {}
        nonfinite: set[int] = set()
        for (group, lr, parameter, _), (size, change) in zip(self._before, slots, strict=True):
            ratio = _log_ratio(values[change], values[size])
            taken = self._taken.get(id(parameter))
            dot = products.get(id(parameter))
            updates[id(parameter)] = ParameterUpdate(
                update_ratio_log10=ratio,
                lr=lr,
                group=group,
                predicted_change=None if dot is None else -values[dot] / 10.0**scale,
                taken_log10=None if taken is None else values[taken] - scale,
                erased=taken is None,
            )
            if not_finite(values[change]) and not not_finite(values[size]):
                nonfinite.add(id(parameter))
        self._before.clear()
        return StepEffect(updates, frozenset(nonfinite))


def not_finite(norm_log10: float) -> bool:
    """Whether a norm, given by its log10, had an infinite or NaN entry."""
    return math.isnan(norm_log10) or norm_log10 == math.inf


def _log_ratio(part: float, whole: float) -> float:
    if part == -math.inf:
        return -math.inf
    return math.inf if whole == -math.inf else part - whole


def local(tensor: Tensor) -> Tensor:
    """Return this rank's own part of `tensor`: reading the whole would be a collective."""
    data = tensor.detach()
    shard = getattr(data, "to_local", None)
    return shard() if shard is not None else data
