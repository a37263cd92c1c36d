"""What one rank learns of the others at each sample, and which of it is worth saying."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from unvanish import words
from unvanish.codec import decode_record, encode_record
from unvanish.i18n import _
from unvanish.monitor.convoy import Sample
from unvanish.monitor.parcel import WELL, Row
from unvanish.monitor.strays import Stray, Strays
from unvanish.records import Finding, Incident, Readings


@dataclass(frozen=True, slots=True)
class RankSignal:
    """One rank at one sample. Unknown numbers are nan."""

    rank: int
    loss: float  # of its own batch
    level_log10: float  # ||dL/dh|| where its trunk begins, of its own batch
    seconds: float  # from the end of a step to its backward: loading data, and forward
    failed: bool  # its monitor has failed, and tells nothing else


@dataclass(frozen=True, slots=True)
class Notice:
    """What a rank tells the others at any length."""

    finding: Finding | None = None
    incident: Incident | None = None

    def encoded(self) -> bytes:
        """Return it as bytes; an incident without its history, which its rank keeps."""
        incident = self.incident
        if incident is not None:
            last = incident.steps[-1:]
            incident = replace(incident, steps=last, readings=(), traces=())
        return encode_record(Notice(self.finding, incident))


class Peers:
    """Remembers what was said of the ranks, so that it is said once."""

    def __init__(self) -> None:
        self.signals: tuple[RankSignal, ...] = ()
        self._strays = (Strays("loss"), Strays("level"), Strays("seconds"))
        self._failed: set[int] = set()
        self._unlike: set[int] = set()

    def see(self, sample: Sample) -> list[str]:
        """Take in a sample; return what is new, in words."""
        rows = sample.rows
        self.signals = tuple(_signal(rank, row) for rank, row in enumerate(rows))
        lines = []
        for rank in sample.failed:
            if rank not in self._failed:
                self._failed.add(rank)
                lines.append(
                    _(
                        "the monitor of rank {rank} failed; what needs its numbers is left out"
                    ).format(rank=rank)
                )
        for rank in sample.unlike:
            if rank not in self._unlike:
                self._unlike.add(rank)
                lines.append(
                    _("step {step}: the weights of rank {rank} are not those of rank 0").format(
                        step=sample.step, rank=rank
                    )
                )
        columns = zip(self._strays, _columns(rows), strict=True)
        named = [stray for strays, values in columns for stray in strays.judge(values)]
        return lines + [_describe(sample.step, stray) for stray in named]

    def notices(self, sample: Sample) -> list[tuple[int, Notice]]:
        """Return what the ranks tell, in the order of ranks. Raises NotOurFileError."""
        return [(rank, decode_record(data, Notice)) for rank, data in sample.messages]


def readings_of_ranks(sample: Sample) -> tuple[Readings, ...]:
    """Return the numbers by rank as records: the loss as it is, the others as log10."""
    names = tuple(f"rank {rank}" for rank in range(len(sample.rows)))
    loss, level, seconds = _columns(sample.rows)
    times = [math.log10(value) if value > 0 else math.nan for value in seconds]
    columns = {"rank_loss": loss, "rank_level": level, "rank_seconds": times}
    return tuple(
        Readings(quantity, sample.step, names, tuple(values))
        for quantity, values in columns.items()
        if not all(map(math.isnan, values))
    )


def _columns(rows: Sequence[Row]) -> tuple[list[float], list[float], list[float]]:
    return (
        [row.loss for row in rows],
        [row.level for row in rows],
        [row.seconds for row in rows],
    )


def _signal(rank: int, row: Row) -> RankSignal:
    return RankSignal(rank, row.loss, row.level, row.seconds, failed=row.state != WELL)


def _describe(step: int, stray: Stray) -> str:
    texts = {
        "loss": _("step {step}: rank {rank} strays: its loss is {value}, the others' {others}"),
        "level": _(
            "step {step}: rank {rank} strays: its backward signal is {value}, the others' {others}"
        ),
        "seconds": _(
            "step {step}: rank {rank} strays: it takes {value} before its backward, the others"
            " {others}"
        ),
    }
    show = {"loss": words.loss, "level": words.level, "seconds": _seconds}[stray.quantity]
    return texts[stray.quantity].format(
        step=step, rank=stray.rank, value=show(stray.value), others=show(stray.others)
    )


def _seconds(value: float) -> str:
    return _("{seconds} s").format(seconds=f"{value:.3g}")
