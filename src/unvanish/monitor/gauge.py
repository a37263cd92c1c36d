"""All parameters of a model at once: levels of gradients, weights and updates, and counts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.optim import Optimizer

from unvanish.measure import many
from unvanish.measure.many import Copies, Counts, Many, Plan
from unvanish.measure.reduce import join_log10
from unvanish.monitor.optimizers import parameters_of
from unvanish.records import Readings

_PLANS_MOST = 8  # by which parameters have a gradient; a model that keeps changing is re-planned


@dataclass(slots=True, eq=False)
class Look:
    """One look at all parameters: what was read, part of it still on its device."""

    names: tuple[str, ...]
    parameters: tuple[Tensor, ...]
    thorough: bool
    weight: Many
    with_gradient: list[int] = field(default_factory=list)  # positions
    gradient: Many = field(default_factory=lambda: Many(0))
    counts: Counts | None = None
    before: Copies | None = None
    update: Many | None = None

    def vectors(self) -> list[Tensor]:
        """Return what is on a device, in the order in which `resolve` wants it."""
        return [vector for part in self._parts() for vector in part.vectors()]

    def resolve(self, arrived: Iterator[Sequence[float]], scale_log10: float) -> Levels:
        """Return the numbers; gradients still hold a scaler's factor of `scale_log10`."""
        gradient, weight, *rest = [part.resolve(arrived) for part in self._parts()]
        if scale_log10:
            gradient = [value - scale_log10 for value in gradient]
        with_gradient = (
            self.names
            if len(self.with_gradient) == len(self.names)
            else tuple([self.names[i] for i in self.with_gradient])
        )
        levels = Levels(self.names, with_gradient)
        levels.gradient, levels.weight = tuple(gradient), tuple(weight)
        if self.counts is not None:
            levels.zeros, levels.subnormals, levels.nonfinite = map(tuple, rest[:3])
        if self.update is not None:
            levels.change = tuple(rest[-1])
            levels.update = tuple(map(_ratio, levels.change, weight))
        return levels

    def _parts(self) -> list[Many]:
        parts = [self.gradient, self.weight]
        if self.counts is not None:
            parts += [self.counts.zeros, self.counts.subnormals, self.counts.nonfinite]
        return parts if self.update is None else [*parts, self.update]


@dataclass(slots=True)
class Levels:
    """A look whose numbers have arrived; all log10, counts too."""

    names: tuple[str, ...]
    with_gradient: tuple[str, ...]
    gradient: tuple[float, ...] = ()  # of those with a gradient, unscaled
    weight: tuple[float, ...] = ()
    zeros: tuple[float, ...] = ()
    subnormals: tuple[float, ...] = ()
    nonfinite: tuple[float, ...] = ()
    change: tuple[float, ...] = ()  # norm of what the step did
    update: tuple[float, ...] = ()  # the same over the weight before it

    def readings(self, step: int) -> tuple[Readings, ...]:
        """Return what was read as records."""
        found = [Readings("weight", step, self.names, self.weight)]
        if self.with_gradient:
            found.append(Readings("gradient", step, self.with_gradient, self.gradient))
        if self.update:
            found.append(Readings("update", step, self.names, self.update))
        for quantity in ("zeros", "subnormals", "nonfinite"):
            values = getattr(self, quantity)
            if values:
                found.append(Readings(quantity, step, self.with_gradient, values))
        return tuple(found)

    def joint_gradient(self) -> float | None:
        """Return log10 of the norm of all gradients together; None if there is none."""
        return join_log10(list(self.gradient)) if self.gradient else None

    def first_nonfinite(self) -> tuple[str, str] | None:
        """Return the first parameter that is not finite, and in what: weight or gradient."""
        for quantity, names, values in (
            ("weight", self.names, self.weight),
            ("gradient", self.with_gradient, self.gradient),
        ):
            total = sum(values)
            if total == total and total != math.inf:
                continue  # none is NaN or +inf: a look at thousands of names is saved
            for name, value in zip(names, values, strict=True):
                if math.isnan(value) or value == math.inf:
                    return name, quantity
        return None


