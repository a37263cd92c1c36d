"""How long this rank takes before its backward: loading its batch, and its forward.

Whole steps take the same time on all ranks, because they wait for each other in the backward. What
a rank takes until then is its own, as far as its forward does not wait for others (FSDP's does).
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from statistics import median

_STEPS = 32


class Pace:
    """The last steps that were not looked at: a look's own time is not the training's."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._ended: float | None = None  # the last step; None: the backward has begun
        self._times: deque[float] = deque(maxlen=_STEPS)
        self._last = math.nan

    def step_ended(self, *, looked_at_next: bool) -> None:
        """Take note that a step is over, and whether the next one gets a look."""
        self._ended = None if looked_at_next else self._clock()

    def backward_begins(self) -> None:
        """Take note of the first backward of a step."""
        if self._ended is not None:
            self._times.append(self._clock() - self._ended)
            self._ended = None

    def seconds(self) -> float:
        """Return the median since it was last asked for; the one before where there is none."""
        if self._times:
            self._last = median(self._times)
            self._times.clear()
        return self._last
