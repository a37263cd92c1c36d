"""Other seeds for an unchanged script: every seed that it sets is offset.

`torch.manual_seed(0)` becomes `torch.manual_seed(0 + offset)`, and likewise for generators, numpy
and Python's random; what draws without a seed is seeded by the offset. The same offset gives the
same numbers, so that trials of one seed are pairs. Nothing here imports torch or numpy.
"""

from __future__ import annotations

import functools
import random
import sys
from collections.abc import Callable
from typing import Any

STRIDE = 10_007  # seeds of one script stay apart from those of its neighbours
_MOST = 2**32  # numpy takes no greater seed


def offset_python(trial: int) -> None:
    """Offset the seeds of Python's `random`, and seed it."""
    random.seed = _offset(random.seed, trial)
    random.seed(0)


def offset_numpy(trial: int) -> None:
    """Offset the seeds of numpy, if it is imported, and seed its global generator."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is None or getattr(numpy.random.seed, "__unvanish__", False):
        return
    numpy.random.seed = _offset(numpy.random.seed, trial)
    numpy.random.default_rng = _offset(numpy.random.default_rng, trial)
    numpy.random.seed(0)


def offset_torch(trial: int) -> None:
    """Offset the seeds of torch, and seed its global generators."""
    torch: Any = sys.modules["torch"]
    torch.manual_seed = _offset(torch.manual_seed, trial)
    torch.random.manual_seed = torch.manual_seed
    plain = torch.Generator

    class Like(type(plain)):  # type: ignore[misc]
        """Every generator passes for one of ours, also those that torch itself made."""

        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, plain)

    def manual_seed(self: Any, seed: int) -> Any:
        return plain.manual_seed(self, _moved(seed, trial))

    torch.Generator = Like("Generator", (plain,), {"manual_seed": manual_seed})
    torch.manual_seed(0)


def _offset(seed: Callable[..., Any], trial: int) -> Callable[..., Any]:
    @functools.wraps(seed)
    def offset(*args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], int):
            args = (_moved(args[0], trial), *args[1:])
        for name in ("seed", "a"):
            if isinstance(kwargs.get(name), int):
                kwargs[name] = _moved(kwargs[name], trial)
        return seed(*args, **kwargs)

    offset.__dict__["__unvanish__"] = True
    return offset


def _moved(seed: int, trial: int) -> int:
    return (seed + STRIDE * trial) % _MOST if trial else seed
