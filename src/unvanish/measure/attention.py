"""How each head of an attention spreads its weight: the entropy of its softmax.

Read off what the nodes saved for their backward: a softmax keeps its result, a fused attention its
queries and keys, from which the weights are formed again (without dropout).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unvanish.measure.calls import ModuleCall
from unvanish.measure.graph import Graph, Node
from unvanish.measure.nonfinite import read_saved
from unvanish.measure.reduce import Reducer

_ENTRIES = 1 << 20  # weights looked at, at most: whole samples from the first on


@dataclass(frozen=True, slots=True)
class HeadSlots:
    """Where a reducer will deliver the entropy of each head of one call."""

    call: ModuleCall | None
    heads: tuple[int, ...]


@torch.no_grad()
def queue_attention(graph: Graph, nodes: Sequence[Node], reducer: Reducer) -> list[HeadSlots]:
    """Queue the entropy by head of every attention in `graph`, in forward order."""
    found = []
    for op in sorted((op for op in graph.ops if op.data), key=lambda op: op.order):
        if op.after_output or op.factor != "attention":
            continue
        weights = _weights(op.kind, nodes[op.index])
        if weights is None or weights.dim() < 3 or weights.shape[-1] < 2:
            continue
        entropy = _entropy(weights)
        heads = entropy.shape[1] if entropy.dim() == 3 else 1
        by_head = entropy.transpose(0, 1) if entropy.dim() == 3 else entropy[None]
        slots = tuple(reducer.scalar(by_head[head].nanmean()) for head in range(heads))
        found.append(HeadSlots(op.call, slots))
    return found


def _weights(kind: str, node: Node) -> Tensor | None:
    if kind in ("Softmax", "SafeSoftmax"):
        result = read_saved(node, "result")
        return None if result is None else _first(result).float()
    query, key = read_saved(node, "query"), read_saved(node, "key")
    if not kind.startswith("ScaledDotProduct") or query is None or key is None:
        return None
    if query.dim() != 4 or query.shape[1] != key.shape[1]:
        return None  # grouped queries
    fitting = max(1, _ENTRIES // max(1, query.shape[1] * query.shape[2] * key.shape[2]))
    query, key = query[:fitting].float(), key[:fitting].float()
    given: Any = getattr(node, "_saved_scale", None)
    scale = float(given) if given is not None else query.shape[-1] ** -0.5
    scores = query @ key.mT * scale
    mask = read_saved(node, "attn_mask")
    if mask is not None:
        scores = scores + (mask[:fitting] if mask.dim() == 4 and len(mask) > 1 else mask)
    if getattr(node, "_saved_is_causal", False):
        above = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(above, -math.inf)
    return scores.softmax(-1)


def _first(weights: Tensor) -> Tensor:
    size = max(1, weights[0].numel())
    return weights[: max(1, _ENTRIES // size)]


def _entropy(weights: Tensor) -> Tensor:
    """Return the entropy of each query over the greatest it could have; nan: it sees one key."""
    visible = (weights > 0).sum(-1)
    entropy = -torch.special.xlogy(weights, weights).sum(-1)
    most = visible.clamp(min=2).log()
    return torch.where(visible > 1, entropy / most, _single(weights, entropy))


def _single(weights: Tensor, entropy: Tensor) -> Tensor:
    """A query with weight on one key: saturated (0), unless it is the first of a causal mask."""
    row = torch.arange(weights.shape[-2], device=weights.device)
    later = (row > 0).expand(entropy.shape)
    return torch.where(later, torch.zeros_like(entropy), torch.full_like(entropy, math.nan))
