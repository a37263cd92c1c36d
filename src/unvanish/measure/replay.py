"""Replaying a sampled batch: whatever computes differently from the user's own pass.

After the user's backward and before the optimiser's step, a call is run again with the same inputs
(kept by reference), saved random states and buffers, and the gradient is handed out by
`torch.autograd.grad`: no `.grad` is written, no hook of an optimiser or of a distributed wrapper
fires, and everything is put back.

- Fused recurrent layers are opened into one set of ops a time step (equal to rounding only).
- A probe sends random unit cotangents from the network's output, so that a small loss gradient is
  not mistaken for a network that attenuates.
- The network's Jacobian is multiplied with vectors, for its singular spectrum.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_map_only

from unvanish.i18n import _
from unvanish.measure.calls import ModuleCall
from unvanish.measure.custom import FunctionLog, Trial, recording_functions, try_out
from unvanish.measure.factors import FUSED_RECURRENT
from unvanish.measure.forward import tensors_in
from unvanish.measure.graph import Node
from unvanish.measure.names import unwrapped
from unvanish.measure.passes import BackwardPass, agreement, prepare
from unvanish.measure.reduce import Reducer
from unvanish.measure.spectrum import Jacobian, TooManyProductsError, affordable, spectrum
from unvanish.measure.stage import (
    ReplayError,
    as_then,
    kernels_unfused,
    output_of,
    replayable,
)
from unvanish.records import Probe, Spectrum

if TYPE_CHECKING:
    from unvanish.measure.trace import BackwardTracer

_SEED = 20_102  # of the probes' own generator; the user's generators are not touched


@dataclass(slots=True)
class Replayed:
    """What replays measured, still on the device."""

    opened: dict[int, BackwardPass] = field(default_factory=dict)  # by op of the fused layer
    probed: BackwardPass | None = None
    probe_calls: list[ModuleCall] = field(default_factory=list)
    gain_slots: list[int] = field(default_factory=list)  # log10 norms at the sources, by probe
    agreements: dict[int, int] = field(default_factory=dict)  # by op of the user's own pass
    trials: list[tuple[ModuleCall | None, Trial]] = field(default_factory=list)
    spectrum: Spectrum | None = None
    notes: list[str] = field(default_factory=list)

    def element_wise(self, values: Sequence[float]) -> list[int]:
        """Return the unknown ops whose entry ratios were the same under both signals.

        Each ratio carries a few rounding errors of its type: far below 1e-3 in float32, and a
        mixing op (softmax, cumsum, a norm) differs by about as much as its ratio itself.
        """
        return [index for index, slot in self.agreements.items() if values[slot] < 1e-3]

    def passes(self) -> list[BackwardPass]:
        """Return the backward passes that were run."""
        return [*self.opened.values(), *([self.probed] if self.probed else [])]

    def probe(self, values: Sequence[float]) -> Probe | None:
        """Return the probe's summary from the reducer's values."""
        gains = [values[slot] for slot in self.gain_slots]
        if not gains:
            return None
        if not all(math.isfinite(gain) or gain == -math.inf for gain in gains):
            mean = math.nan
        else:
            top = max(gains)
            squares = [10.0 ** (2 * (gain - top)) if gain > -math.inf else 0.0 for gain in gains]
            mean = top + 0.5 * math.log10(sum(squares) / len(squares)) if top > -math.inf else top
        return Probe(len(gains), mean, min(gains), max(gains))

    def participation(
        self, values: Sequence[float], measured: BackwardPass, calls: Sequence[ModuleCall]
    ) -> dict[int, float]:
        """Return the probed participation ratios by the row of the user's own pass."""
        if self.probed is None:
            return {}
        keys = row_keys(self.probed, self.probe_calls)
        probed = {keys[row]: slot for row, slot in self.probed.participation.items() if row in keys}
        return {
            row: values[probed[key]]
            for row, key in row_keys(measured, calls).items()
            if key in probed
        }


def row_keys(
    measured: BackwardPass, calls: Sequence[ModuleCall]
) -> dict[int, tuple[int, int, int]]:
    """Return, by row, a key that is the same in a replay.

    It is (id of the module, number of its call, place of the row within the call).
    """
    numbers: dict[int, int] = {}
    counts: dict[int, int] = {}
    for call in calls:
        numbers[id(call)] = counts.get(id(call.module), 0)
        counts[id(call.module)] = numbers[id(call)] + 1
    places: dict[tuple[int, int], int] = {}
    keys: dict[int, tuple[int, int, int]] = {}
    for op in sorted(measured.graph.ops, key=lambda item: item.order):
        row = measured.row[op.index]
        if row in keys or op.variable is not None or op.call is None:
            continue
        owner = (id(op.call.module), numbers.get(id(op.call), 0))
        place = places.get(owner, 0)
        places[owner] = place + 1
        keys[row] = (*owner, place)
    return keys


