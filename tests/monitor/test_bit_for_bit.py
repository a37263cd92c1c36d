"""Training under watch is the training without it: parameters, buffers, gradients, random states.

Every step is sampled here, with probe and replay, so that all of our code runs.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from loops import ALL
from torch import Tensor, nn

from unvanish.records import Run


def result(loop: Callable[[], list[nn.Module]]) -> list[Tensor]:
    torch.manual_seed(7)
    models = loop()
    tensors = [tensor.clone() for model in models for tensor in model.state_dict().values()]
    gradients = [
        parameter.grad.clone()
        for model in models
        for parameter in model.parameters()
        if parameter.grad is not None
    ]
    return [*tensors, *gradients, torch.get_rng_state()]


@pytest.mark.parametrize("loop", ALL, ids=lambda loop: loop.__name__)
def test_training_is_the_same(
    loop: Callable[[], list[nn.Module]], watch_loop: Callable[..., Run]
) -> None:
    bare = result(loop)
    watched: list[Tensor] = []
    run = watch_loop(lambda: watched.extend(result(loop)))
    assert sum(len(model.traces) for model in run.models) >= 6
    assert len(bare) == len(watched)
    for one, other in zip(bare, watched, strict=True):
        assert torch.equal(one, other)


def test_the_comparison_sees_a_difference() -> None:
    def disturbed() -> list[nn.Module]:
        torch.rand(1)
        return ALL[0]()

    pairs = zip(result(ALL[0]), result(disturbed), strict=True)
    assert not all(torch.equal(one, other) for one, other in pairs)
