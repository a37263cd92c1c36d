"""200 steps with a monitor are the 200 steps without it, at every level, bit for bit."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import loops
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.nn import functional

import unvanish

STEPS = 200
Attach = Callable[[nn.Module, Any], AbstractContextManager[Any]]


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def plain(attach: Attach) -> nn.Module:
    model = loops.network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with attach(model, optimizer):
        for _ in range(STEPS):
            inputs, targets = loops.batch()
            optimizer.zero_grad()
            functional.cross_entropy(model(inputs), targets).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    return model


def autocast(attach: Attach) -> nn.Module:
    model = loops.network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    with attach(model, optimizer):
        for _ in range(STEPS):
            inputs, targets = loops.batch()
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = functional.cross_entropy(model(inputs), targets)
            loss.backward()
            optimizer.step()
    return model


def accumulation(attach: Attach) -> nn.Module:
    model = loops.network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    with attach(model, optimizer):
        for _ in range(STEPS):
            for _ in range(3):
                inputs, targets = loops.batch()
                (functional.cross_entropy(model(inputs), targets) / 3).backward()
            optimizer.step()
            optimizer.zero_grad()
    return model


def checkpointed(attach: Attach, *, reentrant: bool = False) -> nn.Module:
    model = loops.Checkpointed(reentrant=reentrant)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    with attach(model, optimizer):
        for _ in range(STEPS):
            inputs, targets = loops.batch()
            if reentrant:
                inputs.requires_grad_()
            optimizer.zero_grad()
            functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
    return model


def checkpointed_reentrant(attach: Attach) -> nn.Module:
    return checkpointed(attach, reentrant=True)


def scaled_fused(attach: Attach) -> nn.Module:
    model = loops.network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=20)
    with attach(model, optimizer):
        for step in range(STEPS):
            inputs, targets = loops.batch()
            optimizer.zero_grad()
            scaler.scale(functional.cross_entropy(model(inputs), targets)).backward()
            if step == 64:
                model[0].weight.grad.fill_(torch.inf)
            scaler.step(optimizer)
            scaler.update()
    return model


def recurrent(attach: Attach) -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(6, 8, num_layers=2, dropout=0.2, batch_first=True)
            self.head = nn.Linear(8, 4)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.head(self.lstm(inputs)[0][:, -1])

    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    with attach(model, optimizer):
        for _ in range(STEPS):
            _, targets = loops.batch()
            optimizer.zero_grad()
            functional.cross_entropy(model(torch.randn(16, 5, 6)), targets).backward()
            optimizer.step()
    return model


def bits(loop: Callable[[Attach], nn.Module], attach: Attach) -> list[Tensor]:
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)
    model = loop(attach)
    state = [tensor.clone() for tensor in model.state_dict().values()]
    gradients = [
        parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None
    ]
    streams = [torch.tensor([random.random(), float(np.random.rand())], dtype=torch.float64)]
    return [*state, *gradients, *streams, torch.get_rng_state()]


def bare(_model: nn.Module, _optimizer: Any) -> AbstractContextManager[Any]:
    return contextlib.nullcontext()


class Attached:
    """Attaches a monitor that samples often, and keeps it to be looked at."""

    def __init__(self, level: str) -> None:
        self.level = level
        self.monitor: Any = None

    def __call__(self, model: nn.Module, optimizer: Any) -> AbstractContextManager[Any]:
        self.monitor = unvanish.monitor(
            model, optimizer, level=self.level, every=9, overhead=None, at=(64, 65, 66)
        )
        return self.monitor


@pytest.fixture(scope="module")
def bare_bits() -> Callable[[Callable[[Attach], nn.Module]], list[Tensor]]:
    known: dict[Any, list[Tensor]] = {}

    def of(loop: Callable[[Attach], nn.Module]) -> list[Tensor]:
        if loop not in known:
            known[loop] = bits(loop, bare)
        return known[loop]

    return of


@pytest.mark.parametrize("level", ["cheap", "standard", "full"])
@pytest.mark.parametrize(
    "loop",
    [
        plain,
        autocast,
        accumulation,
        checkpointed,
        checkpointed_reentrant,
        scaled_fused,
        recurrent,
    ],
    ids=lambda loop: loop.__name__,
)
@pytest.mark.filterwarnings("ignore::unvanish.errors.UnvanishWarning")
def test_two_hundred_steps_are_the_same(loop: Any, level: str, bare_bits: Any) -> None:
    attach = Attached(level)
    for one, other in zip(bare_bits(loop), bits(loop, attach), strict=True):
        assert torch.equal(one, other)
    run = attach.monitor.run()
    assert attach.monitor.notes == ()
    assert len(run.models[0].steps) == STEPS
    sampled = [step.step for step in run.models[0].steps if step.sampled]
    assert len(sampled) >= STEPS // 9
    assert {64, 65, 66} <= set(sampled)


def test_the_comparison_sees_a_difference(bare_bits: Any) -> None:
    def disturbing(_model: nn.Module, _optimizer: Any) -> AbstractContextManager[Any]:
        torch.rand(1)
        return contextlib.nullcontext()

    pairs = zip(bare_bits(plain), bits(plain, disturbing), strict=True)
    assert not all(torch.equal(one, other) for one, other in pairs)


# --- compiled ------------------------------------------------------------------------------------


def compiled_network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 4))


def compiled(attach: Attach, **options: Any) -> nn.Module:
    torch._dynamo.reset()
    counters.clear()
    model = compiled_network()
    called = torch.compile(model, **options)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with attach(model, optimizer):
        for _ in range(STEPS):
            inputs, targets = loops.batch()
            optimizer.zero_grad()
            functional.cross_entropy(called(inputs), targets).backward()
            optimizer.step()
    return model


@pytest.mark.slow
@pytest.mark.parametrize("level", ["cheap", "standard", "full"])
def test_compiled_by_inductor_with_dropout(level: str) -> None:
    expected = bits(lambda attach: compiled(attach, fullgraph=True), bare)
    attach = Attached(level)
    found = bits(lambda attach: compiled(attach, fullgraph=True), attach)
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(one, other)
    assert attach.monitor.notes == ()
    assert not counters["graph_break"]
    # The first call, which is sampled, compiles once; at most once more without our hooks.
    assert counters["stats"]["unique_graphs"] <= 2


def test_compiled_graphs_are_not_broken_and_compiled_twice_at_most() -> None:
    attach = Attached("standard")
    expected = bits(lambda attach: compiled(attach, backend="aot_eager", fullgraph=True), bare)
    assert counters["stats"]["unique_graphs"] == 1
    found = bits(lambda attach: compiled(attach, backend="aot_eager", fullgraph=True), attach)
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(one, other)
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] <= 2
    assert attach.monitor.notes == ()
