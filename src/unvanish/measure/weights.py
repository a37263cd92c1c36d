"""How the weights of a linear map were drawn: their size, and whether they look independent."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unvanish.i18n import _
from unvanish.meanfield.layers import taps_kept
from unvanish.meanfield.stages import Stage, Weights
from unvanish.measure.graph import Graph, Node, Op
from unvanish.measure.reduce import Reducer

Values = Sequence[float]
Later = Callable[[Values], Stage]  # a stage, once the reducer's values are known

LINEAR = frozenset({"Addmm", "Mm", "Linear", "MkldnnLinear"})
_TURNED = frozenset({"T", "Transpose", "Permute", "View", "ToCopy", "UnsafeView"})
_ROWS = 8  # rows of a weight whose angles are looked at
_ORTHOGONAL, _ALIKE = 0.0025, 16.0  # of the squared cosine of independent rows, 1/fan_in
_ENTRIES = 1 << 16  # entries of a weight whose mean is looked at
_OFF_CENTRE = 6.0  # standard errors by which a weight's mean may differ from 0
_FOLLOWS = 6.0  # Student's t from which biases follow the sums of their rows


def leaf_of(graph: Graph, op: Op) -> Tensor | None:
    """Return the weight itself, as a leaf; None where it is made from something else."""
    for edge in op.edges:
        child = graph.ops[edge.child]
        while child.variable is None and child.kind in _TURNED and len(child.edges) == 1:
            child = graph.ops[child.edges[0].child]
        if child.variable is not None and not child.data and child.variable.dim() > 1:
            return child.variable
    if any(not graph.ops[edge.child].data for edge in op.edges if edge.input != 0):
        return None
    return own(op, "weight")  # frozen: no edge leads to it


def bias_of(graph: Graph, op: Op) -> Tensor | None:
    """Return the bias that an op adds, if it is a parameter."""
    for edge in op.edges:
        variable = graph.ops[edge.child].variable
        if variable is not None and variable.dim() == 1 and not graph.ops[edge.child].data:
            return variable
    return own(op, "bias")


def drawn(
    rows: Tensor,
    bias: Tensor | None,
    reducer: Reducer,
    *,
    size: int,
    share: float,
    repeated: bool,
) -> Later:
    """Queue what says how a weight of shape (out, in, …) was drawn.

    `size` is the slot of its norm, `share` that of a convolution's taps which count, `repeated`
    whether it acts more than once.
    """
    out, units = rows.shape[:2]
    fan_in = rows.numel() // out
    some = rows.reshape(-1)[:_ENTRIES]
    mean = reducer.scalar(some.sum(dtype=torch.float32) / math.sqrt(some.numel()))
    offset = None if bias is None else reducer.norm(bias.detach())
    angle = _angles(rows, reducer)
    tie = None if bias is None else _tie(rows, bias.detach(), reducer)

    def later(values: Values) -> Stage:
        variance = 10.0 ** (2.0 * values[size]) / out
        turned = None if angle is None else values[angle] * fan_in
        reason = None
        if repeated:
            reason = _("the same weights act again: measure, do not predict")
        elif abs(values[mean]) > _OFF_CENTRE * math.sqrt(max(variance, 1e-300) / fan_in):
            reason = _("outside the theory's assumptions: the mean of its weights is not 0")
        elif turned is not None and turned > _ALIKE:
            reason = _("outside the theory's assumptions: the rows of its weights look alike")
        return Weights(
            variance,
            0.0 if offset is None else 10.0 ** (2.0 * values[offset]) / out,
            units=units,
            share=share,
            drawn=0.0 if turned is not None and turned < _ORTHOGONAL else 1.0,
            tied=0.0 if tie is None else tie.product(values),
            reason=reason,
        )

    return later


def saved(node: Node, name: str, default: Any) -> Any:
    """Return what an autograd node saved under this name; the default where it saved nothing.

    Nor is a tensor read that lies behind hooks (checkpointing): that would run code.
    """
    raw = getattr(node, name.replace("_saved_", "_raw_saved_", 1), None)
    if getattr(raw, "unpack_hook", None) is not None:
        return default
    value = getattr(node, name, default)
    return default if value is None else value


def own(op: Op, name: str) -> Tensor | None:
    """Return a parameter of the leaf module whose call an op belongs to."""
    leaf = op.call is not None and not op.call.has_children
    return own_of(op.call.module if leaf and op.call is not None else None, name)


def own_of(module: nn.Module | None, name: str) -> Tensor | None:
    """Return a module's parameter without calling anything: a parametrised one has none."""
    return None if module is None else module._parameters.get(name)


def share(weight: Tensor, node: Node, shape: tuple[int, ...] | None) -> float:
    """Return the share of a convolution's taps that lie inside its input of this shape."""
    kernel = tuple(weight.shape[2:])
    if shape is None or len(shape) != len(kernel) + 2:
        return 1.0
    return taps_kept(
        kernel,
        shape[2:],
        padding=saved(node, "_saved_padding", (0,) * len(kernel)),
        stride=saved(node, "_saved_stride", (1,) * len(kernel)),
        dilation=saved(node, "_saved_dilation", (1,) * len(kernel)),
    )


@dataclass(frozen=True, slots=True)
class _Tie:
    """Slots of what biases b share with the sums s of their rows: E b·s, and the cosine."""

    mean: int
    cosine: int
    count: int

    def product(self, values: Values) -> float:
        """Return E b·s where that is no chance, else 0."""
        mean, cosine = values[self.mean], values[self.cosine]
        apart = max(1.0 - cosine * cosine, 1e-12)
        student = abs(cosine) * math.sqrt((self.count - 1) / apart)
        return mean if student > _FOLLOWS and math.isfinite(mean) else 0.0


def _tie(rows: Tensor, bias: Tensor, reducer: Reducer) -> _Tie | None:
    """Queue how far biases follow their rows: a bias that centres is −m · Σⱼ Wᵢⱼ."""
    count = min(len(rows), max(_ROWS, _ENTRIES // (rows.numel() // len(rows))))
    if count < _ROWS:
        return None
    sums = rows[:count].reshape(count, -1).sum(dim=1, dtype=torch.float32)
    some = bias[:count].float()
    product = torch.dot(some, sums)
    cosine = product / (some.norm() * sums.norm())
    return _Tie(reducer.scalar(product / count), reducer.scalar(cosine), count)


def _angles(rows: Tensor, reducer: Reducer) -> int | None:
    """Queue the mean squared cosine of a few rows; 1/fan_in if they are independent."""
    few = rows[:_ROWS].reshape(min(_ROWS, rows.shape[0]), -1)
    if len(few) < 2 or few.shape[1] < 2 * _ROWS or not few.is_floating_point():
        return None
    gram = few.float() @ few.float().mT
    squares = gram.square()
    # Σ (wᵢ·wⱼ)² over pairs, by that of products of their squared lengths: the rows are of one size
    off = squares.sum() - squares.diagonal().sum()
    return reducer.scalar(off / (gram.diagonal().sum() ** 2 - squares.diagonal().sum()))
