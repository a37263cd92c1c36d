"""The structure of a network, read off a recording: its layers of weights and what is between.

Weights follow each other through activations, normalisations, sums and what does not matter here
(views, pooling, dropout). Nothing is assumed about how the modules are nested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

from torch import nn

from unvanish.errors import UnvanishError
from unvanish.fix.cure import Live
from unvanish.fix.recording import Op, Recording, record
from unvanish.meanfield import catalogue
from unvanish.meanfield.activation import Activation
from unvanish.meanfield.bridge import resolve

WEIGHTED = frozenset({"linear", "conv1d", "conv2d", "conv3d", "addmm"})
NORMS = frozenset(
    {"batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "local_response_norm"}
)
# Calls that only move, select, average or scale.
_TRANSPARENT = NORMS | {
    *("view", "reshape", "flatten", "unflatten", "transpose", "permute", "contiguous", "T", "mT"),
    *("squeeze", "unsqueeze", "getitem", "expand", "repeat", "cat", "stack", "clone", "movedim"),
    *("chunk", "split", "unbind", "narrow", "select", "pad", "float", "half", "to", "type"),
    *("dropout", "dropout1d", "dropout2d", "alpha_dropout", "feature_alpha_dropout"),
    *("max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d", "adaptive_avg_pool2d"),
    *("adaptive_avg_pool1d", "adaptive_max_pool2d", "interpolate", "mean", "max", "amax"),
    *("max_pool2d_with_indices", "boolean_dispatch", "fn", "index_select", "gather"),
}
_SUMS = frozenset({"add", "sub"})
_NO_ACTIVATION = _TRANSPARENT | WEIGHTED | {"identity"}


@dataclass(frozen=True, slots=True)
class Layer:
    """One weight that is used as a linear map or a convolution."""

    path: str  # of its module
    weight: str  # name of the parameter
    bias: str | None
    op: Op  # its first call
    calls: int
    recurrent: bool  # it is used again on what came of its own output
    before: Op | None  # the activation whose output it takes
    after: Op | None  # the activation that its output goes into
    first: bool  # no weight lies in front of it
    last: bool  # no weight follows
    norm_after: bool  # a normalisation lies between it and the next activation or weight
    norm_before: bool
    sum_after: bool  # so does a sum


@dataclass(frozen=True, slots=True)
class Residual:
    """A sum of a value and a function of it."""

    add: Op
    skip: int
    branch: int
    last: Layer | None  # the last layer of the branch, where nothing bent follows it
    norm_after: Op | None  # a normalisation that takes the sum


@dataclass
class Structure:
    """What a recording says about a model."""

    model: nn.Module
    recording: Recording
    _activations: dict[int, Activation | None] = field(default_factory=dict)

    @property
    def ops(self) -> list[Op]:
        """All calls, in order."""
        return self.recording.ops

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """All layers of weights in order of their first call."""
        found: dict[str, Layer] = {}
        uses: dict[str, list[Op]] = {}
        names = dict(self.model.named_parameters())
        for op in self.ops:
            weights = [n for n in op.parameters if names[n].dim() >= 2]
            if op.name not in WEIGHTED or len(weights) != 1 or not op.inputs:
                continue
            weight = weights[0]
            uses.setdefault(weight, []).append(op)
            if weight not in found:
                found[weight] = self._layer(op, weight)
        return tuple(self._with_uses(layer, uses[name]) for name, layer in found.items())

    def _with_uses(self, layer: Layer, uses: list[Op]) -> Layer:
        again = len(uses) > 1 and uses[0].index in self.upstream(uses[-1].inputs[0])
        return replace(layer, calls=len(uses), recurrent=again)

    def _layer(self, op: Op, weight: str) -> Layer:
        bias = next((name for name in op.parameters if name != weight), None)
        ahead = list(self._ahead(op.outputs[0]))
        behind = list(self._behind(op.inputs[0]))
        after = next((e for e in ahead if self.is_activation(e) and e.module is not None), None)
        before = next((each for each in behind if self.is_activation(each)), None)
        upstream = self.upstream(op.inputs[0])
        downstream = self.downstream(op.outputs[0])
        return Layer(
            path=weight.rpartition(".")[0],
            weight=weight,
            bias=bias,
            op=op,
            calls=1,
            recurrent=False,
            before=before,
            after=after,
            first=not any(_weighs(self.ops[i]) for i in upstream),
            last=not any(_weighs(self.ops[i]) for i in downstream),
            norm_after=any(each.name in NORMS for each in ahead),
            norm_before=any(each.name in NORMS for each in behind),
            sum_after=any(each.name in _SUMS and len(each.inputs) > 1 for each in ahead),
        )

    def is_activation(self, op: Op) -> bool:
        """Whether a call is an element-wise nonlinearity (one input, the same shape)."""
        if len(op.inputs) != 1 or op.parameters or op.name in _NO_ACTIVATION:
            return False
        return op.name == "exp" or catalogue.find(op.name) is not None

    def _ahead(self, value: int) -> Iterator[Op]:
        """Calls from a value on, up to and with the next activation or weight."""
        yield from self._walk(value, self.recording.consumers, lambda op: op.outputs)

    def _behind(self, value: int) -> Iterator[Op]:
        """Calls that lead to a value, back to and with the activation or weight before."""

        def producers(value: int) -> list[Op]:
            op = self.recording.producer(value)
            return [] if op is None else [op]

        yield from self._walk(value, producers, lambda op: op.inputs)

    def _walk(
        self, value: int, step: Callable[[int], list[Op]], leads: Callable[[Op], tuple[int, ...]]
    ) -> Iterator[Op]:
        seen: set[int] = set()
        queue = [value]
        while queue:
            for op in step(queue.pop(0)):
                if op.index in seen:
                    continue
                seen.add(op.index)
                yield op
                passes = op.name in _TRANSPARENT or op.name in _SUMS or _scales(op)
                if passes and not self.is_activation(op):
                    queue += leads(op)

    def upstream(self, value: int) -> set[int]:
        """Indices of all calls that a value depends on."""
        found: set[int] = set()
        queue = [value]
        while queue:
            op = self.recording.producer(queue.pop())
            if op is not None and op.index not in found:
                found.add(op.index)
                queue += op.inputs
        return found

    def downstream(self, value: int) -> set[int]:
        """Indices of all calls that depend on a value."""
        found: set[int] = set()
        queue = [value]
        while queue:
            for op in self.recording.consumers(queue.pop()):
                if op.index not in found:
                    found.add(op.index)
                    queue += op.outputs
        return found

    @cached_property
    def activations(self) -> tuple[Op, ...]:
        """Nonlinearities inside of the model between weights, in order; gates are left out."""
        inner = []
        for op in self.ops:
            if op.module is None or not self.is_activation(op):
                continue
            gates = any(
                each.name == "mul" and len(each.inputs) > 1
                for each in self.recording.consumers(op.outputs[0])
            )
            if not gates:
                inner.append(op)
        return tuple(inner)

    def hidden(self, op: Op) -> bool:
        """Whether weights lie both before and behind a call."""
        before = any(_weighs(self.ops[i]) for i in self.upstream(op.outputs[0]))
        after = any(_weighs(self.ops[i]) for i in self.downstream(op.outputs[0]))
        return before and after

    def activation(self, op: Op | None) -> Activation | None:
        """The activation that a call applies, as the theory knows it; None: linear or unknown."""
        if op is None:
            return None
        if op.index not in self._activations:
            self._activations[op.index] = self._resolve(op)
        return self._activations[op.index]

    def _resolve(self, op: Op) -> Activation | None:
        module = self.model.get_submodule(op.module) if op.module else None
        try:
            if module is not None and op.module != "" and not any(True for _ in module.children()):
                alone = [each for each in self.ops if each.module == op.module]
                if not list(module.parameters()) and len({each.name for each in alone}) == 1:
                    return resolve(module)
            return catalogue.named(op.name)
        except UnvanishError:
            return None

    @cached_property
    def residuals(self) -> tuple[Residual, ...]:
        """Sums whose one summand depends on the other, in order."""
        found = []
        for op in self.ops:
            if op.name != "add" or len(op.inputs) != 2 or op.module is None:
                continue
            for skip, branch in (op.inputs, op.inputs[::-1]):
                producer = self.recording.producer(skip)
                above = self.upstream(branch)
                uses = {each.index for each in self.recording.consumers(skip)}
                if above & uses and (producer is None or producer.index in above):
                    if any(_weighs(self.ops[i]) for i in above & self.downstream(skip)):
                        found.append(self._residual(op, skip, branch))
                    break
        return tuple(found)

    def _residual(self, op: Op, skip: int, branch: int) -> Residual:
        behind = list(self._behind(branch))
        straight = next((e for e in behind if self.is_activation(e) or _weighs(e)), None)
        last = None
        if straight is not None and _weighs(straight):
            last = next((each for each in self.layers if each.weight in straight.parameters), None)
        after = [e for e in self.recording.consumers(op.outputs[0]) if e.name in NORMS]
        return Residual(op, skip, branch, last, after[0] if after else None)

    @property
    def chain(self) -> tuple[Layer, ...]:
        """Layers that are no part of a recurrence."""
        return tuple(layer for layer in self.layers if not layer.recurrent)

    @property
    def depth(self) -> int:
        """Number of hidden activations on the way, counted in calls."""
        return sum(self.hidden(op) for op in self.activations)


def _weighs(op: Op) -> bool:
    return bool(op.parameters) and (
        op.name in WEIGHTED
        or "rnn" in op.name
        or op.name in ("lstm", "gru", "embedding")
        or op.name == "multi_head_attention_forward"
    )


def _scales(op: Op) -> bool:
    return op.name in ("mul", "div", "truediv") and len(op.inputs) == 1


def observe(live: Live) -> Structure:
    """Run one forward of `live` and return its structure. Raises what the loss function raises."""
    live.seen = None
    return Structure(live.model, record(live))


def observed(live: Live) -> Structure:
    """The structure of `live` as it was when first asked for: for those who change nothing."""
    if live.seen is None or live.seen.model is not live.model:
        live.seen = observe(live)
    structure: Structure = live.seen
    return structure
