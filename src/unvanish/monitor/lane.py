"""One model over a run: the optimiser that trains it, its steps, and what was traced of it."""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unvanish.i18n import _
from unvanish.measure import NameBook, PendingTrace
from unvanish.measure.sharding import plain_class
from unvanish.monitor.losses import StepHistory, arrive
from unvanish.monitor.optimizers import ids_of, not_finite
from unvanish.monitor.whole import restated
from unvanish.records import (
    GradientState,
    ModelRun,
    OptimizerFacts,
    ParameterFacts,
    ParameterSignal,
    Trace,
)

_TRACES_MOST = 64
_LATEST_KEPT = 16
_BEST_FIRST: tuple[GradientState, ...] = ("some", "nonfinite", "zero", "none")


@dataclass(slots=True, eq=False)
class Lane:
    """A model in the making. `step` is the number of its next step."""

    optimizers: list[weakref.ref[Optimizer]]
    optimizer: OptimizerFacts | None = None
    name: str = ""
    type: str = ""
    step: int = 0
    last_seen: int = 0  # backward passes of the whole script when it last stepped
    passed_over: int = 0  # traced passes through its places that others claimed since
    history: StepHistory = field(default_factory=StepHistory)
    traces: list[Trace] = field(default_factory=list)
    reached: frozenset[int] = frozenset()  # ids of the parameters that its last trace reached
    roots: frozenset[int] = frozenset()  # ids of the root modules in its last trace
    parameters: dict[str, ParameterFacts] = field(default_factory=dict)
    orphans: frozenset[int] | None = None  # ids that the optimisers hold and no trace knew
    alone: bool = True  # other ranks do not add their shards: those of this one are left out
    units: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    # layer key -> which units were ever on, and which were seen at all, on the device

    def trains(self, optimizer: Optimizer) -> bool:
        """Whether `optimizer` is one of those that step this model."""
        return any(reference() is optimizer for reference in self.optimizers)

    def held(self) -> frozenset[int]:
        """Return the ids of the parameters that this model's optimisers hold."""
        alive = [optimizer for reference in self.optimizers if (optimizer := reference())]
        return frozenset(identity for optimizer in alive for identity in ids_of(optimizer))

    def see(
        self,
        pending: PendingTrace,
        trace: Trace,
        names: NameBook,
        held: frozenset[int],
        optimised: frozenset[int] | None,
    ) -> None:
        """Take in a traced pass.

        `held` are the ids of the parameters in this model's optimisers, `optimised` of those in
        any (None: there is no optimiser).
        """
        spread = pending.spread
        if spread and self.alone:
            missing = _("no levels of parameters spread over ranks: the others are not watched")
            trace = replace(restated(trace, None, spread), notes=(*trace.notes, missing))
        self._see_models(pending, names, held)
        self._see_parameters(pending, trace, names, held, optimised)
        self.see_units(pending)
        self.keep(trace)

    def keep(self, trace: Trace) -> None:
        """Add `trace`; of many, the middle is thinned out."""
        self.traces.append(trace)
        if len(self.traces) > _TRACES_MOST:
            # The start and what went wrong stay.
            earlier, latest = self.traces[:-_LATEST_KEPT], self.traces[-_LATEST_KEPT:]
            kept = [
                one
                for position, one in enumerate(earlier)
                if position % 2 == 0 or one.nonfinite is not None
            ]
            self.traces = [*kept, *latest]

    def restate(self, seen: Trace, whole: Trace) -> None:
        """Put `whole` in the place of a trace that was seen, where its parameters are stated anew.

        The facts of its parameters follow.
        """
        self.traces = [whole if one is seen else one for one in self.traces]
        for signal in whole.parameters:
            known = self.parameters.get(signal.name)
            if known is not None:
                state = min(gradient_state(signal), known.gradient, key=_BEST_FIRST.index)
                self.parameters[signal.name] = replace(
                    known, weight_log10=signal.weight_log10, gradient=state
                )

    def _see_models(self, pending: PendingTrace, names: NameBook, held: frozenset[int]) -> None:
        own = [
            model
            for model in pending.models
            if any(id(parameter) in held for parameter in model.parameters())
        ] or list(pending.models)
        if not self.name:
            self.name = " + ".join(names.root_name(model) for model in own)
            self.type = " + ".join(map(plain_class, own))

    def _see_parameters(
        self,
        pending: PendingTrace,
        trace: Trace,
        names: NameBook,
        held: frozenset[int],
        optimised: frozenset[int] | None,
    ) -> None:
        signals = {signal.name: signal for signal in trace.parameters}
        called = set(pending.called_modules())
        own = _own(pending, names, held, optimised or frozenset())
        models = (model for model in (*pending.models, *pending.idle_models))
        known_ids = {id(parameter) for model in models for parameter in model.parameters()}
        orphans = held - own.keys() - known_ids
        self.orphans = orphans if self.orphans is None else self.orphans & orphans
        for identity, (name, owner) in own.items():
            parameter = getattr(owner, name.rpartition(".")[2])
            signal = signals.get(name)
            known = self.parameters.get(name)
            state: GradientState = "none" if signal is None else gradient_state(signal)
            weight = None if signal is None else signal.weight_log10
            self.parameters[name] = ParameterFacts(
                name=name,
                module=name.rpartition(".")[0],
                type=plain_class(owner),
                numel=parameter.numel(),
                requires_grad=parameter.requires_grad or bool(known and known.requires_grad),
                registered=names.is_registered(owner),
                in_optimizer=None if optimised is None else identity in optimised,
                # Some modules use a child's parameters without calling the child.
                called=bool(known and known.called)
                or owner in called
                or identity in pending.parameters,
                gradient=state
                if known is None
                else min(state, known.gradient, key=_BEST_FIRST.index),
                weight_log10=weight if weight is not None or known is None else known.weight_log10,
            )

    def see_units(self, pending: PendingTrace) -> None:
        """Remember which units the batch of `pending` switched on."""
        for key, (on, seen) in pending.units_on().items():
            known = self.units.get(key)
            if known is not None and known[0].shape == on.shape:
                on, seen = on | known[0], seen | known[1]
            self.units[key] = (on, seen)

    @torch.no_grad()
    def dead_shares(self) -> dict[str, Tensor]:
        """Return by layer the share of units that no traced batch ever switched on."""
        return {
            key: (~on & seen).sum() / seen.sum().clamp(min=1)
            for key, (on, seen) in self.units.items()
        }

    def _always_dead(self) -> dict[str, float]:
        """Return `dead_shares` as numbers, in one transfer."""
        shares = self.dead_shares()
        return dict(zip(shares, arrive([*shares.values()]), strict=True))

    def model_run(self, always_dead: Mapping[str, float] | None = None) -> ModelRun:
        """Return what is known so far as a record; `always_dead` if it has been read already."""
        return ModelRun(
            name=self.name,
            type=self.type,
            traces=tuple(self.traces),
            steps=tuple(self.history.records),
            optimizer=self.optimizer and replace(self.optimizer, orphans=len(self.orphans or ())),
            parameters=tuple(self.parameters.values()),
            always_dead=self._always_dead() if always_dead is None else always_dead,
        )


def _own(
    pending: PendingTrace, names: NameBook, held: frozenset[int], optimised: frozenset[int]
) -> dict[int, tuple[str, nn.Module]]:
    """Return, by id, names and owners of what a model's optimisers hold, or nobody's do.

    What only another model's optimiser holds (the discriminator that a generator's loss passes) is
    not this model's. What was called, but has no part in the loss, is.
    """
    found = {
        identity: item
        for identity, item in pending.named_parameters.items()
        if identity in held or identity not in optimised
    }
    for model in pending.idle_models:
        for identity, (name, owner) in names.parameter_names(model.modules()).items():
            if identity in held:
                found[identity] = (f"{names.root_name(model)}.{name}", owner)
    return found


def gradient_state(signal: ParameterSignal) -> GradientState:
    """Return in one word what gradient a parameter got."""
    if signal.grad_log10 is None:
        return "none"
    if not_finite(signal.grad_log10):
        return "nonfinite"
    return "zero" if signal.grad_log10 == -math.inf else "some"
