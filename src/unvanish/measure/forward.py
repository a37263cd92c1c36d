"""The forward signal: how large each layer's output is, and whether samples are still distinct.

A He-initialised ReLU net of depth 100 keeps the level of its gradient and yet does not train,
because all samples have become one: that shows in the mean correlation between samples, the c map
of mean-field theory (Schoenholz et al. 2017, arXiv 1611.01232).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unvanish.measure.reduce import Reducer

# A float32 row norm outside this band is formed again in float64; see reduce.py for the argument.
_SAFE = (1e-15, 1e18)
_TAKEN = 4096  # entries


def tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, lists, mappings and dataclasses, in order."""
    return list(_walk(value, 0))


def first_tensor(value: Any) -> Tensor | None:
    """Return the first floating-point tensor in `value`, else the first tensor, else None."""
    found = tensors_in(value)
    return next((tensor for tensor in found if tensor.is_floating_point()), next(iter(found), None))


def _walk(value: Any, depth: int) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif depth > 8:  # a container that holds itself would never end
        return
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _walk(item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _walk(item, depth + 1)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for name in value.__dataclass_fields__:
            yield from _walk(getattr(value, name, None), depth + 1)


def thinned(tensor: Any) -> Tensor | None:
    """Return a copy of at most some thousand entries of a floating-point tensor, evenly spaced.

    Tensors of one size give entries of the same places. None of what has no such entries.
    """
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or not tensor.numel():
        return None
    if not tensor.is_floating_point():
        return None
    # A step that shares a divisor with a width would meet the same few units again and again.
    size, step = tensor.numel(), -(-tensor.numel() // _TAKEN)
    while math.gcd(step, size) > 1:
        step += 1
    with torch.no_grad():
        return tensor.detach().reshape(-1)[::step].clone()


@dataclass(frozen=True, slots=True)
class ForwardSignal:
    """Scalars of one output, still on its device."""

    rms: Tensor
    correlation: Tensor | None

    @classmethod
    @torch.no_grad()
    def of(cls, output: Tensor, batch_size: int | None) -> ForwardSignal | None:
        """Measure `output`; samples lie along dimension 0 where its length is `batch_size`.

        The correlation is the mean cosine between two different samples, each flattened; samples
        that are exactly zero are left out. It is None where there are not two samples.
        """
        if output.layout != torch.strided or not output.is_floating_point() or not output.numel():
            return None
        with torch.autocast(output.device.type, enabled=False):
            by_sample = output.dim() > 1 and output.shape[0] == batch_size and batch_size > 1
            rows = output.detach().reshape(output.shape[0] if by_sample else 1, -1)
            if rows.dtype in (torch.float16, torch.bfloat16):
                rows = rows.float()
            norms = torch.linalg.vector_norm(rows, dim=1)
            if rows.device.type == "cpu" and rows.dtype == torch.float32 and _unsafe(norms):
                rows = rows.double()
                norms = torch.linalg.vector_norm(rows, dim=1)
            rms = torch.linalg.vector_norm(norms) / rows.numel() ** 0.5
            return cls(rms, _correlation(rows, norms) if by_sample else None)

    def queue(self, reducer: Reducer) -> tuple[int, int | None]:
        """Hand both scalars to `reducer` and return their slots."""
        correlation = None if self.correlation is None else reducer.scalar(self.correlation)
        return reducer.scalar(self.rms), correlation


def _unsafe(norms: Tensor) -> bool:
    low, high = norms.aminmax()
    return not (float(low) > _SAFE[0] and float(high) < _SAFE[1])


def _correlation(rows: Tensor, norms: Tensor) -> Tensor:
    """Return the mean cosine over pairs: (||sum u||^2 - m) / (m (m - 1)) for m unit rows u."""
    alive = norms > 0
    inverse = torch.where(alive, 1.0 / norms, torch.zeros_like(norms))
    total = torch.linalg.vector_norm(inverse @ rows) ** 2
    count = alive.sum()
    mean: Tensor = (total - count) / (count * (count - 1))
    return mean
