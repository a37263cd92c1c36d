"""The places where every training loop passes, wrapped while we listen and restored after.

`torch.autograd.backward` (where `Tensor.backward` looks it up), `torch.autograd.grad` over
parameters, the optimisers' global step hooks, and `GradScaler.scale` and `.step` (a scaler skips
the optimiser's step on overflow, so its hooks alone would miss exactly the interesting steps).

Every wrapper goes straight to the original while a graph is compiled or recorded, inside torch.func
transforms, inside a backward that runs already (reentrant checkpointing), in forked children, and
when we are off. What is seen is handed to a `Sink`, which must not raise.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch._guards import TracingContext
from torch.amp import GradScaler
from torch.autograd.graph import GradientEdge
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from unvanish.measure.calls import being_recorded
from unvanish.measure.dynamo import uncompiled, uncompiled_itself

_SITE_DEPTH = 16  # frames that tell one call of backward from another


@dataclass(frozen=True, slots=True, eq=False)
class ScaledLoss:
    """A loss that a gradient scaler multiplied, before and after."""

    unscaled: Tensor
    scaled: weakref.ref[Tensor]
    scaler: GradScaler


@dataclass(frozen=True, slots=True, eq=False)
class BackwardCall:
    """One call of `torch.autograd.backward`, or of `grad` over parameters."""

    roots: tuple[Tensor, ...]
    cotangents: tuple[Tensor | None, ...]  # one for each root; None: 1, of a scalar
    inputs: tuple[Any, ...]  # of `grad`, in order; () for backward
    create_graph: bool
    site: int  # the same for each pass through the same place of the script
    scaled: ScaledLoss | None  # when the root came out of a gradient scaler


class Sink(Protocol):
    """Who is told. None of these may raise, except what is to end the script."""

    def backward_begins(self, describe: Callable[[], BackwardCall]) -> Any:
        """Return a token for `backward_ends`."""

    def backward_ends(
        self, token: Any, *, finished: bool, gradients: Sequence[Tensor | None]
    ) -> None:
        """Take note that the backward is over; it raised if not `finished`.

        `gradients` are what `grad` returned, of the parameters among its inputs; () for backward.
        """

    def derivative_taken(self, outputs: Sequence[Any], gradients: Sequence[Any]) -> None:
        """Take note of what `grad` gave with respect to data, with a graph of its own."""

    def step_begins(self, optimizer: Optimizer) -> None:
        """Take note that `optimizer` is about to step."""

    def step_ends(self, optimizer: Optimizer) -> None:
        """Take note that `optimizer` has stepped."""

    def step_skipped(self, optimizer: Optimizer) -> None:
        """Take note that a gradient scaler left out this step of `optimizer`."""


class Listener:
    """Wraps and restores. `on` switches it without touching the wrappers."""

    def __init__(self, sink: Sink) -> None:
        self.on = False
        self._sink = sink
        self._pid = os.getpid()
        self._busy = _Busy()
        self._stepped: set[int] = set()  # optimisers that stepped inside GradScaler.step
        self._scaled: list[ScaledLoss] = []
        self._restore: list[Callable[[], None]] = []
        self._handles: list[Any] = []

    def install(self) -> None:
        """Wrap, and begin to listen. Does nothing when it listens already."""
        self.on = True
        if self._restore:
            return
        self._replace(torch.autograd, "backward", self._listening_backward)
        self._replace(torch.autograd, "grad", self._listening_grad)
        self._replace(GradScaler, "scale", self._listening_scale)
        self._replace(GradScaler, "step", self._listening_scaler_step)
        self._handles = [
            register_optimizer_step_pre_hook(self._before_step),
            register_optimizer_step_post_hook(self._after_step),
        ]
        self._restore += [handle.remove for handle in self._handles]

    def hand_over(self, sink: Sink) -> None:
        """Tell `sink` from here on, also in the middle of an event."""
        self._sink = sink

    def intact(self) -> bool:
        """Whether our hooks on optimisers are still there: anyone may clear them."""
        there = [handle.hooks_dict_ref() for handle in self._handles]
        return all(
            hooks is not None and handle.id in hooks
            for handle, hooks in zip(self._handles, there, strict=True)
        )

    def remove(self) -> None:
        """Stop listening, and put back what was there."""
        self.on = False
        while self._restore:
            self._restore.pop()()
        self._scaled.clear()

    def _replace(
        self, owner: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]
    ) -> None:
        original = getattr(owner, name)
        wrapper = wrap(original)
        setattr(owner, name, wrapper)

        def restore() -> None:
            # Someone may have wrapped ours in the meantime: theirs stays, and ours passes through.
            if getattr(owner, name) is wrapper:
                setattr(owner, name, original)

        self._restore.append(restore)

    @uncompiled
    def _listens(self) -> bool:
        return (
            self.on
            and not self._busy.now
            and os.getpid() == self._pid
            and torch._C._current_graph_task_id() == -1
            and not torch._C._are_functorch_transforms_active()
            and TracingContext.try_get() is None
            and not being_recorded()
        )

    # The wrappers are written out, so that the script's tracebacks gain one frame each.

    def _listening_backward(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def backward(*args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_compiling() or not self._listens():
                return original(*args, **kwargs)
            token, finished = self._begin(self._backward_call, args, kwargs), False
            try:
                result = original(*args, **kwargs)
                finished = True
                return result
            finally:
                self._end(token, finished, ())

        return uncompiled_itself(backward)

    def _listening_grad(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def grad(*args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_compiling() or not self._listens():
                return original(*args, **kwargs)
            args, kwargs, over_parameters = _with_inputs_listed(args, kwargs)
            if not over_parameters:
                derivative = original(*args, **kwargs)
                self._note_derivative(args, kwargs, derivative)
                return derivative
            token, finished = self._begin(self._grad_call, args, kwargs), False
            gradients: Any = ()
            try:
                gradients = original(*args, **kwargs)
                finished = True
                return gradients
            finally:
                self._end(token, finished, gradients)

        return uncompiled_itself(grad)

    def _listening_scale(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def scale(scaler: GradScaler, outputs: Any) -> Any:
            result = original(scaler, outputs)
            if not torch.compiler.is_compiling() and self._listens():
                self._note_scaled(scaler, outputs, result)
            return result

        return uncompiled_itself(scale)

    def _listening_scaler_step(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def step(scaler: GradScaler, optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_compiling() or not self._listens():
                return original(scaler, optimizer, *args, **kwargs)
            self._stepped.discard(id(optimizer))
            result = original(scaler, optimizer, *args, **kwargs)
            self._note_skipped(optimizer)
            return result

        return uncompiled_itself(step)

    @uncompiled
    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if not torch.compiler.is_compiling() and self._listens():
            self._sink.step_begins(optimizer)

    @uncompiled
    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if not torch.compiler.is_compiling() and self._listens():
            self._stepped.add(id(optimizer))
            self._sink.step_ends(optimizer)

    @uncompiled
    def _note_skipped(self, optimizer: Optimizer) -> None:
        if id(optimizer) not in self._stepped:
            self._sink.step_skipped(optimizer)

    @uncompiled
    def _note_scaled(self, scaler: GradScaler, outputs: Any, result: Any) -> None:
        self._scaled = [one for one in self._scaled if one.scaled() is not None]
        # A disabled scaler returns what it was given.
        if isinstance(outputs, Tensor) and result is not outputs:
            self._scaled.append(ScaledLoss(outputs.detach(), weakref.ref(result), scaler))

    @uncompiled
    def _note_derivative(self, args: Any, kwargs: Any, gradients: Any) -> None:
        """Tell the sink of a gradient with respect to data that can be part of a loss."""
        if (args[4] if len(args) > 4 else kwargs.get("create_graph")) is True:
            outputs = args[0] if args else kwargs["outputs"]
            self._sink.derivative_taken(_as_tuple(outputs), _as_tuple(gradients))

    @uncompiled
    def _begin(self, describe: Callable[..., BackwardCall], args: Any, kwargs: Any) -> Any:
        """Tell the sink of a backward; what it does until `_end` is not listened to."""
        self._busy.now = True
        site = _site()
        try:
            return self._sink.backward_begins(lambda: describe(site, *args, **kwargs))
        except BaseException:  # the sink ends the script
            self._busy.now = False
            raise

    @uncompiled
    def _end(self, token: Any, finished: bool, gradients: Any) -> None:
        try:
            self._sink.backward_ends(token, finished=finished, gradients=_as_tuple(gradients))
        finally:
            self._busy.now = False

    def _backward_call(
        self,
        site: int,
        tensors: Any,
        grad_tensors: Any = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        *_: Any,
        **__: Any,
    ) -> BackwardCall:
        return self._call(site, tensors, grad_tensors, (), create_graph)

    def _grad_call(
        self,
        site: int,
        outputs: Any,
        inputs: Any,
        grad_outputs: Any = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        *_: Any,
        **__: Any,
    ) -> BackwardCall:
        return self._call(site, outputs, grad_outputs, _as_tuple(inputs), create_graph)

    def _call(
        self,
        site: int,
        outputs: Any,
        cotangents: Any,
        inputs: tuple[Any, ...],
        create_graph: bool,
    ) -> BackwardCall:
        given = _as_tuple(outputs)
        seeds = _as_tuple(cotangents) if cotangents is not None else (None,) * len(given)
        pairs = [
            (root, seed)
            for root, seed in zip(given, seeds, strict=False)
            if isinstance(root, Tensor)
        ]
        scaled = next(
            (one for one in self._scaled if any(one.scaled() is root for root, _ in pairs)), None
        )
        return BackwardCall(
            roots=tuple(root for root, _ in pairs),
            cotangents=tuple(seed for _, seed in pairs),
            inputs=inputs,
            create_graph=create_graph,
            site=site,
            scaled=scaled,
        )


class _Busy(threading.local):
    """Whether this thread is inside a backward that is being watched."""

    now = False


def _as_tuple(value: Any) -> tuple[Any, ...]:
    if isinstance(value, Tensor | GradientEdge):  # both look like collections
        return (value,)
    if isinstance(value, dict):
        return tuple(value.values())
    return tuple(value) if isinstance(value, Collection) else (value,)


@uncompiled
def _with_inputs_listed(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any], bool]:
    """Return the arguments of `grad`, and whether parameters are among its inputs.

    Iterators, such as `model.parameters()`, are read into tuples on the way.
    """
    args = tuple(tuple(value) if isinstance(value, Iterator) else value for value in args)
    kwargs = {
        name: tuple(value) if isinstance(value, Iterator) else value
        for name, value in kwargs.items()
    }
    inputs = args[1] if len(args) > 1 else kwargs.get("inputs")
    found = any(isinstance(item, torch.nn.Parameter) and item.is_leaf for item in _as_tuple(inputs))
    return args, kwargs, found and not kwargs.get("is_grads_batched")


def _site() -> int:
    """Return a number for the place in the script that is calling: its innermost frames."""
    frame = sys._getframe(3)  # of whoever called the wrapper
    key: list[int] = []
    while frame is not None and len(key) < 2 * _SITE_DEPTH:
        key += (id(frame.f_code), frame.f_lasti)
        if frame.f_back is None:
            break
        frame = frame.f_back
    return hash(tuple(key))
