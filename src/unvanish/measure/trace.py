"""The tracer: hooks on for one backward pass, then one transfer, then a `Trace`.

tracer = BackwardTracer([loss], log)
with tracer:
    torch.autograd.backward([loss])       # the user's own backward
pending = tracer.pending(step=0)          # nothing has crossed to the host yet
pending.replay()                          # optional: probe, fused layers opened
trace = pending.resolve()                 # the one transfer
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from unvanish.errors import NoSignalError
from unvanish.i18n import _
from unvanish.measure import (
    assemble,
    derivatives,
    inputs,
    nonfinite,
    predictions,
    structure,
    wiring,
)
from unvanish.measure.attention import HeadSlots, queue_attention
from unvanish.measure.calls import CallLog, ModuleCall
from unvanish.measure.dynamo import uncompiled, uncompiled_itself
from unvanish.measure.graph import Graph
from unvanish.measure.head import HeadFacts, read_head
from unvanish.measure.names import NameBook, unwrapped
from unvanish.measure.passes import BackwardPass, ParameterSlots, prepare
from unvanish.measure.path import Numbers
from unvanish.measure.reduce import Reducer, join_log10
from unvanish.measure.replay import Replayed, outputs_wanted, replay
from unvanish.measure.sharding import gathered, is_partial
from unvanish.records import (
    AttentionHead,
    CustomBackward,
    InnerDerivative,
    LayerPrediction,
    LayerSignal,
    NonFinite,
    ParameterSignal,
    StepGradient,
    Trace,
)


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """What to measure beside the signal itself."""

    probes: int = 1  # random cotangents at the network's output, on a replay; 0: none
    spectrum: int = 0  # products with the network's Jacobian, on a replay; 0: no spectrum
    open_fused: bool = True  # open fused recurrent layers on a replay
    inputs: bool = True  # of activations: histograms
    predict: bool = True  # read off the network what theory needs to predict its gains
    keep_ops: bool = True  # keep every edge of the graph, and the graph itself, in the trace
    parameters: frozenset[int] = frozenset()  # ids of tensors known to be parameters


@dataclass(frozen=True, slots=True)
class ParameterUpdate:
    """What an optimiser's step did to one parameter."""

    update_ratio_log10: float
    lr: float | None = None
    group: int | None = None
    predicted_change: float | None = None  # inner product of `.grad` and what the step changed
    taken_log10: float | None = None  # norm of `.grad` when the step began; None: it had none
    erased: bool = False  # there was no `.grad` when the step began


@dataclass(slots=True)
class Nested:
    """A backward that ran inside an op of the outer one (reentrant checkpointing)."""

    measured: BackwardPass
    calls: list[ModuleCall]
    op: int | None  # the outer op


