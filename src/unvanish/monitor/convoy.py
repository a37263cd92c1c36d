"""The ranks keep step: what one has read becomes known to all, at the same steps everywhere.

At the end of a sampled step each rank begins one collective and goes on. It is read back at the end
of the second step after it, when under DDP and FSDP every rank has begun it long since, so that
nobody waits. All that is decided by it (which steps are sampled next, alarms) is decided then, by
the same numbers on every rank.

A rank whose monitor has failed goes on to give its row, which says so. Where a rank does not answer
in time, or is gone, the others stop to share and go on alone.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from unvanish.i18n import _
from unvanish.measure.sharding import Shard
from unvanish.monitor.cadence import Cadence, Prices
from unvanish.monitor.flight import Arrived
from unvanish.monitor.pace import Pace
from unvanish.monitor.parcel import FAILED, WELL, Layout, Part, Row
from unvanish.monitor.ranks import Place, Ranks, RanksError, Sum
from unvanish.monitor.whole import copies_of, parts_of, restated, whole_levels
from unvanish.records import Trace

_JOIN_MOST = 30.0  # seconds to come together; ranks that train together end a step together
_MESSAGES_MOST = 16  # that are heard with one sample, however many ranks call out at once
LAG = 2  # steps from a sample to what is decided by it
_COPIES_DIFFER = 1e-6  # decades: far beyond what the same sums round to on unlike machines


@dataclass(frozen=True, slots=True)
class Sample:
    """What all ranks know of one sampled step."""

    step: int
    rows: tuple[Row, ...]
    sums: Mapping[str, Part]
    messages: tuple[tuple[int, bytes], ...] = ()  # that were posted since the last one, by rank

    @property
    def failed(self) -> tuple[int, ...]:
        """The ranks whose monitors have failed."""
        return tuple(rank for rank, row in enumerate(self.rows) if row.state != WELL)

    @property
    def unlike(self) -> tuple[int, ...]:
        """The ranks whose copies of the weights are not those of the first rank."""
        first = self.rows[0].copies
        return tuple(
            rank
            for rank, row in enumerate(self.rows)
            if math.isfinite(row.copies)
            and math.isfinite(first)
            and abs(row.copies - first) > _COPIES_DIFFER
        )


@dataclass(frozen=True, slots=True)
class _Launched:
    step: int
    sum: Sum


class Convoy:
    """This rank among the others. Used by one thread at a time."""

    def __init__(
        self,
        ranks: Ranks | None,
        layout: Layout,
        shards: Mapping[str, Shard],
        cadence: Cadence,
        pace: Pace,
        timeout: float,
        say: Callable[[str], None],
    ) -> None:
        """`ranks` None: they did not come together, and this one watches alone."""
        self.layout = layout
        self.cadence = cadence
        self._ranks = ranks
        self._shards = shards
        self._pace = pace
        self._timeout = timeout
        self._say = say
        self._queue: deque[Arrived] = deque()
        self._launched: deque[_Launched] = deque()
        self._owed: deque[int] = deque()
        self._samples: dict[int, Sample] = {}
        self._posted = 0
        self._heard = [0] * layout.ranks
        self._given = -1  # the last step that the others had our row of
        if ranks is None:
            cadence.part()

    @property
    def together(self) -> bool:
        """Whether the ranks still share."""
        return self._ranks is not None

    def post(self, message: bytes) -> None:
        """Have all ranks, this one too, hear `message` with the next sample."""
        if self._ranks is None:
            return
        try:
            self._ranks.post(self._posted, message)
            self._posted += 1
        except RanksError as error:
            self._part(str(error))

    def _fetch(self, rows: Sequence[Row]) -> tuple[tuple[int, bytes], ...]:
        """Return what was posted and not heard yet, with the rank that did."""
        found: list[tuple[int, bytes]] = []
        if self._ranks is None:
            return ()
        try:
            for rank, row in enumerate(rows):
                first, room = self._heard[rank], _MESSAGES_MOST - len(found)
                new = range(first, min(int(row.messages), first + room))
                found += [(rank, self._ranks.fetch(rank, number)) for number in new]
                self._heard[rank] += len(new)
        except RanksError as error:
            self._part(str(error))
        return tuple(found)

    # --- what this rank gives ------------------------------------------------------------------

    def owe(self, step: int) -> None:
        """Take note that `step` is a sampled one, so that the others wait for our row."""
        if step > self._given and step not in self._owed:
            self._owed.append(step)

    def take(self, arrived: Arrived) -> None:
        """Take a step whose numbers are here; a sampled one goes to the others."""
        self._queue.append(arrived)
        if arrived.record.step in self._owed:
            self._owed.remove(arrived.record.step)
            self._give(self._row(arrived), self._parts(arrived))

    def give_failed(self) -> None:
        """Tell the others of every step owed that our monitor has failed."""
        while self._owed:
            self._give(Row(step=self._owed.popleft(), state=FAILED, messages=self._posted), {})

    def _give(self, row: Row, parts: Mapping[str, Part]) -> None:
        self._given = int(row.step)
        if self._ranks is None:
            return
        numbers = self.layout.pack(self._ranks.place.rank, row, parts)
        try:
            total = self._ranks.add_up(torch.tensor(numbers, dtype=torch.float64))
        except RanksError as error:
            self._part(str(error))
            return
        self._launched.append(_Launched(int(row.step), total))

    def _row(self, arrived: Arrived) -> Row:
        levels, prices = arrived.step.levels, self.cadence.prices()
        return Row(
            step=arrived.record.step,
            state=FAILED if levels is None else WELL,
            seconds=self._pace.seconds(),
            loss=arrived.record.loss,
            level=_front_level(arrived.trace),
            copies=math.nan if levels is None else copies_of(levels, self._shards),
            cost=prices.cost,
            bare=prices.bare,
            spent=prices.spent,
            elapsed=prices.elapsed,
            messages=self._posted,
        )

    def _parts(self, arrived: Arrived) -> dict[str, Part]:
        levels = arrived.step.levels
        return {} if levels is None else parts_of(levels, self._shards)

    # --- what comes back -----------------------------------------------------------------------

    def step_over(self, step: int) -> list[Arrived]:
        """Read back what is due after `step`; return the steps that are complete by it."""
        while self._launched and self._launched[0].step + LAG <= step:
            self._read_back(self._timeout)
        return self._complete()

    def finish(self, patience: float) -> list[Arrived]:
        """Read back all that comes within `patience` seconds, and leave the others."""
        deadline = time.monotonic() + patience
        while self._launched:
            self._read_back(max(0.0, deadline - time.monotonic()), ending=True)
        self._leave()
        return self._complete()

    def _read_back(self, timeout: float, *, ending: bool = False) -> None:
        launched = self._launched.popleft()
        began = time.monotonic()
        try:
            numbers = launched.sum.values(timeout)
        except RanksError as error:
            self._leave() if ending else self._part(str(error))
            return
        finally:
            self.cadence.waited(time.monotonic() - began)
        rows, sums = self.layout.unpack(numbers)
        if any(row.step != launched.step for row in rows):
            counted = ", ".join(str(int(row.step)) for row in rows)
            self._part(_("they count their steps apart: {steps}").format(steps=counted))
            return
        messages = self._fetch(rows)
        self._samples[launched.step] = Sample(launched.step, tuple(rows), sums, messages)
        well = [row for row in rows if row.state == WELL]
        if well:
            self.cadence.adopt(
                launched.step + LAG,
                Prices(
                    max(row.cost for row in well),
                    max(row.bare for row in well),
                    max(row.spent for row in well),
                    min(row.elapsed for row in well),
                ),
            )
        if messages:  # of alarms and incidents
            self.cadence.alarmed(launched.step + LAG)

    def _complete(self) -> list[Arrived]:
        """Return the steps at the front of the queue that wait for nothing more."""
        waiting = self._launched[0].step if self._launched else math.inf
        found: list[Arrived] = []
        while self._queue and self._queue[0].record.step < waiting:
            found.append(self._whole(self._queue.popleft()))
        return found

    def _whole(self, arrived: Arrived) -> Arrived:
        """Return the step with the numbers of the whole model, as far as they are known."""
        sample = self._samples.pop(arrived.record.step, None)
        step = arrived.step
        if step.levels is not None:
            sums = None if sample is None or sample.failed else sample.sums
            step.levels = whole_levels(step.levels, self._shards, sums)
        record = arrived.record
        if step.levels is not None:
            record = replace(record, gradient_log10=step.levels.joint_gradient())
        trace = arrived.trace
        if trace is not None:
            trace = restated(trace, step.levels, self._shards)
        return replace(arrived, record=record, trace=trace, local=arrived.trace, sample=sample)

    # --- the end of it -------------------------------------------------------------------------

    def _part(self, reason: str) -> None:
        """Go on alone, and say why."""
        if self._ranks is None:
            return
        self._leave()
        self.say_alone(reason)

    def say_alone(self, reason: object) -> None:
        """Say that the ranks do not share, and what is missing for it."""
        text = _("each rank is watched alone ({reason})").format(reason=reason)
        if self._shards:
            text += _("; levels of parameters that are spread over ranks are left out")
        self._say(text)

    def _leave(self) -> None:
        if self._ranks is not None:
            self._ranks.leave()
            self.cadence.part()
        self._ranks = None
        self._launched.clear()


def gather(
    parameters: tuple[Mapping[str, Shard], bool],
    here: Place,
    cadence: Cadence,
    pace: Pace,
    timeout: float,
    say: Callable[[str], None],
) -> Convoy:
    """Come together with the other ranks; where they do not come, say so and go alone.

    `parameters` are those that are spread over ranks, and whether one of them is float64.
    """
    shards, wide = parameters
    names = tuple(name for name, shard in shards.items() if shard.summable)
    missing = len(shards) - len(names)
    if missing:
        text = _("levels of {count} parameters are left out: their parts do not add up")
        say(text.format(count=missing))
    ranks, trouble = None, None
    try:
        ranks = Ranks.join([names, wide, timeout], min(timeout, _JOIN_MOST), timeout)
    except RanksError as error:
        trouble = error
    layout = Layout(here.ranks, names, wide)
    convoy = Convoy(ranks, layout, shards, cadence, pace, timeout, say)
    if trouble is not None:
        convoy.say_alone(trouble)
    return convoy


def _front_level(trace: Trace | None) -> float:
    """Return log10 of the unscaled signal that arrives at the trunk's first op; nan if unknown."""
    if trace is None:
        return math.nan
    scale = math.log10(trace.loss_scale) if trace.phase == "scaled" and trace.loss_scale > 0 else 0
    if trace.main_path is not None:
        return trace.main_path.source_level_log10 - scale
    level = trace.output_level_log10
    return math.nan if level is None else level - scale
