"""What training does, from the loss of every step: falling, stuck, diverging or too short to say.

Minibatch losses are noisy, and the noise has heavy tails. So windows are compared by their medians,
and a difference counts only when it is both *significant* and *material*:

- The noise of one loss is estimated from successive differences, sigma = 1.4826 median|d - med d|
  / sqrt(2): a trend enters them only by its slope per step, so a fall does not pass for noise
  (von Neumann's estimator, made robust). A median of w losses has a standard error of
  sqrt(pi/2) sigma / sqrt(w) (normal case; smaller for heavier tails).
- Significant: more than 3 such errors of the difference. Material: a documented share of the
  starting loss.

The states:

falling    The loss has come down by a material share of where it started (and then may rest on its
           floor: training has worked), or it has come down less and is still falling in the second
           half of the run.
diverging  It ends as NaN or infinity, or it ends materially above its start or its best window.
stuck      Neither, after enough steps. A brief fall in the first steps, while the last bias learns
           how frequent each class is, does not count: it ends before the middle of the run.
too-short  Too few steps to tell these apart.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from unvanish.records import StepRecord, Training

Limits = Callable[[str], float]  # threshold name -> value
_FIRST = 5  # losses that make the start: few, a healthy net may fall within a dozen steps


@dataclass(frozen=True, slots=True)
class TrainingState:
    """The state, and the numbers it rests on (losses; None where there were too few)."""

    state: Training
    steps: int  # finite losses seen
    start: float | None = None
    end: float | None = None
    best: float | None = None
    nonfinite_step: int | None = None  # first step whose loss is not finite
    materially: bool = False  # the loss has come down by a material share of its start
    resting: bool = False  # it does not fall any more in the later part of the run

    @property
    def not_working(self) -> bool:
        """Training is stuck or diverging."""
        return self.state in ("stuck", "diverging")

    @property
    def works(self) -> bool:
        """The loss has come down by a share that is worth the name."""
        return self.state == "falling" and self.materially

    @property
    def halting(self) -> bool:
        """The loss falls, but has come down by less than half of its start."""
        return self.state == "falling" and (self.fall or 0.0) < 0.5

    @property
    def left(self) -> float:
        """Share of the starting loss that is left, while it falls or after it fell; else 1."""
        return 1 - (self.fall or 0.0) if self.state == "falling" else 1.0

    @property
    def rests_high(self) -> bool:
        """The loss came down, but rests above half of its start: it fell, then stuck."""
        return self.halting and self.resting

    @property
    def comes_to_nothing(self) -> bool:
        """Training is stuck or diverging, from the start or after a fall that came to little."""
        return self.not_working or self.rests_high

    @property
    def fall(self) -> float | None:
        """Share of the starting loss that is gone; negative when the loss has risen."""
        if self.start is None or self.end is None or self.start == 0:
            return None
        return (self.start - self.end) / abs(self.start)


def training_state(records: Sequence[StepRecord], limit: Limits) -> TrainingState:
    """Return what training does; steps that a gradient scaler skipped are left out."""
    kept = [record for record in records if not record.skipped]
    losses = [record.loss for record in kept if math.isfinite(record.loss)]
    bad = next((record.step for record in kept if not math.isfinite(record.loss)), None)
    if bad is not None and any(not math.isfinite(record.loss) for record in kept[-3:]):
        start = losses[0] if losses else None
        end = losses[-1] if losses else None
        return TrainingState("diverging", len(losses), start, end, min(losses, default=None), bad)
    if len(losses) < limit("training-min-steps"):
        start, end = (losses[0], losses[-1]) if losses else (None, None)
        return TrainingState("too-short", len(losses), start, end, min(losses, default=None), bad)
    return _judge(losses, bad, limit)


def _judge(losses: list[float], bad: int | None, limit: Limits) -> TrainingState:
    count = len(losses)
    noise = _noise(losses)
    width = max(3, min(count // 5, 200))
    third = count // 3

    def significant(difference: float, *widths: int) -> bool:
        error = math.sqrt(math.pi / 2) * noise * math.sqrt(sum(1 / w for w in widths))
        return difference > 3 * error

    start = median(losses[:_FIRST])
    if losses[0] < start / 2 and significant(start - losses[0], 1, _FIRST):
        start = losses[0]  # the first steps blew the loss up: coming back is no progress
    end = median(losses[-width:])
    best = min(end, *(median(losses[i : i + width]) for i in range(0, count - width + 1, width)))
    size = abs(start)

    fell = start - end >= limit("training-material-fall") * size and (
        significant(start - end, _FIRST, width)
        or significant(median(losses[:third]) - median(losses[-third:]), third, third)
    )
    rose = end - best >= limit("training-material-rise") * size
    before, after = losses[count // 4 : 5 * count // 8], losses[5 * count // 8 :]
    late = median(before) - median(after)
    still = late >= limit("training-late-fall") * size
    still = still and start > end and significant(late, len(before), len(after))
    state: Training
    if rose and significant(end - best, width, width):
        state = "diverging"
    elif fell:
        state = "falling"
    elif count < limit("training-stuck-steps"):
        state = "too-short"
    else:
        state = "falling" if still else "stuck"
    resting = not still and count >= limit("training-stuck-steps")
    return TrainingState(state, count, start, end, best, bad, fell, resting)


def _noise(losses: Sequence[float]) -> float:
    """Standard deviation of one loss about its trend, by successive differences."""
    differences = [after - before for before, after in itertools.pairwise(losses)]
    centre = median(differences)
    return 1.4826 * median(abs(d - centre) for d in differences) / math.sqrt(2)
