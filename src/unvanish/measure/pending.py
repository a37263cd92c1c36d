"""A measured backward whose numbers have not crossed to the host, and the one transfer."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from unvanish.i18n import _
from unvanish.measure import assemble, derivatives, inputs, nonfinite, predictions, routes, wiring
from unvanish.measure.calls import ModuleCall
from unvanish.measure.cover import Cover
from unvanish.measure.layers import ForwardNumbers, layers
from unvanish.measure.names import Names
from unvanish.measure.parameters import Parameters, ParameterUpdate
from unvanish.measure.path import Numbers
from unvanish.measure.replay import Replayed, replay
from unvanish.measure.routes import Opened
from unvanish.records import (
    AttentionHead,
    CustomBackward,
    InnerDerivative,
    LayerPrediction,
    LayerSignal,
    NonFinite,
    Trace,
)

if TYPE_CHECKING:
    from unvanish.measure.trace import BackwardTracer


class PendingTrace:
    """A measured backward whose numbers have not crossed to the host.

    `models` are the user's root modules that it covers, without wrappers; `idle_models` were called
    as well, but their outputs have no part in this loss (detached, or another model's turn).
    `named_parameters` gives by id the dotted name and the owner of each parameter of the `models`.
    """

    def __init__(
        self, tracer: BackwardTracer, step: int, loss: float | None, loss_scale: float
    ) -> None:
        self._tracer = tracer
        self._step = step
        self._loss = loss
        self._loss_scale = loss_scale
        self._replayed = Replayed()
        self._cover = cover = Cover(tracer)
        reducer = tracer.reducer
        self._root_slots = [reducer.scalar(root.sum()) for root in tracer.loss_values]
        self._forward = {
            id(call): call.signal.queue(reducer) for call in cover.calls if call.signal
        }
        known = tracer.structure.norms if tracer.structure is not None else {}
        self._own = Parameters(cover, reducer, known)
        self.models = cover.models
        self.idle_models = cover.idle_models
        self.named_parameters = cover.named_parameters

    # --- what a monitor needs ------------------------------------------------------------------

    @property
    def parameters(self) -> dict[int, Tensor]:
        """The parameters (leaves) that this backward reached, by id."""
        return self._cover.reached()

    @property
    def spread(self) -> frozenset[str]:
        """The names of parameters of which this process holds only a part."""
        return self._cover.spread()

    @property
    def signature(self) -> tuple[Any, ...]:
        """What tells two backward passes of one step apart: root modules, loss op, size."""
        return self._cover.signature()

    def called_modules(self) -> tuple[nn.Module, ...]:
        """Return every module that was called to be trained, once."""
        return self._cover.called_modules()

    def units_on(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return, by layer key "module#call", which units were on and which were seen at all.

        Both are boolean tensors by unit, on the device.
        """
        names = self._cover.names()
        measured = self._tracer.measured
        found = {}
        for vertex, slots in measured.slopes.items():
            call = measured.graph.ops[vertex].call
            key = f"{names.module(call) or ''}#{names.number(call)}"
            found[key] = (slots.on_mask, slots.seen_mask)
        return found

    def replay(self) -> None:
        """Probe the network and open fused layers on a replay of the same batch.

        Call it after the user's backward and before the optimiser's step. What cannot be replayed
        is noted, never raised.
        """
        self._replayed = replay(self._tracer)

    # --- the one transfer ----------------------------------------------------------------------

    def send(self) -> None:
        """Start to bring the numbers to the host; `replay` comes before it."""
        self._tracer.reducer.send()

    def ready(self) -> bool:
        """Whether `resolve` would not have to wait for them."""
        return self._tracer.reducer.ready()

    def resolve(
        self,
        updates: Mapping[int, ParameterUpdate] | None = None,
        opened_for: Collection[int] = (),
    ) -> Trace:
        """Bring the numbers to the host and return the trace.

        `updates` is by id of parameter. `opened_for` are the ids of the parameters for whose step
        this pass was the first: gradients left over from before are theirs.
        """
        tracer, names = self._tracer, self._cover.names()
        values = tracer.reducer.resolve()
        for index in self._replayed.element_wise(values):
            tracer.measured.graph.ops[index].factor = "slope"
        numbers = Numbers(tracer.measured, values)
        opened = self._opened(numbers, values)
        path, paths = routes.main_paths(numbers, names, opened)
        root = numbers.vertex_level(tracer.measured.vertex[tracer.measured.graph.roots[0]])
        everything = [numbers, *(item.numbers for item in opened.values())]
        return Trace(
            step=self._step,
            loss=self._loss_value(values),
            layers=self._layers(numbers, opened, values, updates or {}),
            main_path=path,
            paths=paths,
            output_level_log10=assemble.output_level(numbers),
            root_level_log10=math.nan if root is None else root,
            phase="unscaled" if self._loss_scale == 1.0 else "scaled",
            loss_scale=self._loss_scale,
            batch_size=next(
                (call.batch_size for call in self._cover.calls if call.batch_size), None
            ),
            loss_terms=assemble.loss_terms(numbers, names),
            segments=assemble.segments(numbers, names),
            recurrences=assemble.recurrences(numbers, names, opened),
            parameters=self._own.signals(values, updates or {}),
            probe=self._replayed.probe(values),
            spectrum=self._replayed.spectrum,
            nonfinite=self._nonfinite(numbers, names),
            op_count=len(tracer.measured.graph.ops),
            ops=tuple(gain for part in everything for gain in assemble.op_gains(part, names))
            if tracer.options.keep_ops
            else (),
            notes=self._notes(),
            derivatives=tuple(
                InnerDerivative(order, derivatives.level(slots, values))
                for order, slots in tracer.derivatives
            ),
            head=tracer.head.record(names.module) if tracer.head is not None else None,
            attention=tuple(
                AttentionHead(names.module(one.call) or "", names.number(one.call), head, value)
                for one in tracer.attention
                for head, slot in enumerate(one.heads)
                if math.isfinite(value := values[slot])
            ),
            custom=tuple(
                CustomBackward(
                    op=trial.name,
                    module=names.module(call),
                    call=names.number(call),
                    ignores_gradient=trial.ignores_gradient,
                    error=trial.error,
                )
                for call, trial in self._replayed.trials
            ),
            predictions=self._predictions(numbers, values),
            inputs=inputs.records(numbers, names),
            graph=wiring.op_graph(numbers, names, opened) if tracer.options.keep_ops else None,
            taken=self._own.step_gradient(
                values, updates or {}, tracer.leftover, opened_for, self._loss_scale
            ),
        )

    def _predictions(self, numbers: Numbers, values: list[float]) -> tuple[LayerPrediction, ...]:
        read = self._tracer.structure
        if read is None:
            return ()
        return predictions.predictions(
            read, numbers, self._cover.names(), self._forward_numbers(values)
        )

    def _forward_numbers(self, values: list[float]) -> dict[int, ForwardNumbers]:
        return {
            key: ForwardNumbers(values[rms], None if correlation is None else values[correlation])
            for key, (rms, correlation) in self._forward.items()
        }

    def _opened(self, numbers: Numbers, values: list[float]) -> dict[int, Opened]:
        """Return what was opened, by the row of the outer pass that it stands for."""
        row = self._tracer.measured.row
        found = {
            row[item.op]: Opened(Numbers(item.measured, values))
            for item in self._tracer.nested
            if item.op is not None
        }
        for op, measured in self._replayed.opened.items():
            found[row[op]] = Opened(Numbers(measured, values))
        return found

    def _layers(
        self,
        numbers: Numbers,
        opened: Mapping[int, Opened],
        values: list[float],
        updates: Mapping[int, ParameterUpdate],
    ) -> tuple[LayerSignal, ...]:
        forward = self._forward_numbers(values)
        tracer = self._tracer
        participation = self._replayed.participation(values, tracer.measured, tracer.calls)
        rows = layers(numbers, self._cover.names(), forward, opened, participation)
        owned = self._own.by_module(values, updates)
        return tuple(
            replace(layer, **owned.get(id(call.module), {})) if call is not None else layer
            for call, layer in rows
        )

    def _nonfinite(self, numbers: Numbers, names: Names) -> NonFinite | None:
        fault = self._tracer.fault
        if fault is not None:
            guilty = _guilty("forward", fault.name, fault.call, names, fault.kind, fault.detail)
            if guilty.module is None and fault.weight is not None:
                # In a step that was not to be traced no call was seen, but the weight tells whose.
                owner = names.book.owner_of(fault.weight)
                path = None if owner is None else names.book.path_of(owner)
                guilty = replace(guilty, module=path)
            return guilty
        found = nonfinite.backward_fault(self._tracer.measured, numbers)
        if found is None:
            return None
        op, kind = found
        graph = self._tracer.measured.graph
        users = [graph.ops[edge.parent] for edge in graph.consumers[op.index]]
        chosen = next((user.name for user in users if user.kind in nonfinite.CHOOSING), None)
        detail = "" if chosen is None else f"its result goes into {chosen}"
        return _guilty("backward", op.name, op.call, names, kind, detail)

    def _loss_value(self, values: list[float]) -> float:
        if self._loss is not None:
            return self._loss
        return sum(values[slot] for slot in self._root_slots) / self._loss_scale

    def _notes(self) -> tuple[str, ...]:
        passes = [*self._cover.passes(), *self._replayed.passes()]
        errors = [message for item in passes for message in item.errors]
        notes = [*self._tracer.notes, *dict.fromkeys(errors), *self._replayed.notes]
        opaque = sorted(
            {op.kind for op in self._tracer.measured.graph.ops if op.data and op.factor == "opaque"}
            - {"CheckpointFunction"}
        )
        if opaque:
            notes.append(_("opaque, measured as one factor: {ops}").format(ops=", ".join(opaque)))
        return tuple(notes)


def _guilty(
    direction: Literal["forward", "backward"],
    op: str,
    call: ModuleCall | None,
    names: Names,
    kind: str,
    detail: str,
) -> NonFinite:
    return NonFinite(
        direction=direction,
        op=op,
        module=names.module(call),
        call=names.number(call),
        kind="nan" if kind == "nan" else "inf",
        detail=detail,
        source=call.source if call is not None else None,
    )
