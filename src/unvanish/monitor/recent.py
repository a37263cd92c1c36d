"""The last steps of a long run, and a thinned record of all of them.

Memory stays the same however long the run is. When a loss or a gradient leaves what was usual, or
is not finite, the last steps become an incident.
"""

from __future__ import annotations

import math
import os
import shlex
import sys
from collections import deque
from collections.abc import Sequence
from statistics import median

from unvanish.records import Incident, NonFinite, Readings, StepRecord, Trace

_RING = 64
_READINGS = 24
_TRACES = 4
_HISTORY = 4096
_ENOUGH = 16  # steps that say what is usual
_SPREADS = 8.0
_REST = 32  # usual steps after which a further spike is a new one


class History:
    """Steps of a whole run: each one at first, then every second, every fourth, …"""

    def __init__(self, most: int = _HISTORY) -> None:
        self.records: list[StepRecord] = []
        self._most = most
        self._stride = 1
        self._bad: list[StepRecord] = []  # the first ones that were not finite, all kept

    def add(self, record: StepRecord) -> None:
        """Take in the next step."""
        if not math.isfinite(record.loss) and len(self._bad) < _RING:
            self._bad.append(record)
        if record.step % self._stride == 0:
            self.records.append(record)
        if len(self.records) > self._most:
            self._stride *= 2
            self.records = [kept for kept in self.records if kept.step % self._stride == 0]

    def steps(self) -> tuple[StepRecord, ...]:
        """Return what is kept, in order."""
        kept = {record.step: record for record in [*self.records, *self._bad]}
        return tuple(kept[step] for step in sorted(kept))


class Recent:
    """A ring of the last steps; tells when one of them is an incident."""

    def __init__(self) -> None:
        self.steps: deque[StepRecord] = deque(maxlen=_RING)
        self._readings: deque[Readings] = deque(maxlen=_READINGS)
        self._traces: deque[Trace] = deque(maxlen=_TRACES)
        self._losses: deque[float] = deque(maxlen=_RING)
        self._gradients: deque[float] = deque(maxlen=_RING)
        self._spiked: dict[str, int] = {}  # quantity -> usual steps since its last spike
        self._broken = False

    def saw(self, readings: Sequence[Readings], traces: Sequence[Trace]) -> None:
        """Keep what was read at the latest look."""
        self._readings.extend(readings)
        self._traces.extend(traces)

    def add(
        self, record: StepRecord, bad: tuple[str, str] | None = None, seen_at: int | None = None
    ) -> Incident | None:
        """Take in the next step; return an incident if it is the first bad one of its kind.

        `bad` is the first parameter that is not finite, and in what ("gradient", "weight").
        """
        self.steps.append(record)
        seen = record.step if seen_at is None else seen_at
        broken = not math.isfinite(record.loss) or (bad is not None and not record.skipped)
        if broken:
            first, self._broken = not self._broken, True
            return self._nonfinite(record, bad, seen) if first else None
        found = self._spike("loss", record.loss, self._losses, record, seen)
        if record.gradient_log10 is not None and math.isfinite(record.gradient_log10):
            jump = self._spike("gradient", record.gradient_log10, self._gradients, record, seen)
            found = found or jump
        return found

    def _nonfinite(self, record: StepRecord, bad: tuple[str, str] | None, seen: int) -> Incident:
        quantity = "loss" if not math.isfinite(record.loss) or bad is None else bad[1]
        guilty: NonFinite | None = next(
            (trace.nonfinite for trace in self._traces if trace.nonfinite is not None), None
        )
        return self._incident(
            record, seen, "nonfinite", quantity, record.loss, None, bad and bad[0], guilty
        )

    def _spike(
        self, quantity: str, value: float, before: deque[float], record: StepRecord, seen: int
    ) -> Incident | None:
        limit, usual = _limit(quantity, before)
        high = value > limit
        if not high:
            before.append(value)
            self._spiked[quantity] = self._spiked.get(quantity, _REST) + 1
            return None
        fresh = self._spiked.get(quantity, _REST) >= _REST
        self._spiked[quantity] = 0
        if len(before) == before.maxlen:
            before.append(value)  # a new plateau becomes usual in the end
        return self._incident(record, seen, "spike", quantity, value, usual) if fresh else None

    def _incident(
        self,
        record: StepRecord,
        seen: int,
        kind: str,
        quantity: str,
        value: float,
        usual: float | None,
        parameter: str | None = None,
        guilty: NonFinite | None = None,
    ) -> Incident:
        return Incident(
            step=record.step,
            seen_at=seen,
            kind="spike" if kind == "spike" else "nonfinite",
            quantity=quantity,
            value=value,
            usual=usual,
            parameter=parameter,
            guilty=guilty,
            command=command_for(record.step),
            steps=tuple(self.steps),
            readings=tuple(self._readings),
            traces=tuple(self._traces),
        )


def _limit(quantity: str, before: Sequence[float]) -> tuple[float, float]:
    """Return what is a spike, and what is usual, after the values `before`."""
    if len(before) < _ENOUGH:
        return math.inf, math.nan
    usual = median(before)
    spread = 1.4826 * median(abs(value - usual) for value in before)
    # A gradient is given as log10: a spike is a decade at least. A loss has to double at least.
    least = 1.0 if quantity == "gradient" else max(abs(usual), 1e-6)
    return usual + max(_SPREADS * spread, least), usual


def command_for(step: int) -> str:
    """Return the command that runs this script again with `step` sampled; "" without a script."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    script, arguments = sys.argv[0] if sys.argv else "", sys.argv[1:]
    if spec is not None and spec.name != "__main__":
        name = spec.name.removesuffix(".__main__")
        words = ["-m", name, *arguments]
    elif script.endswith(".py"):
        words = [script, *arguments]
    else:
        return ""  # a notebook, or a line of code
    run = ["unvanish", "run", "--at", str(step), "--steps", str(step + 1), *words]
    ranks = os.environ.get("LOCAL_WORLD_SIZE")
    if "TORCHELASTIC_RUN_ID" in os.environ and ranks is not None:
        run = ["torchrun", f"--nproc-per-node={ranks}", "-m", *run]
    return shlex.join(run)
