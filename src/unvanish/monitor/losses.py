"""The loss of every step, read without stalling an accelerator.

On the CPU a loss is a number at once. Elsewhere it stays on its device as a scalar of its own (the
script may go on adding to its tensor) until the next sampled step brings all of them to the host
in one transfer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unvanish.monitor.listener import BackwardCall
from unvanish.monitor.optimizers import local
from unvanish.records import StepRecord

Reading = float | Tensor  # a number, or a scalar still on its device


def read_loss(call: BackwardCall) -> Reading:
    """Return the scalar whose gradient `call` computes, unscaled.

    A root that comes with a cotangent stands for their inner product; several roots for the sum.
    """
    with torch.no_grad():
        if call.scaled is not None:
            return _keep(call.scaled.unscaled)
        total: Tensor | None = None
        for root, cotangent in zip(call.roots, call.cotangents, strict=True):
            value = local(root)
            if cotangent is not None:
                value = value * local(cotangent)
            value = value.sum() if value.dim() else value
            total = value if total is None else total + value.to(total.device)
        return _keep(total) if total is not None else 0.0


def _keep(value: Tensor) -> Reading:
    scalar = local(value)
    scalar = scalar.real if scalar.is_complex() else scalar
    if scalar.device.type == "cpu":
        return float(scalar.sum())
    return scalar.sum().clone()


def scale_of(call: BackwardCall) -> Reading:
    """Return the factor of the gradient scaler, without reading it from a device."""
    if call.scaled is None:
        return 1.0
    scale = getattr(call.scaled.scaler, "_scale", None)
    return at_hand(scale) if isinstance(scale, Tensor) else 1.0


def at_hand(tensor: Tensor) -> Reading:
    """Return a scalar: as a number if it is on the CPU, else a copy that stays on its device."""
    scalar = tensor.detach().reshape(-1)[0]
    return float(scalar) if scalar.device.type == "cpu" else scalar.clone()


@dataclass(slots=True, eq=False)
class StepNote:
    """One step as it was seen; `skipped` may still be on its device."""

    step: int
    losses: list[Reading]  # of the backward passes that add up to the step's loss
    sampled: bool
    backwards: int
    skipped: bool | Tensor = False


@dataclass(slots=True)
class StepHistory:
    """The steps of one model: records, and notes whose numbers are still on a device."""

    records: list[StepRecord] = field(default_factory=list)
    _waiting: list[StepNote] = field(default_factory=list)

    def add(self, note: StepNote) -> None:
        """Keep `note`; on the CPU it becomes a record at once."""
        self._waiting.append(note)
        self._record_what_is_ready()

    def arrive(self) -> None:
        """Bring all numbers to the host, one transfer for each device."""
        found = arrive([item for note in self._waiting for item in (*note.losses, note.skipped)])
        values = iter(found)
        for note in self._waiting:
            note.losses = [next(values) for _ in note.losses]
            note.skipped = bool(next(values))
        self._record_what_is_ready()

    def _record_what_is_ready(self) -> None:
        ready = 0
        for note in self._waiting:
            if any(isinstance(item, Tensor) for item in (*note.losses, note.skipped)):
                break
            ready += 1
            self.records.append(
                StepRecord(
                    step=note.step,
                    loss=float(sum(note.losses)),
                    sampled=note.sampled,
                    skipped=bool(note.skipped),
                    backwards=note.backwards,
                )
            )
        del self._waiting[:ready]


def arrive(readings: Sequence[Reading]) -> list[float]:
    """Return readings as numbers, with one transfer for each device."""
    by_device: dict[torch.device, list[int]] = {}
    for position, reading in enumerate(readings):
        if isinstance(reading, Tensor):
            by_device.setdefault(reading.device, []).append(position)
    values = [0.0 if isinstance(item, Tensor) else float(item) for item in readings]
    for device, positions in by_device.items():
        wide = torch.float32 if device.type == "mps" else torch.float64
        waiting = [readings[position] for position in positions]
        stacked = torch.stack([item.to(wide) for item in waiting if isinstance(item, Tensor)])
        for position, value in zip(positions, stacked.cpu().tolist(), strict=True):
            values[position] = value
    return values
