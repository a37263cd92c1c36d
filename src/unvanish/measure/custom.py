"""Trying out a backward that somebody wrote: torch.autograd.Function, on a replay.

PyTorch's own backwards are right. A hand-written one may ignore the gradient that comes in, or
give something that is not the slope of its forward; the graph cannot tell. So each is called once
more by itself, with the inputs of the replay:

- with a gradient of zero: a backward is linear, and must give zero;
- against central differences of its forward, along random directions:
  <v, (f(x + h u) - f(x - h u)) / 2h> against <J^T v, u>.

Many are not the slope of their forward on purpose, and are not compared: a step function with a
straight-through estimator or a surrogate (its differences are 0), an identity that reverses or
scales gradients, and whatever gives another result when it is called again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

_CALLS_MOST = 8  # classes that are tried out in one replay
_DIRECTIONS = 8
_ENTRIES_MOST = 1 << 22  # larger inputs would cost too much memory in double precision
_SEED = 20_103
_DIFFERENCE = {torch.float64: 1e-6, torch.float32: 1e-2}  # step, as a share of the input's size
_ALIKE = 1e-6  # relative difference up to which two results are the same (float32 rounding)


@dataclass(slots=True, eq=False)
class FunctionCall:
    """One call of a custom function: its class, its arguments without their graph."""

    function: type[torch.autograd.Function]
    arguments: tuple[Any, ...]
    sequence: int  # of the node it made


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of trying one out."""

    sequence: int
    name: str
    ignores_gradient: bool
    error: float | None


@dataclass(slots=True, eq=False)
class FunctionLog:
    """The first call of each class of custom functions."""

    calls: dict[type, FunctionCall] = field(default_factory=dict)


@contextmanager
def recording_functions(log: FunctionLog) -> Iterator[None]:
    """Note the calls of custom functions made inside; only while a replay runs."""
    original = vars(torch.autograd.Function)["apply"]

    def apply(cls: Any, *arguments: Any, **keywords: Any) -> Any:
        result = original.__get__(None, cls)(*arguments, **keywords)
        made = next((item for item in _tensors(result) if item.grad_fn is not None), None)
        ours = made is not None and getattr(made.grad_fn, "_forward_cls", None) is cls
        if made is not None and ours and not keywords and len(log.calls) < _CALLS_MOST:
            plain = tuple(item.detach() if isinstance(item, Tensor) else item for item in arguments)
            sequence = made.grad_fn._sequence_nr() if made.grad_fn is not None else -1
            log.calls.setdefault(cls, FunctionCall(cls, plain, sequence))
        return result

    torch.autograd.Function.apply = classmethod(apply)  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        torch.autograd.Function.apply = original  # type: ignore[method-assign]


def try_out(calls: Sequence[FunctionCall]) -> list[Trial]:
    """Return what each call shows; one that cannot be called alone is left out."""
    found = []
    for call in calls:
        for dtype in (torch.float64, None):
            try:
                found.append(_trial(call, dtype))
                break
            except Exception:
                continue
    return found


def _trial(call: FunctionCall, dtype: torch.dtype | None) -> Trial:
    arguments = [
        item.to(dtype).clone() if dtype is not None and _real(item) else _copied(item)
        for item in call.arguments
    ]
    places = [i for i, item in enumerate(arguments) if _real(item)]
    if sum(arguments[i].numel() for i in places) > _ENTRIES_MOST:
        raise ValueError("too large")
    generator = torch.Generator().manual_seed(_SEED)
    output = _run(call, arguments, places)
    gradients = _pull(call, arguments, places, torch.zeros_like(output))
    # A scalar input may carry a loss of its own (an auxiliary loss that is smuggled in).
    ignores = any(
        gradient is not None and gradient.numel() > 1 and bool(torch.count_nonzero(gradient))
        for gradient in gradients
    )
    error = None if ignores else _error(call, arguments, places, output, generator)
    return Trial(call.sequence, call.function.__name__, ignores, error)


