"""Norms that survive the regime this tool exists for, and cross to the host once.

A float32 norm squares first: it returns 0 for 4,096 entries of 1e-23 and infinity at 1e20. So
every result here is a decimal logarithm of a norm that was rescaled where it had to be:

- on the CPU, float32 first, and a second, scaled, pass only outside the safe band (float64
  throughout costs five times as much);
- on accelerators in float64, and where there is none, scaled by the largest entry. Results stay on
  the device, and `Reducer.resolve` stacks them into one transfer a device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from unvanish.measure.transfer import Transfer

# Squares of float32 entries below 1e-19 are subnormal or zero. Lost entries add less than
# n * 1.2e-38 to a sum of squares; relative to norm**2 that is below float32's rounding (6e-8)
# while norm > sqrt(n) * 4.5e-16. Above, norm**2 must stay below float32's 3.4e38.
_FLOAT32_FLOOR = 4.5e-16
_FLOAT32_CEILING = 1e18
# The same argument for float64: sqrt(2.2e-308 / 1.1e-16) and sqrt(1.8e308).
_FLOAT64_FLOOR = 1.5e-146
_FLOAT64_CEILING = 1e153
# Where products of entries can be summed as they are, and by the fastest routine.
_DOT_BAND = 12.0
_DOT_TYPES = frozenset({torch.float32, torch.float64})
_FLOAT64_ONLY_ABSENT_ON = frozenset({"mps"})


def dense(tensor: Tensor) -> Tensor:
    """Return the entries of `tensor` as a dense real or complex tensor (sparse: coalesced).

    Of a tensor spread over ranks (DTensor), this rank's: reading the whole would be a collective.
    """
    shard = getattr(tensor, "to_local", None)
    if shard is not None:
        tensor = shard()
    if tensor.layout != torch.strided:
        return tensor.coalesce().values() if tensor.layout == torch.sparse_coo else tensor.values()
    return tensor


def log10(value: float) -> float:
    """Return log10 of a norm: -inf for zero; inf and nan stay what they are."""
    if value == 0.0:
        return -math.inf
    return math.log10(value) if math.isfinite(value) else value


def log10_norm(tensor: Tensor) -> float:
    """Return log10 of the Frobenius norm at once (one host read on an accelerator).

    `-inf` for all zeros or no entries, `inf` where an entry is infinite, `nan` where one is NaN.
    """
    reducer = Reducer()
    slot = reducer.norm(tensor)
    return reducer.resolve()[slot]


def join_log10(values: list[float]) -> float:
    """Return the log10 of the joint norm of parts given by their log10 norms."""
    top = math.nan if any(map(math.isnan, values)) else max(values, default=-math.inf)
    if not math.isfinite(top):
        return top
    return top + 0.5 * math.log10(sum([10.0 ** (2.0 * (value - top)) for value in values]))


@dataclass(frozen=True, slots=True)
class _Scaled:
    """A norm on the device as mantissa times scale: two scalars to be transferred."""

    mantissa: Tensor
    scale: Tensor | None


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry of a vector that is queued as a whole in slot `first`."""

    first: int
    index: int


