"""The yardstick of trials in this process: the user's metric, or their loss in float32.

What precision a network trains in is part of the trial; what its runs are compared by is not. So
the loss is computed once more after the training, on held-out batches, with float32 weights and
inputs, with autocast off, and without the factor that a gradient scaler would put on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from unvanish.fix.cure import Live, LossFunction
from unvanish.fix.treat import entered
from unvanish.i18n import _

Metric = Callable[[nn.Module, Any], float]

_LOW = (torch.float16, torch.bfloat16)
_LOWERING = frozenset({Tensor.half, Tensor.bfloat16})


class Yardstick:
    """Scores trained networks, all in the same way; the lower the better."""

    def __init__(
        self, loss_fn: LossFunction, metric: Metric | None, batches: Sequence[Any], notes: list[str]
    ) -> None:
        """`batches` are those held out; what a reader must know is appended to `notes`."""
        self._loss_fn = loss_fn
        self._metric = metric
        self._batches = batches
        self._notes = notes
        self._in_float32: bool | None = None  # not known before the first score

    @property
    def name(self) -> str:
        """What it is, in words."""
        count = len(self._batches)
        if self._metric is not None:
            return _("your metric on {count} held-out batches").format(count=count)
        return _("the loss on {count} held-out batches").format(count=count)

    def score(self, live: Live) -> float:
        """Return the mean over the held-out batches; +inf where it is not finite.

        Raises what the loss or the metric raises.
        """
        live.model.eval()
        if self._metric is not None:
            return self._mean(live, self._metric)
        if self._in_float32 is None:
            try:
                score = self._plainly(live)
            except Exception as error:
                # Of a network with kernels for one type only, say. All runs are scored like this.
                score = self._mean(live, self._loss_fn)
                self._in_float32 = False
                self._notes.append(
                    _(
                        "the yardstick is in the network's own precision: in float32 its loss"
                        " fails ({error})"
                    ).format(error=f"{type(error).__name__}: {error}".splitlines()[0])
                )
                return score
            self._in_float32 = True
            return score
        return self._plainly(live) if self._in_float32 else self._mean(live, self._loss_fn)

    def _plainly(self, live: Live) -> float:
        with plainly(live.model):
            return self._mean(live, self._loss_fn)

    def _mean(self, live: Live, measure: Callable[[nn.Module, Any], Any]) -> float:
        values: list[float] = []
        for batch in self._batches:
            # With gradients enabled: the loss of a physics-informed network takes derivatives.
            # What a cure multiplies the loss by is left out.
            with entered(live.settings):
                value = measure(live.model, batch)
                values.append(float(value.detach() if isinstance(value, Tensor) else value))
        mean = sum(values) / len(values)
        return mean if math.isfinite(mean) else math.inf


@contextmanager
def plainly(model: nn.Module) -> Iterator[None]:
    """Compute in float32 inside: weights, inputs, autocast; gradient scalers scale nothing.

    Float64 stays. Afterwards the weights have their own type again, bit for bit.
    """
    low = [
        (tensor, tensor.dtype)
        for tensor in (*model.parameters(), *model.buffers())
        if tensor.dtype in _LOW
    ]
    try:
        for tensor, _dtype in low:
            tensor.data = tensor.data.float()
        with ExitStack() as stack:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
            stack.enter_context(_replaced(torch.autocast, "__enter__", _enter_disabled))
            stack.enter_context(_replaced(torch.amp.GradScaler, "scale", _unscaled))
            stack.enter_context(torch.autocast("cpu", enabled=False))
            if torch.cuda.is_available():
                stack.enter_context(torch.autocast("cuda", enabled=False))
            if low:
                stack.enter_context(_Float32())
            yield
    finally:
        for tensor, dtype in low:
            tensor.data = tensor.data.to(dtype)


@contextmanager
def _replaced(owner: type, name: str, new: Any) -> Iterator[None]:
    old = getattr(owner, name)
    setattr(owner, name, new)
    try:
        yield
    finally:
        setattr(owner, name, old)


_enter: Any = torch.autocast.__enter__


def _enter_disabled(self: torch.autocast) -> Any:
    self._enabled = False
    return _enter(self)


def _unscaled(self: torch.amp.GradScaler, outputs: Any) -> Any:
    return outputs


class _Float32(TorchFunctionMode):
    """Calls with float16 or bfloat16 tensors, or that ask for these types, get float32 instead."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _LOWERING:
            return args[0].float()
        args, kwargs = tree_map(_raised, (args, kwargs or {}))
        return func(*args, **kwargs)


def _raised(item: Any) -> Any:
    if isinstance(item, Tensor) and item.dtype in _LOW:
        return item.float()
    return torch.float32 if isinstance(item, torch.dtype) and item in _LOW else item
