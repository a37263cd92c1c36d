"""Leaving everything as it was: random states, buffers, gradients, flags, attributes, grad mode."""

from __future__ import annotations

import pickle
import random
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class RandomStates:
    """The state of every global random number generator: torch (each device), Python, numpy."""

    cpu: Tensor
    devices: tuple[tuple[str, int, Tensor], ...]
    python: Any
    numpy: Any

    @classmethod
    def capture(cls) -> RandomStates:
        """Note all states. An accelerator that was never used is not started for it."""
        devices: list[tuple[str, int, Tensor]] = []
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            devices += [
                ("cuda", index, torch.cuda.get_rng_state(index))
                for index in range(torch.cuda.device_count())
            ]
        if torch.backends.mps.is_available():
            devices.append(("mps", 0, torch.mps.get_rng_state()))
        numpy = sys.modules.get("numpy")
        return cls(
            cpu=torch.get_rng_state(),
            devices=tuple(devices),
            python=random.getstate(),
            numpy=None if numpy is None else numpy.random.get_state(),
        )

    def same_as(self, other: RandomStates) -> bool:
        """Whether no generator has moved from one to the other."""
        return self._bytes() == other._bytes()

    def _bytes(self) -> bytes:
        torch_states = [("cpu", 0, self.cpu), *self.devices]
        plain = [(kind, index, state.numpy().tobytes()) for kind, index, state in torch_states]
        return pickle.dumps((plain, self.python, self.numpy))

    def restore(self) -> None:
        """Set all generators back to these states."""
        torch.set_rng_state(self.cpu)
        for kind, index, state in self.devices:
            if kind == "cuda":
                torch.cuda.set_rng_state(state, index)
            else:
                torch.mps.set_rng_state(state)
        random.setstate(self.python)
        if self.numpy is not None:
            sys.modules["numpy"].random.set_state(self.numpy)


class _ModuleStates:
    """Buffers, parameters' flags and gradients, and plain attributes of a module tree."""

    def __init__(self, root: nn.Module) -> None:
        modules = list(dict.fromkeys(root.modules()))
        self._attributes = [(module, dict(module.__dict__)) for module in modules]
        self._containers = [
            (container, _copied(container))
            for _, attributes in self._attributes
            for container in attributes.values()
            if isinstance(container, dict | list | set | deque)
        ]
        self._buffers = [
            (buffer, buffer._version, buffer.detach().clone()) for buffer in root.buffers()
        ]
        self._parameters = [
            (parameter, parameter.requires_grad, parameter.grad) for parameter in root.parameters()
        ]

    def restore(self) -> None:
        for module, attributes in self._attributes:
            # Not through setattr: a module's own __setattr__ would register things.
            module.__dict__.clear()
            module.__dict__.update(attributes)
        for container, content in self._containers:
            _refill(container, content)
        with torch.no_grad():
            for buffer, version, content in self._buffers:
                # By content: batch norm updates its statistics without counting a version.
                if not torch.equal(buffer, content):
                    buffer.copy_(content)
                if buffer._version != version:
                    # A graph that saved this buffer must still find its own version of it.
                    torch._C._autograd._unsafe_set_version_counter((buffer,), (version,))
        for parameter, requires_grad, gradient in self._parameters:
            parameter.grad = gradient
            if parameter.requires_grad != requires_grad:
                parameter.requires_grad_(requires_grad)


def _copied(container: Any) -> Any:
    return container.copy()  # shallow, of the same type, order kept


def _refill(container: Any, content: Any) -> None:
    container.clear()
    if isinstance(container, list | deque):
        container.extend(content)
    else:
        container.update(content)


@contextmanager
def preserved(*roots: nn.Module) -> Iterator[None]:
    """Put back, on leaving, all that a forward or a backward of `roots` may change.

    Parameters are not copied: nothing here writes to them. What a forward changes elsewhere
    (globals, files, generators of the user's own) is beyond reach.
    """
    random_states = RandomStates.capture()
    module_states = [_ModuleStates(root) for root in roots]
    grad_mode = torch.is_grad_enabled()
    try:
        yield
    finally:
        for states in module_states:
            states.restore()
        torch.set_grad_enabled(grad_mode)
        random_states.restore()
