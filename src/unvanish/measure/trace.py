"""The tracer: hooks on for one backward pass, then one transfer, then a `Trace`.

tracer = BackwardTracer([loss], log)
with tracer:
    torch.autograd.backward([loss])       # the user's own backward
pending = tracer.pending(step=0)          # nothing has crossed to the host yet
pending.replay()                          # optional: probe, fused layers opened
trace = pending.resolve()                 # the one transfer
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from unvanish.errors import NoSignalError
from unvanish.i18n import _
from unvanish.measure import (
    inputs,
    nonfinite,
    structure,
)
from unvanish.measure.attention import HeadSlots, queue_attention
from unvanish.measure.calls import CallLog, ModuleCall
from unvanish.measure.dynamo import uncompiled, uncompiled_itself
from unvanish.measure.graph import Graph
from unvanish.measure.head import HeadFacts, read_head
from unvanish.measure.names import NameBook, unwrapped
from unvanish.measure.passes import BackwardPass, prepare
from unvanish.measure.pending import PendingTrace
from unvanish.measure.reduce import Reducer
from unvanish.measure.replay import outputs_wanted
from unvanish.measure.sharding import gathered


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

    def receive_for(self, given: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
        """Do as `receive` does, with gradients for the tensors `given` to the user's backward."""
        by_id = {id(one): gradient for one, gradient in zip(given, gradients, strict=False)}
        self.receive([by_id.get(id(leaf)) for leaf in self.leaves()])

    def pending(
        self, *, step: int, loss: float | None = None, loss_scale: float = 1.0
    ) -> PendingTrace:
        """Return the measurement, still on its device. `loss` is unscaled (None: read the root)."""
        return PendingTrace(self, step, loss, loss_scale)


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