class BackwardTracer:
    """Context manager around one backward pass."""

    def __init__(
        self,
        roots: Sequence[Tensor],
        log: CallLog,
        names: NameBook | None = None,
        options: TraceOptions | None = None,
    ) -> None:
        """Walk the graph of `roots`.

        Raises NoSignalError if no root depends on anything that requires a gradient.
        """
        self.log = log
        self.calls = list(log.calls)
        self.options = options or TraceOptions()
        self.names = names or NameBook()
        self.reducer = Reducer()
        self.nested: list[Nested] = []
        self.checkpointed = list(log.checkpointed)
        self.notes = list(dict.fromkeys(log.errors))
        self.loss_values = [root.detach() for root in roots]
        self.leftover: dict[int, int] = {}
        self.derivatives: list[tuple[int, list[int]]] = []
        self.structure: structure.Structure | None = None
        self._running: list[int] = []
        self._original: Any = None
        if not any(root.grad_fn is not None for root in roots):
            raise NoSignalError(
                _("the loss does not depend on anything that requires a gradient"),
                _("Check for no_grad(), detach() or frozen parameters between model and loss."),
            )
        self.measured = prepare(
            roots, self.calls, self.reducer, known_parameters=self.options.parameters
        )
        tops = [unwrapped(call.module) for call in self.calls if call.parent is None]
        self.gathered = gathered(dict.fromkeys(self.names.root_of(top) for top in tops))
        if self.options.predict:
            self._read_structure()
        if self.options.open_fused:
            self.measured.wanted = outputs_wanted(self.measured, self.calls)
        self.fault = self._forward_fault()
        self.head: HeadFacts | None = None
        self.attention: list[HeadSlots] = []
        self._read_saved()
        self.calls, self.idle = _covered(self.calls, self.measured.graph)

    def _read_saved(self) -> None:
        """Read off the nodes, before the backward frees it, what rules ask for."""
        graph, nodes = self.measured.graph, self.measured.nodes
        try:
            if self.options.inputs:
                self.measured.inputs = inputs.find(graph, nodes, self.measured.vertex)
            self.head = read_head(graph, nodes)
            self.attention = queue_attention(graph, nodes, self.reducer)
        except Exception as error:  # reading more than the signal must never cost the signal
            self.notes.append(f"{type(error).__name__}: {error}")

    def _read_structure(self) -> None:
        batch = next((call.batch_size for call in self.calls if call.batch_size), None)
        if self.gathered:  # their memory is given back after the forward
            self.notes.append(_("no prediction by theory: the weights are spread over ranks"))
            return
        try:
            self.structure = structure.read(self.measured, batch)
        except Exception as error:  # a prediction is never worth a failed measurement
            self.notes.append(f"{type(error).__name__}: {error}")
        if self.structure is not None:
            self.measured.watched = self.structure.elements[-1].head

    def _forward_fault(self) -> nonfinite.ForwardFault | None:
        with torch.no_grad():
            if all(bool(torch.isfinite(root).all()) for root in self.loss_values):
                return None
            return nonfinite.locate_forward(self.measured.graph, self.measured.nodes, self.calls)

    def __enter__(self) -> BackwardTracer:
        self.measured.attach()
        self.log.recompute = []
        # Tensor.backward and checkpoints look the function up in the module.
        self._original = torch.autograd.backward
        vars(torch.autograd)["backward"] = self._backward_inside
        self._watch_checkpoints()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        vars(torch.autograd)["backward"] = self._original
        self.log.recompute = None
        self.measured.detach()

    def _watch_checkpoints(self) -> None:
        """Note which outer op is running, for the backward that a checkpoint starts inside it."""
        for op, node in zip(self.measured.graph.ops, self.measured.nodes, strict=True):
            if op.kind == "CheckpointFunction":
                self.measured.also(node.register_prehook(self._enters(op.index)))

    def _enters(self, index: int) -> Callable[[Any], None]:
        return uncompiled(lambda _gradients: self._running.append(index))

    @uncompiled_itself
    def _backward_inside(self, tensors: Any, *arguments: Any, **keywords: Any) -> None:
        """Measure a backward that starts while the traced one runs, as part of it."""
        inside = torch._C._current_graph_task_id() != -1
        roots = [tensors] if isinstance(tensors, Tensor) else list(tensors)
        roots = [root for root in roots if root.grad_fn is not None]
        if not inside or not roots:
            self._original(tensors, *arguments, **keywords)
            return
        calls, self.log.recompute = self.log.recompute or [], []
        measured = prepare(roots, calls, self.reducer, known_parameters=self.options.parameters)
        self.nested.append(Nested(measured, calls, self._running[-1] if self._running else None))
        measured.attach()
        try:
            self._original(tensors, *arguments, **keywords)
        finally:
            measured.detach()

    def take_derivatives(self) -> None:
        """Make the derivatives that were taken since the last backward part of this one."""
        self.derivatives = self.log.derivatives.queue(self.reducer)

    def note_leftover(self, parameters: Iterable[Tensor]) -> None:
        """Take the size of the `.grad` that `parameters` hold before this pass adds its own."""
        for parameter in parameters:
            if parameter.grad is not None:
                self.leftover[id(parameter)] = self.reducer.norm(parameter.grad)

    def leaves(self) -> list[Tensor]:
        """Return the leaf tensors of the graph, for a backward through `torch.autograd.grad`."""
        ops = self.measured.graph.ops
        return [op.variable for op in ops if op.variable is not None]

    def receive(self, gradients: Sequence[Tensor | None]) -> None:
        """Take the gradients of `leaves()` that such a backward returned; before leaving."""
        leaves = [op.index for op in self.measured.graph.ops if op.variable is not None]
        for index, gradient in zip(leaves, gradients, strict=True):
            self.measured.receive_leaf(index, gradient)

    def pending(
        self, *, step: int, loss: float | None = None, loss_scale: float = 1.0
    ) -> PendingTrace:
        """Return the measurement, still on its device. `loss` is unscaled (None: read the root)."""
        return PendingTrace(self, step, loss, loss_scale)


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
        names = tracer.names
        names.learn(
            [*tracer.calls, *tracer.idle, *(call for item in tracer.nested for call in item.calls)]
        )
        reducer = tracer.reducer
        self._root_slots = [reducer.scalar(root.sum()) for root in tracer.loss_values]
        self._forward = {
            id(call): call.signal.queue(reducer) for call in self._calls() if call.signal
        }
        self.models = self._roots(self._calls())
        idle = self._roots(tracer.idle)
        self.idle_models = tuple(model for model in idle if model not in self.models)
        self.named_parameters = self._name_parameters()
        known = tracer.structure.norms if tracer.structure is not None else {}
        self._weights = {
            identity: (name, known[identity] if identity in known else reducer.norm(parameter))
            for parameter, identity, name in self._trainable()
        }

    # --- what a monitor needs ------------------------------------------------------------------

    @property
    def parameters(self) -> dict[int, Tensor]:
        """The parameters (leaves) that this backward reached, by id."""
        found: dict[int, Tensor] = {}
        for measured in self._passes():
            for op in measured.graph.ops:
                if op.variable is not None and id(op.variable) in measured.parameters:
                    own = self._tracer.gathered.get(id(op.variable), op.variable)
                    found[id(own)] = own
        return found

    @property
    def spread(self) -> frozenset[str]:
        """The names of parameters of which this process holds only a part."""
        return frozenset(
            name
            for name, owner in self.named_parameters.values()
            if is_partial(getattr(owner, name.rpartition(".")[2], None))
        )

    @property
    def signature(self) -> tuple[Any, ...]:
        """What tells two backward passes of one step apart: root modules, loss op, size."""
        graph = self._tracer.measured.graph
        root = graph.ops[graph.roots[0]]
        return (tuple(id(model) for model in self.models), root.name, len(graph.ops))

    def called_modules(self) -> tuple[nn.Module, ...]:
        """Return every module that was called to be trained, once.

        That is with gradients enabled, or by a reentrant checkpoint, which enables them later.
        """
        called = [call.module for call in (*self._calls(), *self._tracer.idle)]
        return tuple(dict.fromkeys(map(unwrapped, [*called, *self._tracer.checkpointed])))

    def units_on(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return, by layer key "module#call", which units were on and which were seen at all.

        Both are boolean tensors by unit, on the device.
        """
        names = self._names()
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
        tracer, names = self._tracer, self._names()
        values = tracer.reducer.resolve()
        for index in self._replayed.element_wise(values):
            tracer.measured.graph.ops[index].factor = "slope"
        numbers = Numbers(tracer.measured, values)
        opened = self._opened(numbers, values)
        path, paths = assemble.main_paths(numbers, names, opened)
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
            batch_size=next((call.batch_size for call in self._calls() if call.batch_size), None),
            loss_terms=assemble.loss_terms(numbers, names),
            segments=assemble.segments(numbers, names),
            recurrences=assemble.recurrences(numbers, names, opened),
            parameters=self._parameter_signals(values, updates or {}),
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
            taken=self._step_gradient(values, updates or {}, opened_for),
        )

    def _step_gradient(
        self,
        values: list[float],
        updates: Mapping[int, ParameterUpdate],
        opened_for: Collection[int],
    ) -> StepGradient | None:
        """Return what the step took of the gradient, over the parameters that both concern."""
        slots = self._gradient_slots()
        taken = {
            key: update.taken_log10
            for key, update in updates.items()
            if update.taken_log10 is not None and key in slots
        }
        if not taken:
            return self._erased(values, updates, slots)
        left = [values[slot] for key, slot in self._tracer.leftover.items() if key in opened_for]
        scale = math.log10(self._loss_scale) if self._loss_scale > 0 else 0.0
        return StepGradient(
            fresh_log10=join_log10([values[slots[key].gradient] for key in taken]) - scale,
            taken_log10=join_log10(list(taken.values())),
            leftover_log10=join_log10(left) if opened_for else None,
            predicted_change=sum(updates[key].predicted_change or 0.0 for key in taken),
        )

    def _erased(
        self,
        values: list[float],
        updates: Mapping[int, ParameterUpdate],
        slots: Mapping[int, ParameterSlots],
    ) -> StepGradient | None:
        """Return that a step took nothing: no `.grad` was left of what this pass gave."""
        given = [values[slots[key].gradient] for key in updates if key in slots]
        if not given or not all(updates[key].erased for key in updates if key in slots):
            return None
        scale = math.log10(self._loss_scale) if self._loss_scale > 0 else 0.0
        return StepGradient(join_log10(given) - scale, -math.inf)

    def _predictions(self, numbers: Numbers, values: list[float]) -> tuple[LayerPrediction, ...]:
        read = self._tracer.structure
        if read is None:
            return ()
        return predictions.predictions(read, numbers, self._names(), self._forward_numbers(values))

    def _forward_numbers(self, values: list[float]) -> dict[int, assemble.ForwardNumbers]:
        return {
            key: assemble.ForwardNumbers(
                values[rms], None if correlation is None else values[correlation]
            )
            for key, (rms, correlation) in self._forward.items()
        }

    def _opened(self, numbers: Numbers, values: list[float]) -> dict[int, assemble.Opened]:
        """Return what was opened, by the row of the outer pass that it stands for."""
        row = self._tracer.measured.row
        found = {
            row[item.op]: assemble.Opened(Numbers(item.measured, values))
            for item in self._tracer.nested
            if item.op is not None
        }
        for op, measured in self._replayed.opened.items():
            found[row[op]] = assemble.Opened(Numbers(measured, values))
        return found

    def _layers(
        self,
        numbers: Numbers,
        opened: Mapping[int, assemble.Opened],
        values: list[float],
        updates: Mapping[int, ParameterUpdate],
    ) -> tuple[LayerSignal, ...]:
        forward = self._forward_numbers(values)
        tracer = self._tracer
        participation = self._replayed.participation(values, tracer.measured, tracer.calls)
        rows = assemble.layers(numbers, self._names(), forward, opened, participation)
        owned = self._own_parameters(values, updates)
        return tuple(
            replace(layer, **owned.get(id(call.module), {})) if call is not None else layer
            for call, layer in rows
        )

    def _own_parameters(
        self, values: list[float], updates: Mapping[int, ParameterUpdate]
    ) -> dict[int, dict[str, Any]]:
        """Return, by id of module, the fields of its row that concern its own parameters."""
        reached = self._gradient_slots()
        found: dict[int, dict[str, Any]] = {}
        for module in self._modules():
            own = [item for item in module.parameters(recurse=False) if id(item) in self._weights]
            if not own:
                continue
            keys = [id(item) for item in own]
            gradients = [values[reached[key].gradient] for key in keys if key in reached]
            fields: dict[str, Any] = {
                "weight_log10": join_log10([values[self._weights[key][1]] for key in keys]),
                "grad_log10": join_log10(gradients) if gradients else None,
            }
            known = [(key, updates[key]) for key in keys if key in updates]
            if known:
                # ||dw|| of all own parameters over ||w|| of all.
                steps = [
                    update.update_ratio_log10 + values[self._weights[key][1]]
                    for key, update in known
                    if math.isfinite(update.update_ratio_log10)
                    and math.isfinite(values[self._weights[key][1]])
                ]
                fields["update_ratio_log10"] = join_log10(steps) - fields["weight_log10"]
                fields["lr"] = known[0][1].lr
                fields["optimizer_group"] = known[0][1].group
            found[id(module)] = fields
        return found

    def _parameter_signals(
        self, values: list[float], updates: Mapping[int, ParameterUpdate]
    ) -> tuple[ParameterSignal, ...]:
        reached = self._gradient_slots()
        found = []
        for identity, (name, weight) in self._weights.items():
            slots, update = reached.get(identity), updates.get(identity)
            found.append(
                ParameterSignal(
                    name=name,
                    grad_log10=None if slots is None else values[slots.gradient],
                    weight_log10=values[weight],
                    zeros=None if slots is None else int(values[slots.zeros]),
                    subnormals=_count(values, slots.subnormals if slots else None),
                    nonfinite=_count(values, slots.nonfinite if slots else None) or 0,
                    update_ratio_log10=update.update_ratio_log10 if update else None,
                )
            )
        return tuple(found)

    def _nonfinite(self, numbers: Numbers, names: assemble.Names) -> NonFinite | None:
        fault = self._tracer.fault
        if fault is not None:
            guilty = _guilty("forward", fault.name, fault.call, names, fault.kind, fault.detail)
            if guilty.module is None and fault.weight is not None:
                # In a step that was not to be traced no call was seen, but the weight tells whose.
                owner = names.book.owner_of(fault.weight)
                path = None if owner is None else names.book.path_of(owner)
                guilty = replace(guilty, module=path)
            return guilty
        found = assemble.backward_fault(self._tracer.measured, numbers)
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

    # --- what was seen -------------------------------------------------------------------------

    def _calls(self) -> list[ModuleCall]:
        """Return all calls, those of recomputed checkpoints at their place."""
        return [*self._tracer.calls, *(call for item in self._tracer.nested for call in item.calls)]

    def _passes(self) -> list[BackwardPass]:
        return [self._tracer.measured, *(item.measured for item in self._tracer.nested)]

    def _gradient_slots(self) -> dict[int, ParameterSlots]:
        return {
            self._own_id(key): slots
            for item in self._passes()
            for key, slots in item.parameters.items()
        }

    def _own_id(self, identity: int) -> int:
        """Return the id of the parameter that the optimiser holds: FSDP2 gathers another."""
        own = self._tracer.gathered.get(identity)
        return identity if own is None else id(own)

    def _roots(self, calls: Sequence[ModuleCall]) -> tuple[nn.Module, ...]:
        """Return the user's root modules: those with parameters, or all if none has any."""
        names = self._tracer.names
        roots = dict.fromkeys(
            names.root_of(unwrapped(call.module)) for call in calls if call.parent is None
        )
        real = [root for root in roots if next(root.parameters(), None) is not None]
        return tuple(real or roots)

    def _name_parameters(self) -> dict[int, tuple[str, nn.Module]]:
        """Return names by id; of several models each name begins with its model's, as of layers."""
        names = self._tracer.names
        named = names.parameter_names(self._modules())
        found = {self._own_id(identity): item for identity, item in named.items()}
        if len(self.models) < 2:
            return found
        return {
            identity: (f"{names.root_name(names.root_of(owner))}.{name}", owner)
            for identity, (name, owner) in found.items()
        }

    def _modules(self) -> list[nn.Module]:
        inside = [module for root in self.models for module in root.modules()]
        called = [unwrapped(call.module) for call in self._calls()]
        return list(dict.fromkeys([*inside, *called]))

    def _trainable(self) -> Iterator[tuple[Tensor, int, str]]:
        seen: set[int] = set()
        for module in self._modules():
            for parameter in module.parameters(recurse=False):
                own = self._tracer.gathered.get(id(parameter), parameter)
                if parameter.requires_grad and id(own) not in seen:
                    seen.add(id(own))
                    yield own, id(own), self.named_parameters[id(own)][0]

    def _parameter_names(self) -> dict[int, str]:
        named = {key: name for key, (name, _module) in self.named_parameters.items()}
        leaves = {key: self._own_id(key) for key in self._tracer.gathered}
        return named | {leaf: named[own] for leaf, own in leaves.items() if own in named}

    def _names(self) -> assemble.Names:
        return assemble.Names(
            book=self._tracer.names,
            calls=self._calls(),
            parameters=self._parameter_names(),
            prefix_roots=len(self.models) > 1,
        )

    def _notes(self) -> tuple[str, ...]:
        passes = [*self._passes(), *self._replayed.passes()]
        errors = [message for item in passes for message in item.errors]
        notes = [*self._tracer.notes, *dict.fromkeys(errors), *self._replayed.notes]
        opaque = sorted(
            {op.kind for op in self._tracer.measured.graph.ops if op.data and op.factor == "opaque"}
            - {"CheckpointFunction"}
        )
        if opaque:
            notes.append(_("opaque, measured as one factor: {ops}").format(ops=", ".join(opaque)))
        return tuple(notes)


def _count(values: Sequence[float], slot: int | None) -> int | None:
    return None if slot is None else int(values[slot])


def _covered(
    calls: Sequence[ModuleCall], graph: Graph
) -> tuple[list[ModuleCall], list[ModuleCall]]:
    """Split `calls` into those of root calls that own an op of `graph`, and the rest."""
    owners = {id(_outermost(op.call)) for op in graph.ops if op.call is not None}
    if not owners:
        return list(calls), []
    inside = [call for call in calls if id(_outermost(call)) in owners]
    return inside, [call for call in calls if id(_outermost(call)) not in owners]


def _outermost(call: ModuleCall) -> ModuleCall:
    while call.parent is not None:
        call = call.parent
    return call


def _guilty(
    direction: Literal["forward", "backward"],
    op: str,
    call: ModuleCall | None,
    names: assemble.Names,
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
