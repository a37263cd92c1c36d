"""The cases, one file a kind: those that others reported, and our own, made by `own`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from unvanish.testing.experiment import Case, Experiment

own = partial(Case, group="own")


def own_healthy(name: str, about: str, good: float, make: Callable[[bool], Experiment]) -> Case:
    """A case of ours that is healthy, though something about it looks wrong."""
    return own(name, "healthy", about, make, ("healthy",), good=good)
