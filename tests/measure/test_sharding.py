"""FSDP2 on one rank: what is gathered, and what must not be read."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Partial, Placement, Replicate
from torch.distributed.tensor import Shard as Split

from unvanish.measure import BackwardTracer, CallLog
from unvanish.measure.sharding import (
    Shard,
    emptied,
    gathered,
    is_partial,
    named_parameters,
    plain_class,
    shard_of,
)


@pytest.fixture
def one_rank() -> Iterator[None]:
    store = distributed.HashStore()
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.fixture
def model(one_rank: None) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(6, 6), nn.PReLU(), nn.LayerNorm(6)) for _ in range(3)]
    network = nn.Sequential(*layers, nn.Linear(6, 1))
    for layer in layers:
        fully_shard(layer)
    fully_shard(network)
    return network


def test_a_parameter_whose_memory_is_gone_is_known(model: nn.Sequential) -> None:
    output = model(torch.randn(4, 6))
    leaves = [item for item in gathered_leaves(output) if emptied(item)]
    assert leaves  # those of the layers, which FSDP2 empties after their forward
    own = gathered([model])
    names = {id(parameter): name for name, parameter in named_parameters(model)}
    assert {names[id(own[id(leaf)])] for leaf in leaves} <= {
        name for name, _ in nn.Sequential.named_parameters(model)
    }
    assert not any(emptied(item) for item in (torch.zeros(0), torch.ones(3), output.detach()))


def gathered_leaves(output: Tensor) -> list[Tensor]:
    found, stack = [], [output.grad_fn]
    while stack:
        node = stack.pop()
        if hasattr(node, "variable"):
            found.append(node.variable)
        stack += [child for child, _slot in node.next_functions if child is not None]
    return found


def test_a_trace_reads_nothing_that_is_gone(model: nn.Sequential) -> None:
    """Reading it is a segmentation fault; a loss that is not finite has saved tensors read too."""
    for factor in (1.0, torch.inf):
        log = CallLog()
        log.install()
        log.active = True
        try:
            loss = (model(torch.randn(4, 6)) * factor).square().mean()
            tracer = BackwardTracer([loss], log)
            with tracer:
                loss.backward()
        finally:
            log.remove()
        trace = tracer.pending(step=0).resolve()
        assert [row.type for row in trace.layers if row.module == "0.0"] == ["Linear"]
        assert {signal.name for signal in trace.parameters} >= {"0.0.weight", "3.bias"}
        assert trace.main_path is not None
        path = [edge for edge in trace.main_path.edges if edge.factor == "weight"]
        assert path[0].weight == "3.weight"
        assert any("spread over ranks" in note for note in trace.notes)


def test_classes_are_named_as_the_user_wrote_them(model: nn.Sequential) -> None:
    assert type(model).__name__ == "FSDPSequential"
    assert plain_class(model) == "Sequential"
    assert plain_class(nn.Linear(1, 1)) == "Linear"


def test_one_rank_holds_the_whole(model: nn.Sequential) -> None:
    parameter = next(model.parameters())
    assert shard_of(parameter) == Shard(counts=True)
    assert not is_partial(parameter)
    assert shard_of(torch.ones(2)) is None


@pytest.mark.parametrize(
    ("place", "placements", "shard"),
    [
        ((0, 1), (Replicate(), Split(0)), Shard(counts=True)),
        ((1, 1), (Replicate(), Split(0)), Shard(counts=False)),  # a copy of another's part
        ((1, 1), (Split(1), Split(0)), Shard(counts=True)),
        ((1,), (Replicate(),), Shard(counts=False)),
        ((0,), (Partial(),), Shard(counts=True, summable=False)),
        (None, (Split(0),), Shard(counts=False)),  # outside the mesh
    ],
)
def test_of_copies_of_one_part_one_counts(
    place: tuple[int, ...] | None, placements: tuple[Placement, ...], shard: Shard
) -> None:
    mesh = SimpleNamespace(get_coordinate=lambda: place)
    tensor = SimpleNamespace(to_local=None, device_mesh=mesh, placements=placements)
    assert shard_of(tensor) == shard  # type: ignore[arg-type]
