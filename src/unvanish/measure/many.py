"""Norms of thousands of tensors in a few calls, with the range that `reduce` keeps.

One call a tensor would cost more than the step that is watched. So tensors are sorted once by what
one call can take together:

- small ones on the CPU, by shape: stacked, and reduced in float64 row by row (float64 holds the
  square of every float32);
- large ones on the CPU: in float32, and those outside the safe band again, scaled;
- on CUDA, `_foreach` reductions in float64, which stay on the device;
- whatever else there is (sparse, complex, other devices) one by one.

What is on a device stays there until `transfer.Transfer` has sent it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

import torch
from torch import Tensor

from unvanish.measure.reduce import Reducer, cpu_log10_norm, dense, log10

_SMALL = 4096  # entries up to which copying a tensor is cheaper than a call for it alone
_REAL = frozenset({torch.float64, torch.float32, torch.float16, torch.bfloat16})


@dataclass(slots=True)
class Plan:
    """Positions of tensors, by the way they are reduced."""

    count: int
    empty: list[int] = field(default_factory=list)
    small: list[list[int]] = field(default_factory=list)  # each of one shape and type
    large: list[int] = field(default_factory=list)
    device: list[list[int]] = field(default_factory=list)  # each of one CUDA device
    single: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> Plan:
        """Sort `tensors`."""
        plan = cls(len(tensors))
        shapes: dict[tuple[object, ...], list[int]] = {}
        devices: dict[torch.device, list[int]] = {}
        for position, tensor in enumerate(tensors):
            if (
                hasattr(tensor, "to_local")
                or tensor.layout != torch.strided
                or tensor.dtype not in _REAL
                or tensor.device.type not in ("cpu", "cuda")
            ):
                plan.single.append(position)
            elif tensor.numel() == 0:
                plan.empty.append(position)
            elif tensor.device.type == "cuda":
                devices.setdefault(tensor.device, []).append(position)
            elif tensor.numel() <= _SMALL:
                shapes.setdefault((tensor.shape, tensor.dtype), []).append(position)
            else:
                plan.large.append(position)
        plan.small = list(shapes.values())
        plan.device = list(devices.values())
        return plan

    def fits(self, tensors: Sequence[Tensor]) -> bool:
        """Whether `tensors` are still of the kind that was sorted, as far as one of each tells."""
        if len(tensors) != self.count:
            return False
        firsts = [*(group[0] for group in [*self.small, *self.device]), *self.large[:1]]
        kinds = [("cpu", torch.strided)] * len(self.small)
        kinds += [("cuda", torch.strided)] * len(self.device)
        kinds += [("cpu", torch.strided)] * len(self.large[:1])
        return all(
            (tensors[position].device.type, tensors[position].layout) == kind
            for position, kind in zip(firsts, kinds, strict=True)
        )


class Many:
    """One number for each of many tensors; those of a device are still there."""

    def __init__(self, count: int) -> None:
        self._values: list[float] = [-math.inf] * count
        self._waiting: list[tuple[list[int], Tensor, Callable[[float], float]]] = []
        self._singles: list[tuple[list[int], Reducer]] = []

    def vectors(self) -> list[Tensor]:
        """Return what is on a device."""
        return [vector for _positions, vector, _finish in self._waiting]

    def resolve(self, arrived: Iterator[Sequence[float]]) -> list[float]:
        """Return all numbers; `arrived` gives the values of each of `vectors()`, in order."""
        for positions, _vector, finish in self._waiting:
            self.set(positions, map(finish, next(arrived)))
        self._waiting = []
        for positions, reducer in self._singles:
            self.set(positions, reducer.resolve())
        self._singles = []
        return self._values

    def set(self, positions: Sequence[int], values: Iterator[float] | Sequence[float]) -> None:
        """Put down values that are on the host."""
        for position, value in zip(positions, values, strict=True):
            self._values[position] = value

    def wait(self, positions: list[int], vector: Tensor, finish: Callable[[float], float]) -> None:
        """Take values that are on a device; `finish` is applied to each when it has arrived."""
        self._waiting.append((positions, vector, finish))

    def take(self, positions: Sequence[int], other: Many) -> None:
        """Take over what another holds; its tensors are those at `positions` here."""
        self.set(positions, other._values)
        for inner, vector, finish in other._waiting:
            self.wait([positions[i] for i in inner], vector, finish)
        for inner, reducer in other._singles:
            self.wait_singly([positions[i] for i in inner], reducer)

    def wait_singly(self, positions: list[int], reducer: Reducer) -> None:
        """Take the slots of a reducer, one for each position, in order."""
        self._singles.append((positions, reducer))


@torch.no_grad()
def norms(tensors: Sequence[Tensor], plan: Plan) -> Many:
    """Return log10 of the Frobenius norm of each tensor."""
    many = Many(len(tensors))
    for group in plan.small:
        rows = stacked(tensors, group)
        found = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
        many.set(group, _logs(rows, found))
    if plan.large:
        many.set(
            plan.large, [cpu_log10_norm(tensors[position].detach()) for position in plan.large]
        )
    for group in plan.device:
        values = torch._foreach_norm([tensors[i].detach() for i in group], 2, torch.float64)
        many.wait(group, torch.stack(values), log10)
    if plan.single:
        reducer = Reducer()
        for position in plan.single:
            reducer.norm(tensors[position])
        many.wait_singly(plan.single, reducer)
    return many


def stacked(tensors: Sequence[Tensor], group: Sequence[int]) -> Tensor:
    """Return tensors of one shape as the rows of a matrix, a copy."""
    chosen = [tensors[group[0]]] if len(group) == 1 else itemgetter(*group)(tensors)
    return torch.stack(chosen).reshape(len(group), -1)


def _logs(rows: Tensor, found: Tensor) -> list[float]:
    if rows.dtype != torch.float64:  # squares of all others fit into float64
        return found.log10().tolist()
    return [cpu_log10_norm(row) for row in rows]


@dataclass(frozen=True, slots=True)
class Counts:
    """Entries of each tensor that are exactly zero, subnormal, not finite; as log10."""

    zeros: Many
    subnormals: Many
    nonfinite: Many


@torch.no_grad()
def counts(tensors: Sequence[Tensor], plan: Plan) -> Counts:
    """Count what a norm does not show."""
    found = Counts(*(Many(len(tensors)) for _ in range(3)))
    kinds = (found.zeros, found.subnormals, found.nonfinite)
    for group in plan.small:
        for many, numbers in zip(kinds, _count(stacked(tensors, group)), strict=True):
            many.set(group, numbers.to(torch.float64).log10().tolist())
    rest = [*plan.large, *plan.single, *(i for group in plan.device for i in group)]
    by_device: dict[torch.device, list[tuple[int, tuple[Tensor, ...]]]] = {}
    for position in rest:
        entries = dense(tensors[position].detach()).reshape(1, -1)
        if entries.is_complex():
            entries = torch.view_as_real(entries).reshape(1, -1)
        by_device.setdefault(entries.device, []).append((position, _count(entries)))
    for device, items in by_device.items():
        positions = [position for position, _numbers in items]
        for number, many in enumerate(kinds):
            vector = torch.cat([numbers[number] for _position, numbers in items])
            if device.type == "cpu":
                many.set(positions, vector.to(torch.float64).log10().tolist())
            else:
                many.wait(positions, vector, log10)
    return found


def _count(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return by row how many entries are zero, subnormal, not finite."""
    zeros = rows.shape[1] - torch.count_nonzero(rows, dim=1)
    if not rows.is_floating_point():
        nothing = torch.zeros_like(zeros)
        return zeros, nothing, nothing
    sizes = rows.abs()
    below = torch.count_nonzero(sizes < torch.finfo(rows.dtype).tiny, dim=1)
    finite = torch.count_nonzero(sizes < math.inf, dim=1)  # false of NaN too
    return zeros, below - zeros, rows.shape[1] - finite


@dataclass(frozen=True, slots=True)
class Copies:
    """Many tensors as they were."""

    plan: Plan
    rows: list[Tensor]  # of `plan.small`
    others: dict[int, Tensor]


@torch.no_grad()
def copies(tensors: Sequence[Tensor], plan: Plan) -> Copies:
    """Copy `tensors`, to compare them with what they become."""
    others = [*plan.large, *plan.single, *(i for group in plan.device for i in group)]
    return Copies(
        plan,
        [stacked(tensors, group) for group in plan.small],
        {position: dense(tensors[position].detach()).clone() for position in others},
    )


@torch.no_grad()
def changes(before: Copies, tensors: Sequence[Tensor]) -> Many:
    """Return log10 of the norm of what each tensor has changed by. The copies are used up."""
    plan = before.plan
    many = Many(plan.count)
    for group, rows in zip(plan.small, before.rows, strict=True):
        rows.sub_(stacked(tensors, group))
        found = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
        many.set(group, _logs(rows, found))
    rest = list(before.others)
    differences = [
        before.others[position].sub_(dense(tensors[position].detach())) for position in rest
    ]
    inner = norms(differences, Plan.of(differences))
    many.take(rest, inner)
    before.others.clear()
    return many
