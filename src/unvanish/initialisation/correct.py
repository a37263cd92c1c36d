"""Correction by measurement: forward layer by layer, then backward, until gains are 1.

Forward: one pass without gradients, in which each layer's weight is divided by how far its output
misses its target, before the next layer sees it (Mishkin & Matas 2016, LSUV). Means over the batch
are removed by biases where the scheme centres. Backward: random cotangents are sent back from the
network's output, and the gain of each layer, its weight with the activation in front, is compared
with 1. Where a run misses the tolerance with an activation that is smooth, the run is made to work
at a smaller mean square, at which forward and backward gains both tend to 1; where scale is all
there is, the two misses are shared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Generator, Tensor, nn

from unvanish.initialisation.links import Link
from unvanish.initialisation.observe import Forward, Observation, observe, run
from unvanish.initialisation.parameters import Owned
from unvanish.initialisation.structure import Structure
from unvanish.initialisation.weights import Target
from unvanish.measure.preserve import preserved

TOLERANCE = 0.05  # of |gain − 1|, for a layer
_ROUNDS = 4
_LEAST = 0.3  # of a planned size: no run is made to work at less
_FARTHEST = 1e4  # a factor beyond it says that there is no signal, not that the scale is wrong


@dataclass(slots=True)
class Gains:
    """Measured on the batch after the correction, by weight.

    `design` is what both gains are meant to be (the scale of a residual branch where the weight
    ends one, else 1), and `factor` what the planned weight was multiplied by.
    """

    forward: dict[str, float]
    backward: dict[str, float]
    design: dict[str, float]
    factor: dict[str, float]


@contextmanager
def lent(values: Mapping[str, Tensor], owned: Mapping[str, Owned]) -> Iterator[None]:
    """Let the model compute with `values` for a while; its own tensors are not written to."""
    own = {name: owned[name].tensor.data for name in values}
    try:
        for name, value in values.items():
            owned[name].tensor.data = value
        yield
    finally:
        for name, tensor in own.items():
            owned[name].tensor.data = tensor


@dataclass(slots=True)
class Corrector:
    """Corrects `values` (by name, in the parameters' own precision, on their device) in place."""

    model: nn.Module
    forward: Forward
    values: dict[str, Tensor]
    owned: Mapping[str, Owned]
    structure: Structure
    links: Mapping[str, Link]
    targets: dict[str, Target]
    generator: Generator
    least: dict[str, float] = field(default_factory=dict)  # below which no target is moved

    def correct(self) -> Gains:
        """Run the rounds and return the gains that they ended with."""
        factor: dict[str, float] = {}
        design = self._design()
        for last in (False,) * _ROUNDS + (True,):
            outputs = self._forward_pass(factor)
            seen = self._look()
            backward = self._backward_gains(seen)
            forward = self._forward_gains(outputs)
            if last or not self._share(forward, backward, design):
                break
        return Gains(forward, backward, design, factor)

    def _design(self) -> dict[str, float]:
        """Return what the gains are meant to be: the ratio of planned sizes, before any moves."""
        sizes = {name: target.rms for name, target in self.targets.items() if target.rms > 0.0}
        self.least = {name: _LEAST * size for name, size in sizes.items()}
        return {
            name: size / sizes[before]
            for name, size in sizes.items()
            if (before := self._before(name)) in sizes
        }

    # --- forward -------------------------------------------------------------------------------

    def _forward_pass(self, factor: dict[str, float]) -> dict[str, float]:
        """Correct each layer as the signal passes; return the outputs' root mean squares."""
        outputs: dict[str, float] = {}
        handles = []
        for name, target in self.targets.items():
            hook = self._hook(target, factor, outputs)
            handles.append(self.owned[name].module.register_forward_hook(hook))
        try:
            with lent(self.values, self.owned), preserved(self.model), torch.no_grad():
                run(self.forward)
        finally:
            for handle in handles:
                handle.remove()
        return outputs

    def _hook(
        self, target: Target, factor: dict[str, float], outputs: dict[str, float]
    ) -> Callable[[nn.Module, Any, Any], Tensor | None]:
        def see(module: nn.Module, _arguments: Any, output: Any) -> Tensor | None:
            if not isinstance(output, Tensor) or target.weight in outputs:
                return None
            # of a convolution the channels stand before its image, with or without a batch
            unit = output.dim() - 1 - len(getattr(module, "kernel_size", ()))
            wide = output.detach().to(torch.float64)
            about, shift = self._about(wide, unit, target)
            size = float(about.square().mean().sqrt())
            outputs[target.weight] = size
            multiply = target.rms / size if size > 0.0 else math.inf
            if 1.0 / _FARTHEST < multiply < _FARTHEST:
                outputs[target.weight] = target.rms
                factor[target.weight] = factor.get(target.weight, 1.0) * multiply
                self.values[target.weight].mul_(multiply)
            elif target.centre:
                multiply = 1.0
            else:
                return None
            if target.bias is None:
                return output * multiply
            bias = self.values[target.bias]
            bias.copy_((bias.to(torch.float64) - shift) * multiply + target.offset)
            return (about * multiply + target.offset).to(output.dtype)

        return see

    @staticmethod
    def _about(wide: Tensor, unit: int, target: Target) -> tuple[Tensor, Tensor]:
        """Return the output about its offset, and what is to be taken off each unit's bias."""
        others = [dimension for dimension in range(wide.dim()) if dimension != unit]
        means = wide.mean(others)
        shape = [1] * wide.dim()
        shape[unit] = -1
        if target.centre and wide.numel() > 8 * means.numel():
            return wide - means.reshape(shape), means
        plain = torch.full_like(means, target.offset if target.bias is not None else 0.0)
        return wide - plain.reshape(shape), plain

    def _forward_gains(self, outputs: Mapping[str, float]) -> dict[str, float]:
        found = {}
        for name, size in outputs.items():
            before = self._before(name)
            if before is not None and outputs.get(before, 0.0) > 0.0:
                found[name] = size / outputs[before]
        return found

    # --- backward ------------------------------------------------------------------------------

    def _look(self) -> Observation:
        with lent(self.values, self.owned):
            return observe(self.model, self.forward, self.generator)

    def _backward_gains(self, seen: Observation) -> dict[str, float]:
        """Return, by weight, the gain from its output back to the output of the weight before."""
        names = {id(item.tensor): name for name, item in self.owned.items()}
        level: dict[str, float] = {}
        for op in seen.measured.graph.ops:
            name = names.get(op.weight) if op.weight is not None else None
            here = seen.numbers.op_level(op.index)
            if name in self.targets and op.data and op.factor == "weight" and here is not None:
                level[name] = here
        found = {}
        for name, here in level.items():
            change = level.get(self._before(name) or "", math.nan) - here
            if math.isfinite(change):
                found[name] = 10.0**change
        return found

    def _before(self, name: str) -> str | None:
        """Return the weight in front of `name` in its run, if gains between the two say something.

        A normalisation behind either makes its scale meaningless.
        """
        before = self.structure.sites[name].previous
        known = before in self.targets and self.targets[before].told and self.targets[name].told
        return before if known else None

    def _share(
        self,
        forward: Mapping[str, float],
        backward: Mapping[str, float],
        design: Mapping[str, float],
    ) -> bool:
        """Move targets where a backward gain misses the tolerance; return whether any moved."""
        shrink: dict[str, float] = {}  # by first weight of a run: the worst |log gain|
        share: dict[str, float] = {}  # by weight: what its scale is to be multiplied by
        for name, meant in design.items():
            link = self.links.get(self.structure.sites[name].previous or "")
            gain = backward.get(name, meant) / meant
            if link is None or gain <= 0.0 or abs(math.log(gain)) <= math.log1p(TOLERANCE):
                continue
            if link.kind == "centred":
                head = self._head(name)
                shrink[head] = max(shrink.get(head, 0.0), abs(math.log(gain)))
            elif link.kind == "plain":
                product = gain * forward.get(name, meant) / meant
                if abs(math.log(product)) > 0.2 * math.log1p(TOLERANCE):
                    share[name] = product**-0.5
        for head, worst in shrink.items():
            # both gains miss 1 by as much as the mean square is large
            self._scale_from(head, max(0.1, 0.7 * math.log1p(TOLERANCE) / worst) ** 0.5)
        for name, by in share.items():
            self._scale_from(name, by)
        return bool(shrink or share)

    def _head(self, name: str) -> str:
        while (before := self.structure.sites[name].previous) in self.targets:
            name = before or name
        return name

    def _scale_from(self, first: str, by: float) -> None:
        """Multiply the targets of a weight and of all behind it in its run."""
        name: str | None = first
        while name is not None and name in self.targets:
            size = max(self.targets[name].rms * by, self.least.get(name, 0.0))
            self.targets[name] = replace(self.targets[name], rms=size)
            name = self.structure.sites[name].next
