"""Which steps are traced, and how.

Dense where a run decides itself, then sparse: 0, 1, 2, 4, 8, 16, … and every N. A fault that is
there from the start shows at once, one that training makes (a post-norm transformer whose front
dies after 150 steps) shows at a power of two or a multiple of N.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from unvanish.errors import UsageError
from unvanish.i18n import _

DEFAULT_EVERY = 100


@dataclass(frozen=True, slots=True)
class Schedule:
    """Samples step 0, the powers of two, and the multiples of `every` (0: powers of two only)."""

    every: int = DEFAULT_EVERY
    at: frozenset[int] = frozenset()  # further steps

    def __post_init__(self) -> None:
        """Raise UsageError for a negative `every`."""
        if self.every < 0:
            raise UsageError(
                _("--every must not be negative, and is {every}").format(every=self.every),
                _("Give a number of steps, or 0 for steps 0, 1, 2, 4, 8, … only."),
            )

    def samples(self, step: int) -> bool:
        """Return whether `step`, counted from 0, is traced."""
        power_of_two = step & (step - 1) == 0  # true of 0 as well
        return power_of_two or (self.every > 0 and step % self.every == 0) or step in self.at


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """How to watch."""

    schedule: Schedule
    probe: bool  # random signals sent backward, on a replay of the sampled batches
    steps: int | None = None  # end the script after so many steps of one optimiser
    store: Path | None = None  # where the run is written while it goes on; None: nowhere
    spectrum: bool = False  # of the Jacobian, at the steps of `schedule.at`; without, at the first
