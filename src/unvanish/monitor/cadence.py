"""Which steps of a long run are looked at, within a budget that is measured and not assumed.

A look is `sampled` (everything the level asks for) or `light` (norms of gradients and weights).

- Dense where a run decides itself: steps 0, 1, 2, 4, 8, … and 1, 2, 4, … 32 steps after an alarm.
- Sparse when quiet: every `QUIET` steps, or as seldom as the budget asks.
- The budget is a share of the run's time. What a look costs is the time that its step took beyond
  the median of steps without one, so that hooks inside a backward count as well. A look that the
  budget does not cover waits. The start may spend in advance what eight steps take, and one second;
  step 0, which warms up everything, is not counted.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Collection
from statistics import median
from typing import Literal

from unvanish.errors import UsageError
from unvanish.i18n import _

Look = Literal["none", "light", "sampled"]
QUIET = 100  # steps between two looks when nothing happens and `every` is not given
_AFTER_ALARM = 32
_ADVANCE_STEPS = 8
_ADVANCE_SECONDS = 1.0


class Cadence:
    """Decides before each step; is told after it how long it took."""

    def __init__(
        self,
        every: int | None = None,
        overhead: float | None = 0.01,
        at: Collection[int] = (),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`every`: a light look at each multiple, sampled ones at multiples at most that often.

        `overhead` is the share of time that sampled looks may take; None: no limit, and every
        multiple of `every` is sampled. Steps in `at` are sampled whatever it costs.
        Raises UsageError for numbers out of range.
        """
        if every is not None and every < 1:
            raise UsageError(
                _("every must be at least 1, and is {every}").format(every=every),
                _("Give a number of steps, or leave it out."),
            )
        if overhead is not None and not 0 < overhead <= 1:
            raise UsageError(
                _("overhead must be above 0 and at most 1, and is {overhead}").format(
                    overhead=overhead
                ),
                _("Give a share of the time, such as 0.01, or None for no limit."),
            )
        self.every = every
        self.overhead = overhead
        self.spent = 0.0  # seconds of all sampled looks
        self._at = frozenset(at)
        self._clock = clock
        self._began = self._mark = clock()
        self._advance = _ADVANCE_SECONDS
        self._bare: deque[float] = deque(maxlen=33)
        self._costs: deque[float] = deque(maxlen=5)
        self._unpriced: list[tuple[float, float]] = []
        self._bare_median = 0.0
        self._last = 0
        self._alarm: int | None = None

    def look(self, step: int) -> Look:
        """Return how to look at `step`."""
        if step in self._at:
            return "sampled"
        on_multiple = self.every is not None and step % self.every == 0
        if self._wanted(step, on_multiple) and self._affordable():
            return "sampled"
        return "light" if on_multiple else "none"

    def step_over(self, step: int, look: Look, own: float) -> None:
        """Take note that `step` is over; `own` are the seconds that our own code took in it."""
        now = self._clock()
        wall, self._mark = now - self._mark, now
        if look == "sampled":
            self._last = step
            if step:  # the first step warms up much that is not ours: imports, kernels, compilers
                self._unpriced.append((wall, own))
        else:
            self._bare.append(max(0.0, wall - own))
            self._bare_median = 0.0
        if self._bare:
            self._price()

    def _price(self) -> None:
        """Say what looks cost; those at the start wait until a step without one was seen."""
        for wall, own in self._unpriced:
            cost = max(own, wall - self.bare_step())
            self._costs.append(cost)
            # A step that stalled for another reason must not eat the budget of an hour.
            self.spent += min(cost, 4 * median(self._costs))
        self._unpriced.clear()

    def alarmed(self, step: int) -> None:
        """Look densely from here on for a while, and let it cost something."""
        if self._alarm is None or step - self._alarm > _AFTER_ALARM:
            self._alarm = step
            self._advance += 4 * self.cost()

    def bare_step(self) -> float:
        """Return the median time of a step without a look, in seconds."""
        if not self._bare_median and self._bare:
            self._bare_median = median(self._bare)
        return self._bare_median

    def cost(self) -> float:
        """Return what a sampled look costs, in seconds."""
        return median(self._costs) if self._costs else 0.0

    def _wanted(self, step: int, on_multiple: bool) -> bool:
        if step & (step - 1) == 0:  # 0 and the powers of two
            return True
        since = None if self._alarm is None else step - self._alarm
        if since is not None and 0 < since <= _AFTER_ALARM and since & (since - 1) == 0:
            return True
        if self.overhead is None:
            return on_multiple or (self.every is None and step - self._last >= QUIET)
        if self.every is not None and not on_multiple:
            return False
        return step - self._last >= self._interval()

    def _interval(self) -> float:
        """Return the steps between two looks when all is quiet."""
        quiet = self.every or QUIET
        bare = self.bare_step()
        if self.overhead is None:
            return quiet
        if bare == 0:  # no step without a look yet: what one costs is not known
            return math.inf
        return max(quiet, self.cost() / (self.overhead * bare))

    def _affordable(self) -> bool:
        if self.overhead is None:
            return True
        advance = self._advance + _ADVANCE_STEPS * self.bare_step()
        elapsed = self._clock() - self._began
        return self.spent + self.cost() <= self.overhead * elapsed + advance
