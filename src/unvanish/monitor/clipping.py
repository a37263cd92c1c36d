"""Gradient clipping: the functions of torch that do it, wrapped while a monitor listens.

The factor is min(1, max_norm / (norm + 1e-6)), as `torch.nn.utils.clip_grad_norm_` computes it; of
clipping by value the factor is not one number, and is reported as unknown. A function that a script
imported by name before we came is not seen; trainers look it up in the module.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad

from unvanish.measure.dynamo import uncompiled_itself
from unvanish.monitor.losses import Reading
from unvanish.monitor.optimizers import local

Noted = Callable[[Tensor | None, Reading], None]  # a parameter that was clipped, and the factor

_NORM, _VALUE = "clip_grad_norm_", "clip_grad_value_"


class Clipping:
    """Wraps and restores."""

    def __init__(self, noted: Noted) -> None:
        """`noted` is called after each clipping and must not raise; nan: the factor is unknown."""
        self._noted = noted
        self._restore: list[Callable[[], None]] = []

    def install(self) -> None:
        """Wrap the functions, if they are not."""
        if self._restore:
            return
        for name in (_NORM, _VALUE):
            original = getattr(clip_grad, name)
            wrapper = self._wrap(original, by_value=name == _VALUE)
            for home in (clip_grad, torch.nn.utils):
                self._replace(home, name, original, wrapper)

    def remove(self) -> None:
        """Put back what was there."""
        while self._restore:
            self._restore.pop()()

    def _replace(self, home: Any, name: str, original: Any, wrapper: Any) -> None:
        if getattr(home, name, None) is not original:
            return  # another's: it calls the original, which is wrapped in its own module
        setattr(home, name, wrapper)

        def restore() -> None:
            if getattr(home, name) is wrapper:
                setattr(home, name, original)

        self._restore.append(restore)

    def _wrap(self, original: Callable[..., Any], *, by_value: bool) -> Callable[..., Any]:
        @functools.wraps(original)
        def clip(parameters: Any, *args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_compiling():
                return original(parameters, *args, **kwargs)
            if not isinstance(parameters, Tensor | list | tuple):
                parameters = list(parameters)  # an iterator, which both of us read
            result = original(parameters, *args, **kwargs)
            first = parameters if isinstance(parameters, Tensor) else next(iter(parameters), None)
            self._note(first, args, kwargs, result, by_value)
            return result

        return uncompiled_itself(clip)

    def _note(self, first: Any, args: Any, kwargs: Any, result: Any, by_value: bool) -> None:
        factor: Reading = float("nan")
        if not by_value:
            limit = kwargs.get("max_norm", args[0] if args else None)
            if isinstance(limit, int | float) and isinstance(result, Tensor):
                ratio = (float(limit) / (local(result) + 1e-6)).clamp(max=1.0)
                factor = float(ratio) if ratio.device.type == "cpu" else ratio
        self._noted(first if isinstance(first, Tensor) else None, factor)