def outputs_wanted(
    measured: BackwardPass, calls: Sequence[ModuleCall]
) -> frozenset[tuple[int, int]]:
    """Return the outputs of fused recurrent calls: their gradients are the replay's cotangents."""
    by_sequence = {op.sequence: op.index for op in measured.graph.ops if op.variable is None}
    return frozenset(
        (by_sequence[sequence], slot)
        for call in _fused_calls(measured, calls)
        for sequence, slot in call.outputs
        if sequence in by_sequence
    )


def _fused_calls(measured: BackwardPass, calls: Sequence[ModuleCall]) -> list[ModuleCall]:
    fused = {id(op.call) for op in measured.graph.ops if op.kind in FUSED_RECURRENT}
    return [call for call in calls if id(call) in fused and call.inputs is not None]


def replay(tracer: BackwardTracer) -> Replayed:
    """Open fused layers, probe the network, take its spectrum. Failures become notes."""
    result = Replayed()
    refusal = _refusal()
    if refusal is not None:
        options = tracer.options
        if options.probes or options.spectrum or _fused_calls(tracer.measured, tracer.calls):
            result.notes.append(refusal)
        return result
    if tracer.options.open_fused:
        for call in _fused_calls(tracer.measured, tracer.calls):
            with _degrading(result, _("a fused recurrent layer stays one factor")):
                _open(tracer, call, result)
    tracer.measured.keep_gradients.clear()
    if tracer.options.probes:
        with _degrading(result, _("no probe")):
            _probe(tracer, result)
    if tracer.options.spectrum:
        with _degrading(result, _("no singular spectrum")):
            _measure_spectrum(tracer, result)
    return result


def _refusal() -> str | None:
    """Return why nothing may be replayed here, or None."""
    distributed = torch.distributed
    started = distributed.is_available() and distributed.is_initialized()
    if started and distributed.get_world_size() > 1:
        return _("no replay (probe, opened layers): training is distributed")
    if torch._C._current_graph_task_id() != -1:
        return _("no replay (probe, opened layers): a backward is running")
    return None


@contextmanager
def _degrading(result: Replayed, consequence: str) -> Iterator[None]:
    """Turn any failure of a replay into a note: a replay must never stop the user's training."""
    try:
        yield
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        result.notes.append(f"{consequence}: {reason}")


def _open(tracer: BackwardTracer, call: ModuleCall, result: Replayed) -> None:
    """Run a fused recurrent call op by op and measure it under the gradient it received."""
    measured = tracer.measured
    by_sequence = {op.sequence: op.index for op in measured.graph.ops if op.variable is None}
    cotangents = [
        measured.keep_gradients.get((by_sequence.get(sequence, -1), slot))
        for sequence, slot in call.outputs
    ]
    first = next(op.index for op in measured.graph.ops if op.call is call and op.data)
    module = unwrapped(call.module)
    with as_then(call, module) as (arguments, keywords), ExitStack() as stack:
        stack.enter_context(kernels_unfused())
        # Not through __call__: the module's hooks have run, and what they set is in place.
        output = module.forward(*arguments, **keywords)
        tensors = [tensor for tensor in tensors_in(output) if tensor.grad_fn is not None]
        used = [
            (tensor, cotangent)
            for tensor, cotangent in zip(tensors, cotangents, strict=True)
            if cotangent is not None
        ]
        opened = prepare(
            [tensor for tensor, _cotangent in used],
            [],
            tracer.reducer,
            known_parameters=tracer.options.parameters,
            batch_size=call.batch_size,
        )
        for op in opened.graph.ops:
            if op.variable is None:
                op.call = call
        _run(opened, [tensor for tensor, _c in used], [cotangent for _t, cotangent in used])
        result.opened[first] = opened


def _probe(tracer: BackwardTracer, result: Replayed) -> None:
    """Send random unit cotangents from the output of the main root call."""
    call, module = replayable(tracer.calls)
    with as_then(call, module) as (arguments, keywords), tracer.log.elsewhere() as calls:
        functions = FunctionLog()
        with recording_functions(functions):
            output = module(*arguments, **keywords)
        target = output_of(output)
        probed = prepare(
            [target],
            calls,
            tracer.reducer,
            known_parameters=tracer.options.parameters,
            per_sample=True,
        )
        result.probed, result.probe_calls = probed, list(calls)
        generator = torch.Generator().manual_seed(_SEED)
        count = tracer.options.probes
        nodes = list(probed.nodes)
        for number in range(count):
            cotangent = torch.randn(target.shape, generator=generator).to(target)
            cotangent /= torch.linalg.vector_norm(cotangent)
            last = number == count - 1
            if number == 0:
                gradients = _run(probed, [target], [cotangent], retain_graph=not last)
            else:
                gradients = _at_sources(probed, nodes, [target], [cotangent], not last)
            if number == 0:
                _compare_unknown(tracer, probed, result)
            joint = torch.cat(
                [gradient.reshape(-1) for gradient in gradients if gradient is not None]
            )
            result.gain_slots.append(tracer.reducer.norm(joint))
        owners = {op.sequence: op.call for op in probed.graph.ops if op.variable is None}
        result.trials = [
            (owners.get(trial.sequence), trial) for trial in try_out([*functions.calls.values()])
        ]


