"""Treating a script's network inside its own process, just before its first optimiser step.

By then the script has built everything and run one forward and backward, so that the model, its
inputs and its optimiser are known. The cures are applied in place, and the gradients of that first
backward, which belong to the untreated network, are dropped: the first step changes nothing.
"""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from unvanish.fix.cure import Live
from unvanish.fix.treat import Rates, clip
from unvanish.measure.forward import tensors_in
from unvanish.measure.names import unwrapped
from unvanish.records import ModelRun


@dataclass(eq=False)
class Seen:
    """A call of a whole model, and the gradients that came back to tensors of its output."""

    module: nn.Module
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    cotangents: dict[int, Tensor] = field(default_factory=dict)  # by position in the output


class Surgeon:
    """Waits for the first step of an optimiser whose model was seen, and operates once."""

    def __init__(
        self, operate: Callable[[Live], None], generator: torch.Generator, run: ModelRun | None
    ) -> None:
        """`operate` is given the live training; `run` is the untreated network's measurement.

        With several models in a script, the one of `run`'s class is waited for.
        """
        self._operate = operate
        self._generator = generator
        self._run = run
        self._calls: list[Seen] = []
        self._depth = threading.local()
        self._handles: list[Any] = []
        self._live: Live | None = None
        self._rates: Rates | None = None
        self._entered = contextlib.ExitStack()  # what cures want around the rest of the script

    def install(self) -> None:
        """Begin to wait."""
        self._handles = [
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave, with_kwargs=True, always_call=True),
            register_optimizer_step_pre_hook(self._before_step),
            register_optimizer_step_post_hook(self._after_step),
        ]

    def remove(self) -> None:
        """Leave nothing behind in torch."""
        while self._handles:
            self._handles.pop().remove()
        self._entered.close()
        self._calls.clear()

    @property
    def done(self) -> bool:
        """Whether the operation took place."""
        return self._live is not None

    # --- which model, on what ------------------------------------------------------------------

    def _enter(self, module: nn.Module, arguments: Any) -> None:
        self._depth.value = getattr(self._depth, "value", 0) + 1

    def _leave(self, module: nn.Module, arguments: Any, keywords: Any, output: Any) -> None:
        self._depth.value = max(0, getattr(self._depth, "value", 1) - 1)
        if self.done or self._depth.value or not torch.is_grad_enabled():
            return
        if torch.compiler.is_compiling():
            return
        tensors = [(i, one) for i, one in enumerate(tensors_in(output)) if one.requires_grad]
        if not tensors:
            return
        seen = Seen(unwrapped(module), arguments, keywords)
        for position, tensor in tensors:
            hooked: Any = tensor  # torch leaves this method untyped
            hooked.register_hook(_keeper(seen, position))
        self._calls = [*self._calls[-15:], seen]

    def _call_of(self, optimizer: Optimizer) -> Seen | None:
        """Return the newest call of a model that `optimizer` trains; of several, the largest."""
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        own = [
            seen
            for seen in self._calls
            if any(id(parameter) in held for parameter in seen.module.parameters())
        ]
        if self._run is not None and self._run.type:
            typed = [seen for seen in own if type(seen.module).__name__ in self._run.type]
            if not typed and len(_optimizers()) > 1:
                return None
            own = typed or own
        return max(reversed(own), key=lambda seen: _size(seen.module), default=None)

    # --- the steps -----------------------------------------------------------------------------

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if torch.compiler.is_compiling():
            return
        if not self.done:
            seen = self._call_of(optimizer)
            if seen is not None:
                self._begin(optimizer, seen)
                return
        if self._live is not None and optimizer is self._live.optimizer:
            assert self._rates is not None
            clip(optimizer, self._live.settings)
            self._rates.begin()

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        live = self._live
        if live is None or optimizer is not live.optimizer or self._rates is None:
            return
        self._rates.end()
        if live.settings.zero_grad_each_step:
            optimizer.zero_grad()

    def _begin(self, optimizer: Optimizer, seen: Seen) -> None:
        live = Live(
            model=seen.module,
            batch=(seen.arguments, seen.keywords),
            loss_fn=_surrogate(seen),
            optimizer=optimizer,
            run=self._run,
            generator=self._generator,
        )
        self._live = live
        self._calls.clear()
        self._operate(live)
        optimizer.zero_grad(set_to_none=True)
        self._rates = Rates(optimizer, live.settings)
        for context in live.settings.contexts:
            self._entered.enter_context(context())
        if live.settings.loss_scale != 1.0:
            _scale_losses(live.settings.loss_scale)


def _keeper(seen: Seen, position: int) -> Callable[[Tensor], None]:
    def keep(gradient: Tensor) -> None:
        seen.cotangents[position] = gradient.detach()

    return keep


def _surrogate(seen: Seen) -> Callable[[nn.Module, Any], Tensor]:
    """Return a loss with the gradient that the script's own sent to the model's output.

    The script's loss function cannot be called; <output, dL/doutput> is its linear part.
    """
    cotangents = dict(seen.cotangents)

    def loss(model: nn.Module, batch: Any) -> Tensor:
        arguments, keywords = batch
        tensors = list(tensors_in(model(*arguments, **keywords)))
        parts = [
            (tensors[position] * cotangent).sum()
            for position, cotangent in cotangents.items()
            if position < len(tensors) and tensors[position].shape == cotangent.shape
        ]
        if not parts:  # another output than then: any signal will do
            parts = [one.float().pow(2).mean() for one in tensors if one.is_floating_point()][:1]
        return torch.stack([part.float() for part in parts]).sum()

    return loss


def _scale_losses(factor: float) -> None:
    """Multiply every gradient by `factor`; losses, the yardstick, keep their own values."""
    backward = torch.autograd.backward

    def scaled(tensors: Any, *args: Any, **kwargs: Any) -> Any:
        if not (isinstance(tensors, Tensor) and tensors.requires_grad and tensors.numel() == 1):
            return backward(tensors, *args, **kwargs)
        root: Any = tensors  # torch leaves this method untyped
        handle = root.register_hook(lambda gradient: gradient * factor)
        try:
            return backward(tensors, *args, **kwargs)
        finally:
            handle.remove()

    torch.autograd.backward = scaled


def _optimizers() -> list[Optimizer]:
    return [item for item in gc.get_objects() if issubclass(type(item), Optimizer)]


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