def _error(
    call: FunctionCall,
    arguments: list[Any],
    places: list[int],
    output: Tensor,
    generator: torch.Generator,
) -> float | None:
    """Return how far the given slopes are from those by differences, relative, over directions."""
    share = _DIFFERENCE.get(output.dtype)
    if share is None or not bool(output.isfinite().all()) or _by_design(arguments, places, output):
        return None
    if not _alike(output, _run(call, arguments, places)):
        return None  # it draws random numbers, or keeps a state
    given, measured = [], []
    for _number in range(_DIRECTIONS):
        cotangent = torch.randn(output.shape, generator=generator).to(output)
        gradients = _pull(call, arguments, places, cotangent)
        used = [i for i, gradient in zip(places, gradients, strict=True) if gradient is not None]
        directions = {
            i: torch.randn(arguments[i].shape, generator=generator).to(arguments[i]) for i in used
        }
        steps = {i: share * _size(arguments[i]) * direction for i, direction in directions.items()}
        change = _change(call, arguments, steps)
        if not bool(change.isfinite().all()) or _jumps(call, arguments, steps, change):
            return None
        slope = sum(
            float((gradient.double() * steps[i].double()).sum())
            for i, gradient in zip(places, gradients, strict=True)
            if gradient is not None
        )
        given.append(slope)
        measured.append(float((change * cotangent.double()).sum()))
    apart = math.dist(given, measured) / math.hypot(*measured) if any(measured) else math.nan
    return apart if math.isfinite(apart) else None


def _change(
    call: FunctionCall, arguments: Sequence[Any], steps: dict[int, Tensor], share: float = 1.0
) -> Tensor:
    """Return half of what the output changes by between both ends of `share` of the steps."""
    ends = [
        _run(call, [_moved(item, steps.get(i), sign) for i, item in enumerate(arguments)], [])
        for sign in (share, -share)
    ]
    return (ends[0].double() - ends[1].double()) / 2


def _jumps(
    call: FunctionCall, arguments: Sequence[Any], steps: dict[int, Tensor], change: Tensor
) -> bool:
    """Whether the forward is a step function: it does not change, or by as much for less.

    Of a smooth function an eighth of the step changes every entry by about an eighth; a step
    function jumps in fewer entries, but there as far (or nowhere).
    """
    far = float(change.abs().amax())
    near = float(_change(call, arguments, steps, share=1 / 8).abs().amax())
    return far == 0 or near == 0 or near > far / 2


def _by_design(arguments: Sequence[Any], places: Sequence[int], output: Tensor) -> bool:
    """Whether the forward hands an input on: its backward then differs on purpose."""
    return any(
        arguments[i].shape == output.shape and _alike(arguments[i].detach(), output) for i in places
    )


def _run(call: FunctionCall, arguments: Sequence[Any], places: Sequence[int]) -> Tensor:
    """Return the first output of a call; the arguments at `places` require a gradient."""
    for i in places:
        arguments[i].requires_grad_(True)
    with torch.set_grad_enabled(bool(places)):
        result = call.function.apply(*[_fresh(item) for item in arguments])
    return _tensors(result)[0]


def _pull(
    call: FunctionCall, arguments: Sequence[Any], places: Sequence[int], cotangent: Tensor
) -> list[Tensor | None]:
    output = _run(call, arguments, places)
    inputs = [arguments[i] for i in places]
    return list(torch.autograd.grad(output, inputs, cotangent, allow_unused=True))


def _fresh(item: Any) -> Any:
    """A view of a leaf, which an in-place function may write to without writing to the leaf."""
    return item.clone() if isinstance(item, Tensor) and item.requires_grad else item


def _moved(item: Any, step: Tensor | None, sign: float) -> Any:
    return item if step is None else item.detach() + sign * step


def _copied(item: Any) -> Any:
    return item.clone() if isinstance(item, Tensor) else item


def _real(item: Any) -> bool:
    return isinstance(item, Tensor) and item.is_floating_point() and item.numel() > 0


def _alike(one: Tensor, other: Tensor) -> bool:
    one, other = one.detach(), other.detach()
    scale = max(float(one.abs().amax()), 1e-30)
    return float((one - other).abs().amax()) <= _ALIKE * scale


def _size(tensor: Tensor) -> float:
    rms = float(tensor.detach().double().pow(2).mean().sqrt())
    return rms if rms > 0 else 1.0


def _tensors(result: Any) -> list[Tensor]:
    items = [result] if isinstance(result, Tensor) else result
    found = [item for item in items if isinstance(item, Tensor) and item.is_floating_point()]
    return found if isinstance(items, list | tuple) else []