class Reducer:
    """Collects reductions while a backward runs; `resolve` brings all of them to the host.

    Each method returns a slot: the index of its result in what `resolve` returns.
    """

    def __init__(self) -> None:
        self._results: list[float | _Scaled | Tensor | _Entry] = []
        self._sent: list[tuple[int, Tensor]] = []
        self._transfer: Transfer | None = None

    def norm(self, tensor: Tensor) -> int:
        """Queue log10 of the Frobenius norm of `tensor` (any shape, layout, dtype)."""
        entries = dense(tensor.detach())
        if entries.numel() == 0:
            return self._add(-math.inf)
        if not (entries.is_floating_point() or entries.is_complex()):
            entries = entries.to(torch.float32)
        if entries.device.type == "cpu":
            return self._add(cpu_log10_norm(entries))
        return self._add(_device_norm(entries))

    def share(self, part: Tensor, whole: Tensor, norm: int) -> int:
        """Queue <part, whole> / ||whole||^2, two tensors of one shape (0 where whole is 0).

        `norm` is the slot of the norm of `whole`.
        """
        part, whole = part.detach(), whole.detach()
        level = self.known(norm)
        plain = part.layout == whole.layout == torch.strided and whole.dtype in _DOT_TYPES
        if level is not None and abs(level) < _DOT_BAND and plain and whole.device.type == "cpu":
            product = torch.dot(part.reshape(-1).to(whole.dtype), whole.reshape(-1))
            return self._add(float(product) / 10.0 ** (2.0 * level))
        if part.layout != torch.strided or whole.layout != torch.strided:
            part, whole = part.to_dense(), whole.to_dense()
        exact = _accumulator(whole)
        top = whole.abs().amax().to(exact)
        scale = torch.where(top > 0, top, torch.ones_like(top))
        left, right = part.to(exact) / scale, whole.to(exact) / scale
        if whole.is_complex():
            left, right = torch.view_as_real(part / scale), torch.view_as_real(whole / scale)
        square = (right * right).sum()
        ratio = (left * right).sum() / torch.where(square > 0, square, torch.ones_like(square))
        return self.scalar(ratio)

    def scalar(self, value: Tensor | float) -> int:
        """Queue a number that is on the device already (or on the host)."""
        if isinstance(value, Tensor):
            return self._add(float(value) if value.device.type == "cpu" else value.detach())
        return self._add(value)

    def vector(self, values: Tensor) -> range:
        """Queue the entries of a vector, which may be on a device, and return their slots."""
        start = len(self._results)
        if values.device.type == "cpu":
            self._results.extend(values.tolist())
        else:
            self._add(values.detach())
            self._results.extend(_Entry(start, i) for i in range(1, len(values)))
        return range(start, start + len(values))

    def known(self, slot: int) -> float | None:
        """Return a result that is on the host already; None while it is on a device."""
        result = self._results[slot]
        return result if isinstance(result, float) else None

    def send(self) -> None:
        """Start the transfer of all results; nothing may be queued after it."""
        if self._transfer is None:
            self._sent = [
                (slot, part) for slot, result in enumerate(self._results) for part in _parts(result)
            ]
            self._transfer = Transfer([part for _slot, part in self._sent])

    def ready(self) -> bool:
        """Whether `resolve` would not have to wait."""
        return self._transfer is not None and self._transfer.ready()

    def resolve(self) -> list[float]:
        """Return all results in slot order, with one transfer for each device."""
        self.send()
        assert self._transfer is not None
        arrived: dict[int, list[float]] = {}
        for (slot, _part), values in zip(self._sent, self._transfer.arrived(), strict=True):
            arrived.setdefault(slot, []).extend(values)
        return [
            result
            if isinstance(result, float)
            else arrived[result.first][result.index]
            if isinstance(result, _Entry)
            else _arrive(result, arrived[slot])
            for slot, result in enumerate(self._results)
        ]

    def _add(self, result: float | _Scaled | Tensor) -> int:
        assert self._transfer is None, "queued after it was sent"
        self._results.append(result)
        return len(self._results) - 1


def _parts(result: float | _Scaled | Tensor | _Entry) -> tuple[Tensor, ...]:
    """Return what of a result is on a device."""
    if isinstance(result, _Scaled):
        return (result.mantissa,) if result.scale is None else (result.mantissa, result.scale)
    return (result,) if isinstance(result, Tensor) else ()


def _arrive(result: _Scaled | Tensor, values: list[float]) -> float:
    if isinstance(result, Tensor):
        return values[0]
    if len(values) == 1:
        return log10(values[0])
    mantissa, scale = (log10(value) for value in values)
    return mantissa + scale if math.isfinite(scale) else scale


def _accumulator(tensor: Tensor) -> torch.dtype:
    """Return the widest real type that sums of this tensor can be formed in."""
    if tensor.dtype in (torch.float64, torch.complex128):
        return torch.float64
    return torch.float32 if tensor.device.type == "cpu" else _widest(tensor.device)


def _widest(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type in _FLOAT64_ONLY_ABSENT_ON else torch.float64


def cpu_log10_norm(entries: Tensor) -> float:
    """Return log10 of the norm of a strided tensor on the CPU that has entries."""
    wide = entries.dtype in (torch.float64, torch.complex128)
    floor, ceiling = (
        (_FLOAT64_FLOOR, _FLOAT64_CEILING) if wide else (_FLOAT32_FLOOR, _FLOAT32_CEILING)
    )
    if entries.dtype in (torch.float16, torch.bfloat16):
        value = float(torch.linalg.vector_norm(entries, dtype=torch.float32))
    else:
        value = float(torch.linalg.vector_norm(entries))
    if math.sqrt(entries.numel()) * floor < value < ceiling:
        return math.log10(value)
    # Outside the band: scale by the largest entry, in float64.
    sizes = entries.abs().to(torch.float64)
    top = float(sizes.amax())
    if top == 0.0 or not math.isfinite(top):
        return log10(top)
    return math.log10(top) + math.log10(float(torch.linalg.vector_norm(sizes / top)))


def _device_norm(entries: Tensor) -> _Scaled:
    wide = _widest(entries.device)
    if wide == torch.float64 and entries.dtype not in (torch.float64, torch.complex128):
        # float64 holds the square of every float32, and reads each entry once.
        dtype = torch.complex128 if entries.is_complex() else torch.float64
        return _Scaled(torch.linalg.vector_norm(entries, dtype=dtype), None)
    sizes = entries.abs().to(wide)
    top = sizes.amax()
    safe = torch.where(top > 0, top, torch.ones_like(top))
    return _Scaled(torch.linalg.vector_norm(sizes / safe), top)
