"""Finding, in a script that is not to be changed, the model that an optimiser trains.

One global hook looks at the first call of each model, in time for its first step to be traced. It
is taken off as soon as every optimiser has its model, and comes back when another one steps.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as registry
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim import Optimizer

from unvanish.measure.calls import being_recorded
from unvanish.measure.dynamo import hide, uncompiled, unhide
from unvanish.measure.names import outermost, unwrapped
from unvanish.measure.sharding import named_parameters
from unvanish.monitor.listener import BackwardCall, Listener
from unvanish.monitor.optimizers import existing_optimizers, ids_of

Attach = Callable[[nn.Module, Sequence[Optimizer]], object]


class Scout:
    """A `listener.Sink`. Tells of each model once, with the optimisers that hold its parameters."""

    def __init__(self, found: Attach, say: Callable[[str], None]) -> None:
        """`found` is called before the first forward of a model goes on."""
        self.backwards = 0
        self._found = found
        self._say = say
        self._listener = Listener(self)
        self._handle: Any = None
        self._seen: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self._trained: weakref.WeakSet[Optimizer] = weakref.WeakSet()
        self._pid = os.getpid()

    def install(self) -> None:
        """Begin to look."""
        self._listener.install()
        self._arm()

    def remove(self) -> None:
        """Leave nothing in torch."""
        self._listener.remove()
        self._disarm()

    def _arm(self) -> None:
        if self._handle is None:
            self._seen.clear()
            self._handle = register_module_forward_pre_hook(self._called)
            hide([self._handle.id])

    def _disarm(self) -> None:
        if self._handle is not None:
            unhide([self._handle.id])
            self._handle.remove()
            self._handle = None

    @uncompiled
    def _called(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if (
            torch.compiler.is_compiling()
            or module in self._seen
            or not torch.is_grad_enabled()
            or os.getpid() != self._pid
            or being_recorded()
        ):
            return
        try:
            self._look_at(module, arguments)
        except Exception as error:  # the script goes on, and this model unwatched
            self._disarm()
            self._say(f"{type(error).__name__}: {error}")

    def _look_at(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        root = outermost(unwrapped(module))
        self._seen.update([module, *module.modules(), *root.modules()])
        own = {id(parameter) for _name, parameter in named_parameters(root)}
        every = [one for one in existing_optimizers() if ids_of(one)]
        ours = [one for one in every if not own.isdisjoint(ids_of(one))]
        if not ours:
            return
        before = set(registry._global_forward_pre_hooks)
        self._found(root, ours)
        self._trained.update(ours)
        # Torch has read the list of hooks for this call already, and will call those that end it.
        for number, hook in [*registry._global_forward_pre_hooks.items()]:
            if number not in before:
                hook(module, arguments)
        if all(one in self._trained for one in every):
            self._disarm()

    # --- as a sink -----------------------------------------------------------------------------

    def backward_begins(self, describe: Callable[[], BackwardCall]) -> None:
        """Count it."""
        self.backwards += 1

    def backward_ends(self, token: Any, *, finished: bool, gradients: Sequence[Any]) -> None:
        """See `listener.Sink`; nothing to do."""

    def derivative_taken(self, outputs: Sequence[Any], gradients: Sequence[Any]) -> None:
        """See `listener.Sink`; nothing to do."""

    def step_begins(self, optimizer: Optimizer) -> None:
        """Look at the next calls again, for the model of an optimiser that is new."""
        if optimizer not in self._trained:
            self._trained.add(optimizer)
            self._arm()

    def step_ends(self, optimizer: Optimizer) -> None:
        """See `listener.Sink`; nothing to do."""

    def step_skipped(self, optimizer: Optimizer) -> None:
        """See `listener.Sink`; nothing to do."""
