"""torch.compile under watch: same bits, same graphs, no further graph break."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import loops
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.nn import functional

from conftest import watching


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 4))


class WithBreak(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.front, self.back = nn.Linear(12, 16), nn.Linear(16, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.front(inputs).relu()
        torch._dynamo.graph_break()
        return self.back(hidden)


def train(model: nn.Module, compiled: Callable[[Tensor], Tensor]) -> nn.Module:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(4):
        inputs, targets = loops.batch()
        optimizer.zero_grad()
        functional.cross_entropy(compiled(inputs), targets).backward()
        optimizer.step()
    return model


def by_inductor() -> nn.Module:
    model = network()
    return train(model, torch.compile(model, fullgraph=True))


def with_break() -> nn.Module:
    model = WithBreak()
    return train(model, torch.compile(model, backend="aot_eager"))


def in_place() -> nn.Module:
    model = WithBreak()
    model.compile(backend="aot_eager")
    return train(model, model)


def whole_step() -> nn.Module:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    @torch.compile(backend="aot_eager")
    def step(inputs: Tensor, targets: Tensor) -> None:
        optimizer.zero_grad()
        functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()

    for _ in range(4):
        step(*loops.batch())
    return model


def gradients_inside() -> nn.Module:
    model = WithBreak()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    parameters = list(model.parameters())

    @torch.compile(backend="aot_eager")
    def gradients(inputs: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(model(inputs).square().sum(), parameters)

    for _ in range(4):
        inputs, _ = loops.batch()
        for parameter, gradient in zip(parameters, gradients(inputs), strict=True):
            parameter.grad = gradient
        optimizer.step()
    return model


def outcome(loop: Callable[[], nn.Module]) -> tuple[list[Tensor], dict[str, int], int]:
    """Return the final parameters and random state, graphs and ops captured, graph breaks."""
    torch._dynamo.reset()
    counters.clear()
    torch.manual_seed(5)
    tensors = [tensor.clone() for tensor in loop().state_dict().values()]
    breaks = sum(counters["graph_break"].values())
    return [*tensors, torch.get_rng_state()], dict(counters["stats"]), breaks


@pytest.mark.parametrize(
    "loop",
    [by_inductor, with_break, in_place, whole_step, gradients_inside],
    ids=lambda loop: loop.__name__,
)
def test_compiled_training_is_the_same_and_seen(loop: Callable[[], nn.Module]) -> None:
    bare, graphs, breaks = outcome(loop)
    with warnings.catch_warnings(record=True) as caught, watching() as watched:
        warnings.simplefilter("always")
        with_us, our_graphs, our_breaks = outcome(loop)
    for one, other in zip(bare, with_us, strict=True):
        assert torch.equal(one, other)
    assert (our_graphs, our_breaks) == (graphs, breaks)
    assert graphs["unique_graphs"] >= 1
    assert not [item for item in caught if "global hooks" in str(item.message)]
    assert watched.lines == []
    (model,) = watched.run.models
    assert len(model.steps) == len(model.traces) == 4


def test_hooks_of_others_still_make_torch_warn() -> None:
    from torch.nn.modules.module import register_module_forward_hook

    model = torch.compile(network(), backend="eager")
    handle = register_module_forward_hook(lambda *_: None)
    try:
        with watching(), pytest.warns(UserWarning, match="global hooks"):
            model(torch.randn(2, 12))
    finally:
        handle.remove()