def _measure_spectrum(tracer: BackwardTracer, result: Replayed) -> None:
    """Take the derivative of the main root call's output by its input.

    That is the batch itself where it is made of real numbers, else what is made of it first: the
    embedding of tokens.
    """
    call, module = replayable(tracer.calls)
    if not affordable(*_sizes(tracer.measured, call), tracer.options.spectrum):
        return  # known before anything is run
    inputs: list[Tensor] = []

    def followed(tensor: Tensor) -> Tensor:
        of_samples = call.batch_size is None or tensor.shape[:1] == (call.batch_size,)
        if not tensor.is_floating_point() or not of_samples:
            return tensor
        inputs.append(tensor.requires_grad_())
        return tensor.clone()  # no leaf, which could not be changed in place

    with ExitStack() as stack:
        arguments, keywords = stack.enter_context(as_then(call, module))
        calls = stack.enter_context(tracer.log.elsewhere())
        stack.enter_context(kernels_unfused())
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))  # the only one to differentiate twice
        arguments = tree_map_only(Tensor, followed, arguments)
        output = module(*arguments, **tree_map_only(Tensor, followed, keywords))
        target = output_of(output)
        edges = [(get_gradient_edge(tensor), tuple(tensor.shape)) for tensor in inputs]
        if not edges:
            known = tracer.options.parameters
            measured = prepare([target], calls, Reducer(), known_parameters=known)
            ops, nodes = measured.graph.ops, measured.nodes
            edges = [
                (GradientEdge(nodes[index], slot), ops[index].shapes[slot])
                for index, slot in _source_slots(measured)
            ]
        if not edges:
            raise ReplayError(_("no source of data was found"))
        jacobian = Jacobian(target, [edge for edge, _shape in edges], [s for _edge, s in edges])
        with suppress(TooManyProductsError):  # more was not asked for
            result.spectrum = spectrum(jacobian, call.batch_size, tracer.options.spectrum)


def _sizes(measured: BackwardPass, call: ModuleCall) -> tuple[int, int]:
    """Return how many outputs and inputs a sample of `call` has, at least; 0 where not known."""
    batch = call.batch_size or 1
    outputs = set(call.outputs[:1])
    rows = max(
        (
            math.prod(shape)
            for op in measured.graph.ops
            for slot, shape in enumerate(op.shapes)
            if (op.sequence, slot) in outputs and op.variable is None
        ),
        default=0,
    )
    given = [] if call.inputs is None else tensors_in((call.inputs.arguments, call.inputs.keywords))
    real = [tensor.numel() for tensor in given if tensor.is_floating_point()]
    return rows // batch, sum(real) // batch if real else rows // batch


def _compare_unknown(tracer: BackwardTracer, probed: BackwardPass, result: Replayed) -> None:
    """Compare the entry ratios of ops that no table knows with those under the loss's signal."""
    own = _in_order(tracer.measured)
    replayed = _in_order(probed)
    for key in own.keys() & replayed.keys():
        one, other = tracer.measured.ratios[own[key]], probed.ratios[replayed[key]]
        if one.shape == other.shape:
            result.agreements[own[key]] = tracer.reducer.scalar(agreement(one, other))
    tracer.measured.ratios.clear()
    probed.ratios.clear()


def _in_order(measured: BackwardPass) -> dict[tuple[str, int], int]:
    """Return the ops with a ratio by (kind, number among its kind, in forward order)."""
    counts: dict[str, int] = {}
    found: dict[tuple[str, int], int] = {}
    for op in sorted(measured.graph.ops, key=lambda item: item.order):
        if op.index in measured.ratios:
            number = counts[op.kind] = counts.get(op.kind, -1) + 1
            found[(op.kind, number)] = op.index
    return found


def _run(
    measured: BackwardPass,
    outputs: list[Tensor],
    cotangents: list[Tensor],
    *,
    retain_graph: bool = False,
) -> list[Tensor | None]:
    """Run one measured backward down to the sources, computing no parameter's gradient."""
    nodes = list(measured.nodes)
    measured.attach()
    try:
        gradients = _at_sources(measured, nodes, outputs, cotangents, retain_graph)
        for (index, slot), gradient in zip(_source_slots(measured), gradients, strict=True):
            measured.receive(index, slot, gradient)
    finally:
        measured.detach()
    return gradients


def _at_sources(
    measured: BackwardPass,
    nodes: Sequence[Node],
    outputs: list[Tensor],
    cotangents: list[Tensor],
    retain_graph: bool,
) -> list[Tensor | None]:
    edges = [GradientEdge(nodes[index], slot) for index, slot in _source_slots(measured)]
    if not edges:
        raise ReplayError(_("no source of data was found"))
    return list(
        torch.autograd.grad(
            outputs, edges, cotangents, retain_graph=retain_graph, allow_unused=True
        )
    )


def _source_slots(measured: BackwardPass) -> list[tuple[int, int]]:
    graph = measured.graph
    return [
        (op.index, slot)
        for op in graph.ops
        if op.source
        for slot in sorted({edge.slot for edge in graph.consumers[op.index]} or {0})
    ]