class Gauge:
    """Measures the parameters of one model and of its optimisers."""

    def __init__(self, model: nn.Module) -> None:
        self._names: dict[int, str] = {}
        self._all: tuple[tuple[str, ...], tuple[Tensor, ...]] = ((), ())
        self._signature: object = None
        self._weights: Plan | None = None
        self._gradients: dict[tuple[int, ...], Plan] = {}
        self.learn(model)

    def learn(self, model: nn.Module) -> None:
        """Look up the names of the parameters: some may have been added."""
        self._names = {
            id(parameter): name for name, parameter in model.named_parameters(remove_duplicate=True)
        }
        self._signature = None

    def look(self, model: nn.Module, optimizers: Sequence[Optimizer], *, thorough: bool) -> Look:
        """Look before the step; `thorough` counts entries and copies weights for `finish`."""
        if thorough:
            self.learn(model)
        names, parameters = self._parameters(model, optimizers)
        self._weights = _plan(self._weights, parameters)
        look = Look(
            names=names,
            parameters=parameters,
            thorough=thorough,
            weight=many.norms(parameters, self._weights),
            before=many.copies(parameters, self._weights) if thorough else None,
        )
        self.look_again(look)
        return look

    def look_again(self, look: Look) -> None:
        """Read the gradients as they are now."""
        gradients = [parameter.grad for parameter in look.parameters]
        given = [gradient for gradient in gradients if gradient is not None]
        complete = len(given) == len(gradients)
        missing = () if complete else tuple([i for i, g in enumerate(gradients) if g is None])
        if len(self._gradients) > _PLANS_MOST:
            self._gradients.clear()
        plan = self._gradients[missing] = _plan(self._gradients.get(missing), given)
        absent = frozenset(missing)
        look.with_gradient = [i for i in range(len(gradients)) if i not in absent]
        look.gradient = many.norms(given, plan)
        look.counts = many.counts(given, plan) if look.thorough else None

    def finish(self, look: Look) -> None:
        """Compare with the weights as they were at the look."""
        if look.before is not None:
            look.update = many.changes(look.before, look.parameters)
            look.before = None

    def _parameters(
        self, model: nn.Module, optimizers: Sequence[Optimizer]
    ) -> tuple[tuple[str, ...], tuple[Tensor, ...]]:
        groups = [group["params"] for optimizer in optimizers for group in optimizer.param_groups]
        signature = [(len(group), id(group[0]), id(group[-1])) for group in groups if group]
        if signature != self._signature:
            self._signature = signature
            self._all = self._collect(model, optimizers)
            self._gradients.clear()
            self._weights = None
        return self._all

    def _collect(
        self, model: nn.Module, optimizers: Sequence[Optimizer]
    ) -> tuple[tuple[str, ...], tuple[Tensor, ...]]:
        found: dict[int, tuple[str, Tensor]] = {
            id(parameter): (self._names[id(parameter)], parameter)
            for parameter in model.parameters()
            if parameter.requires_grad and id(parameter) in self._names
        }
        for optimizer in optimizers:
            for position, (group, _lr, parameter) in enumerate(parameters_of(optimizer)):
                name = self._names.get(id(parameter), f"group {group}, parameter {position}")
                if parameter.requires_grad:
                    found.setdefault(id(parameter), (name, parameter))
        real = [item for item in found.values() if item[1].device.type != "meta"]
        return tuple(name for name, _ in real), tuple(parameter for _, parameter in real)


def _plan(known: Plan | None, tensors: Sequence[Tensor]) -> Plan:
    return known if known is not None and known.fits(tensors) else Plan.of(tensors)


def _ratio(change: float, weight: float) -> float:
    if change == -math.inf:
        return -math.inf
    return math.inf if weight == -math.inf else change - weight
