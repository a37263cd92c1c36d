"""The entropy of attention heads, read off what the nodes saved."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unvanish.checking import check


class Attending(nn.Module):
    """Attention of one layer over tokens that are given its scores' scale."""

    def __init__(self, scale: float, how: str) -> None:
        super().__init__()
        self.project = nn.Linear(16, 48)
        self.scale, self.how = scale, how

    def forward(self, x: Tensor) -> Tensor:
        shape = (*x.shape[:2], 2, 8)
        query, key, value = (
            part.view(shape).transpose(1, 2) for part in self.project(x).chunk(3, -1)
        )
        query = query * self.scale
        if self.how == "plain":
            weights = (query @ key.mT / 8**0.5).softmax(-1)
            return (weights @ value).sum(1)
        causal = self.how == "causal"
        return F.scaled_dot_product_attention(query, key, value, is_causal=causal).sum(1)


def entropies(scale: float, how: str) -> list[float]:
    torch.manual_seed(0)
    found = check(Attending(scale, how), torch.randn(4, 10, 16), lambda m, b: m(b).pow(2).mean())
    heads = found.run.models[0].traces[0].attention
    assert [head.head for head in heads] == [0, 1]
    return [head.entropy for head in heads]


@pytest.mark.parametrize("how", ["plain", "fused", "causal"])
def test_even_and_sure_heads(how: str) -> None:
    assert entropies(0.0, how) == pytest.approx([1.0, 1.0], abs=1e-5)
    # Scores a thousand times larger: almost all weight on the greatest.
    assert max(entropies(1000.0, how)) < 0.05


def test_fused_and_plain_agree() -> None:
    # Both form the same softmax in float32: equal to rounding.
    assert entropies(1.0, "plain") == pytest.approx(entropies(1.0, "fused"), abs=1e-5)
    assert all(math.isfinite(value) for value in entropies(1.0, "causal"))
