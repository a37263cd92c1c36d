"""Slope statistics: for an element-wise op, grad_in / grad_out *is* the slope, entry by entry.

So nothing needs to be known of the activation, except its steepest slope where saturation is
asked for. Entries whose incoming gradient is zero or too small to divide by say nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unvanish.measure.forward import thinned
from unvanish.measure.reduce import Reducer
from unvanish.records import INPUT_BINS, INPUT_REACH

# 0 < |slope| < SATURATION * sup|slope|: for the sigmoid that is |z| > 4 (design: vocabulary).
SATURATION = 0.0707
# Shares are formed over at most this many entries (whole samples, evenly spaced): the standard
# error of a share is then below 0.004. Dead units are always sought in all samples.
_ENTRIES = 1 << 14


@dataclass(frozen=True, slots=True)
class SlopeSlots:
    """Where a reducer will deliver the counts, and which units were on (bool, by unit)."""

    entries: int
    valid: int
    on: int
    below: int | None
    squares: int
    units_seen: int
    units_on: int
    units: int
    on_mask: Tensor
    seen_mask: Tensor


@dataclass(frozen=True, slots=True)
class SlopeStatistics:
    """Shares over unit-sample pairs with a usable gradient."""

    units: int
    off: float
    saturated: float | None
    dead: float
    rms: float


def queue_slopes(
    grad_in: Tensor, grad_out: Tensor, unit_dimension: int, supremum: float | None, reducer: Reducer
) -> SlopeSlots:
    """Queue the statistics of one element-wise op.

    `grad_in` and `grad_out` have one shape; units lie along `unit_dimension`, everything else
    counts as samples. `supremum` is that of |slope|, None where saturation is not defined.
    """
    units = grad_out.shape[unit_dimension] if grad_out.dim() else 1
    several = grad_out.dim() > 1
    samples = max(1, _ENTRIES // max(1, grad_out[0].numel())) if several else 1
    stride = max(1, -(-len(grad_out) // samples)) if several else 1
    slope, valid = _slopes(grad_in[::stride], grad_out[::stride])
    below = None
    if supremum is not None:
        below = reducer.scalar(torch.count_nonzero(slope < SATURATION * supremum))
    on_mask = _largest_by_unit(grad_in, unit_dimension) > 0
    seen_mask = _largest_by_unit(grad_out, unit_dimension) >= _floor(grad_out.dtype)
    return SlopeSlots(
        entries=slope.numel(),
        valid=reducer.scalar(torch.count_nonzero(valid)),
        on=reducer.scalar(torch.count_nonzero(slope)),
        below=below,
        squares=reducer.scalar((slope * slope).sum()),
        units_seen=reducer.scalar(torch.count_nonzero(seen_mask)),
        # A unit may pass on what is too small to be seen; then it is neither on nor dead here.
        units_on=reducer.scalar(torch.count_nonzero(on_mask & seen_mask)),
        units=units,
        on_mask=on_mask,
        seen_mask=seen_mask,
    )


def statistics(slots: SlopeSlots, values: list[float]) -> SlopeStatistics | None:
    """Return the shares from the reducer's values; None where no entry was usable."""
    valid, on = values[slots.valid], values[slots.on]
    if not valid > 0:
        return None
    saturated = None
    if slots.below is not None:
        # Invalid and off entries stand as slope 0 and so lie below the threshold too.
        saturated = (values[slots.below] - (slots.entries - on)) / valid
    seen = values[slots.units_seen]
    return SlopeStatistics(
        units=slots.units,
        off=(valid - on) / valid,
        saturated=saturated,
        dead=(seen - values[slots.units_on]) / seen if seen else 0.0,
        rms=(values[slots.squares] / valid) ** 0.5,
    )


@dataclass(frozen=True, slots=True)
class InputSlots:
    """Where a reducer will deliver the counts of a histogram and the sums of slopes."""

    entries: int
    counts: range
    slopes: range
    valid: range  # entries by bin whose slope is known


def queue_inputs(
    values: Tensor, grad_in: Tensor, grad_out: Tensor, reducer: Reducer
) -> InputSlots | None:
    """Queue the histogram of `values`, entries of z, and the slopes of the same entries.

    The gradients are whole; None where they are of another size than z.
    """
    arriving, leaving = thinned(grad_out), thinned(grad_in)
    if arriving is None or leaving is None or not len(arriving) == len(leaving) == len(values):
        return None
    wide = values.double() if values.dtype == torch.float64 else values.float()
    places = ((wide + INPUT_REACH) * (INPUT_BINS / (2 * INPUT_REACH))).floor()
    places = places.nan_to_num(0.0).clamp(0, INPUT_BINS - 1).long()
    seen = ~torch.isnan(wide)
    valid = seen & _usable(arriving)
    slope = torch.where(valid, leaving / arriving, 0.0)
    columns = [part.to(torch.float32) for part in (seen, slope, valid)]
    sums = [
        torch.zeros(INPUT_BINS, device=values.device).scatter_add_(0, places, column)
        for column in columns
    ]
    return InputSlots(len(values), *[reducer.vector(one) for one in sums])


def _slopes(grad_in: Tensor, grad_out: Tensor) -> tuple[Tensor, Tensor]:
    """Return |grad_in / grad_out| (0 where not usable) and where it is usable."""
    valid = _usable(grad_out)
    return (grad_in.abs() / grad_out.abs()).masked_fill_(~valid, 0.0), valid


def _usable(grad_out: Tensor) -> Tensor:
    """Return which entries of an incoming gradient can be divided by."""
    return grad_out.abs() >= _floor(grad_out.dtype)


def _floor(dtype: torch.dtype) -> float:
    """Return the smallest incoming gradient that can be divided by.

    It leaves room for a slope of 1e-3 above the smallest normal number; float16 has none to give.
    """
    return torch.finfo(dtype).tiny * (4.0 if dtype == torch.float16 else 1024.0)


def _largest_by_unit(gradient: Tensor, dimension: int) -> Tensor:
    if gradient.dim() <= 1:
        return gradient.abs().reshape(-1)
    others = [other for other in range(gradient.dim()) if other != dimension]
    return gradient.abs().amax(dim=others)
