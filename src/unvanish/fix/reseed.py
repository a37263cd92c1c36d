"""Other seeds for an unchanged script: every seed that it sets is offset.

`torch.manual_seed(0)` becomes `torch.manual_seed(0 + offset)`, and likewise for generators, numpy
and Python's random; what draws without a seed is seeded by the offset. The same offset gives the
same numbers, so that trials of one seed are pairs. Nothing here imports torch or numpy.
"""

from __future__ import annotations

import functools
import random
import sys
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

STRIDE = 10_007  # seeds of one script stay apart from those of its neighbours
_MOST = 2**32  # numpy takes no greater seed
_UNSEEDED = 2**31  # from here on for generators that are given no seed
_KEYWORDS = ("seed", "a", "x", "entropy")
_NUMPY = ("RandomState", "SeedSequence", "PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")
_DEVICES = ("cuda", "xpu", "mps")


class _Seeds:
    """What becomes of the seeds of one trial."""

    def __init__(self, trial: int) -> None:
        self.trial = trial
        self._unseeded = 0

    def moved(self, seed: Any) -> Any:
        """Return the seed to be used in place of `seed`; None, the system's, is replaced too."""
        if seed is None:
            self._unseeded += 1
            seed = _UNSEEDED + self._unseeded
        if not self.trial:
            return seed
        if isinstance(seed, Integral):
            return (int(seed) + STRIDE * self.trial) % _MOST
        if isinstance(seed, str | bytes | bytearray | float):
            return f"{seed!r} of trial {self.trial}"
        if isinstance(seed, Sequence) or type(seed).__name__ == "ndarray":
            return [*seed, self.trial]
        return seed  # a generator that was given a seed already

    def offset(self, seed: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function `seed`, which takes a seed first, with its seeds moved."""

        @functools.wraps(seed)
        def offset(*args: Any, **kwargs: Any) -> Any:
            return seed(*self._arguments(args, kwargs), **kwargs)

        offset.__dict__["__unvanish__"] = True
        return offset

    def method(self, seed: Callable[..., Any]) -> Callable[..., Any]:
        """Return the method `seed`, which takes a seed behind its object, with its seeds moved."""

        @functools.wraps(seed)
        def offset(own: Any, *args: Any, **kwargs: Any) -> Any:
            return seed(own, *self._arguments(args, kwargs), **kwargs)

        return offset

    def like(self, plain: type) -> type:
        """Return a class like `plain`, whose constructor takes a seed first, with it moved."""
        construct: Any = plain

        def new(cls: type, *args: Any, **kwargs: Any) -> Any:
            # An object of `plain` itself: it pickles, and C code knows it.
            return construct(*self._arguments(args, kwargs), **kwargs)

        made: type = _passing(plain, {"__new__": new})
        return made

    def _arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """Return `args` with the seed moved; one among `kwargs` is moved in place."""
        for name in _KEYWORDS:
            if not args and name in kwargs:
                kwargs[name] = self.moved(kwargs[name])
                return args
        return (self.moved(args[0] if args else None), *args[1:])


def offset_python(trial: int) -> None:
    """Offset the seeds of Python's `random`, and seed it."""
    seeds = _Seeds(trial)
    random.seed = seeds.offset(random.seed)
    # mypy knows no other methods of a class than its own; here and below they are replaced.
    random.Random.seed = seeds.method(random.Random.seed)  # type: ignore[method-assign]
    random.seed(0)


def offset_numpy(trial: int) -> None:
    """Offset the seeds of numpy, if it is imported, and seed its global generator."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is None or getattr(numpy.random.seed, "__unvanish__", False):
        return
    seeds = _Seeds(trial)
    for name in ("seed", "default_rng"):
        setattr(numpy.random, name, seeds.offset(getattr(numpy.random, name)))
    for name in _NUMPY:
        setattr(numpy.random, name, seeds.like(getattr(numpy.random, name)))
    numpy.random.seed(0)


def offset_torch(trial: int) -> None:
    """Offset the seeds of torch, and seed its global generators."""
    torch: Any = sys.modules["torch"]
    seeds = _Seeds(trial)
    for device in _DEVICES:
        module = getattr(torch, device, None)
        for name in ("manual_seed", "manual_seed_all"):
            if hasattr(module, name):
                setattr(module, name, seeds.offset(getattr(module, name)))
    torch.manual_seed = seeds.offset(torch.manual_seed)
    torch.seed = lambda: int(torch.manual_seed(None).initial_seed())
    torch.random.manual_seed, torch.random.seed = torch.manual_seed, torch.seed
    plain = torch.Generator

    def new(cls: Any, *args: Any, **kwargs: Any) -> Any:
        made = plain.__new__(cls, *args, **kwargs)
        if trial:  # torch's own seed for those that are given none
            plain.manual_seed(made, seeds.moved(made.initial_seed()))
        return made

    def manual_seed(self: Any, seed: int) -> Any:
        return plain.manual_seed(self, seeds.moved(seed))

    def anew(self: Any) -> int:
        return int(manual_seed(self, seeds.moved(None)).initial_seed())

    named = {"__new__": new, "manual_seed": manual_seed, "seed": anew}
    torch.Generator = _passing(plain, named)
    torch.manual_seed(0)


def _passing(plain: Any, members: dict[str, Any]) -> Any:
    """Return a subclass of `plain` that every object of `plain` passes for."""

    class Like(type(plain)):  # type: ignore[misc]
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, plain)

    return Like(plain.__name__, (plain,), {**members, "__module__": plain.__module__})
