"""Derivatives with respect to data that are part of a loss: a PDE's residual, a gradient penalty.

They are taken by `torch.autograd.grad(..., create_graph=True)` while the loss is computed, so the
graph of the loss shows them only as more ops. That one of them is exactly 0 whatever the parameters
are (the second derivative of a network of ReLUs) cannot be seen in that graph at all: the term is
there, and sends nothing back. So each is looked at when it is taken.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unvanish.measure.reduce import Reducer, join_log10

_Key = tuple[str, int]  # name and sequence number of a node: unique while a graph lives


@dataclass(slots=True, eq=False)
class DerivativeLog:
    """The derivatives that were taken since the last backward, in order."""

    _taken: list[tuple[int, list[Tensor]]] = field(default_factory=list)  # order, values
    _orders: dict[_Key, int] = field(default_factory=dict)  # what such derivatives ended in

    def note(self, outputs: Sequence[Any], gradients: Sequence[Tensor | None]) -> None:
        """Take note of `gradients`, taken of `outputs`; None where an input was not connected."""
        order = 1 + self._highest(outputs)
        values = [gradient for gradient in gradients if gradient is not None]
        for value in values:
            if value.grad_fn is not None:
                self._orders[_key(value.grad_fn)] = order
        self._taken.append((order, [value.detach() for value in values]))

    def clear(self) -> None:
        """Forget all of them."""
        self._taken, self._orders = [], {}

    def queue(self, reducer: Reducer) -> list[tuple[int, list[int]]]:
        """Return order and slots of the norms of each, and forget them."""
        taken = [
            (order, [reducer.norm(value) for value in values]) for order, values in self._taken
        ]
        self.clear()
        return taken

    def _highest(self, outputs: Sequence[Any]) -> int:
        """Return the highest order among the derivatives that `outputs` are made of."""
        if not self._orders:
            return 0
        stack = [item.grad_fn for item in outputs if isinstance(item, Tensor) and item.grad_fn]
        seen = set(stack)
        highest = 0
        while stack:
            node = stack.pop()
            highest = max(highest, self._orders.get(_key(node), 0))
            for child, _slot in node.next_functions:
                if child is not None and child not in seen:
                    seen.add(child)
                    stack.append(child)
        return highest


def level(slots: Sequence[int], values: Sequence[float]) -> float:
    """Return the joint log10 norm of one derivative; -inf for zeros and for what has no part."""
    return join_log10([values[slot] for slot in slots])


@contextmanager
def noting(log: DerivativeLog) -> Iterator[None]:
    """Note the derivatives that are taken inside."""
    original = torch.autograd.grad

    @functools.wraps(original)
    def grad(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        gradients = original(outputs, inputs, *args, **kwargs)
        if args[2:3] == (True,) or kwargs.get("create_graph"):
            log.note(as_list(outputs), as_list(gradients))
        return gradients

    vars(torch.autograd)["grad"] = grad
    try:
        yield
    finally:
        vars(torch.autograd)["grad"] = original


def as_list(value: Any) -> list[Any]:
    """Return one or several tensors as a list."""
    if isinstance(value, Tensor):
        return [value]
    return list(value.values() if isinstance(value, Mapping) else value)


def _key(node: Any) -> _Key:
    return node.name(), node._sequence_nr()
