"""A failure of ours never reaches the training."""

from __future__ import annotations

import functools
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound="Shielded")


class Shielded(ABC):
    """What has methods that torch calls while somebody's script trains."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.off = False  # nothing is done any more
        self.own = 0.0  # seconds that we have taken, of the step under way

    @abstractmethod
    def give_up(self, error: Exception) -> None:
        """Switch all of it off because of `error`, and say so."""


def shielded(
    method: Callable[Concatenate[S, P], T],
) -> Callable[Concatenate[S, P], T | None]:
    """Keep a failure (also lack of memory) from the training; do nothing after one. Count time."""

    @functools.wraps(method)
    def guarded(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T | None:
        if self.off:
            return None
        started = time.perf_counter()
        with self.lock:
            try:
                return method(self, *args, **kwargs)
            except Exception as error:
                self.give_up(error)
                return None
            finally:
                self.own += time.perf_counter() - started

    return guarded
