"""The traced graph as a record: levels, gains and shares are autograd's, in float64 to rounding."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.measure.cases import CASES, Case, cross_entropy, data, labels
from tests.measure.tracing import trace
from unvanish.records import OpGraph

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def graph_of(model: nn.Module, batch: Any, loss_fn: Callable[[Any, Any], Tensor]) -> OpGraph:
    found = trace(model, batch, loss_fn).graph
    assert found is not None
    return found


@each_case
def test_edges_lead_from_the_input_to_the_loss_and_name_real_things(case: Case) -> None:
    graph = graph_of(*case.build())
    nodes = range(len(graph.ops))
    assert all(tail < head for tail, head in zip(graph.tails, graph.heads, strict=True))
    assert len({*zip(graph.tails, graph.heads, strict=True)}) == len(graph.tails)
    assert {*graph.tails, *graph.heads} <= {*nodes}
    assert len(graph.owners) == len(graph.factors) == len(graph.levels_log10) == len(graph.ops)
    for position, call in enumerate(graph.calls):
        assert call.parent is None or call.parent < position
    for node in nodes[:-1]:  # nothing hangs loose but the root
        assert node in graph.tails


@each_case
def test_what_comes_back_to_a_node_is_shared_out_wholly(case: Case) -> None:
    graph = graph_of(*case.build())
    total: dict[int, float] = {}
    for tail, share in zip(graph.tails, graph.shares, strict=True):
        if not math.isnan(share):
            total[tail] = total.get(tail, 0.0) + share
    assert total
    for node, whole in total.items():
        level = graph.levels_log10[node]
        if level is not None and math.isfinite(level):
            assert whole == pytest.approx(1.0, abs=1e-9), graph.names[graph.ops[node]]


@each_case
def test_levels_follow_from_gains_along_the_main_path(case: Case) -> None:
    result = trace(*case.build())
    graph, path = result.graph, result.main_path
    assert graph is not None
    assert path is not None
    gains = dict(zip(zip(graph.tails, graph.heads, strict=True), graph.gains_log10, strict=True))
    inside = [gains[tail, head] for head, tail in zip(graph.main, graph.main[1:], strict=False)
              if (tail, head) in gains]  # fmt: skip
    if len(graph.main) == len(path.edges) + 1:  # nothing on the way was opened
        assert inside == [edge.gain_log10 for edge in path.edges]


def test_a_residual_network_against_plain_autograd() -> None:
    torch.manual_seed(0)
    branch = nn.Linear(6, 6).double()

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.branch, self.head = nn.Linear(6, 6), branch, nn.Linear(6, 5)

        def forward(self, x: Tensor) -> Tensor:
            h = self.stem(x)
            return self.head(h + 0.1 * torch.tanh(self.branch(h)))

    model = Net().double()
    batch, target = data(8, 6), labels(8)
    graph = graph_of(model, batch, cross_entropy(target))
    names = [graph.names[op].partition("Backward")[0] for op in graph.ops]
    assert names == ["Addmm", "Addmm", "Tanh", "Mul", "Add", "Addmm", "LogSoftmax", "NllLoss"]

    h = model.stem(batch)
    z = branch(h)
    out = h + 0.1 * torch.tanh(z)
    loss = functional.cross_entropy(model.head(out), target)
    g_out, g_z = torch.autograd.grad(loss, [out, z])
    through = g_z @ branch.weight
    whole = g_out + through
    assert graph.levels_log10[0] == pytest.approx(math.log10(whole.norm().item()), abs=1e-12)
    edges = {
        (names[tail], names[head]): (share, gain)
        for tail, head, share, gain in zip(
            graph.tails, graph.heads, graph.shares, graph.gains_log10, strict=True
        )
        if tail == 0
    }
    assert edges["Addmm", "Add"][0] == pytest.approx(
        (g_out * whole).sum().item() / whole.square().sum().item(), abs=1e-12
    )
    share, gain = edges["Addmm", "Addmm"]
    assert share == pytest.approx(
        (through * whole).sum().item() / whole.square().sum().item(), abs=1e-12
    )
    assert gain == pytest.approx(math.log10((through.norm() / g_z.norm()).item()), abs=1e-12)


def test_a_graph_of_thousands_of_ops_stays_small() -> None:
    torch.manual_seed(0)
    layers = [part for _ in range(1000) for part in (nn.Linear(4, 4), nn.Tanh())]
    model = nn.Sequential(*layers, nn.Linear(4, 5))
    graph = graph_of(model, torch.randn(8, 4), cross_entropy(labels(8)))
    assert len(graph.ops) == 2003
    # Each node has a call of its own here. With a dict for each node it would be twice as much.
    assert len(msgspec.msgpack.encode(graph)) < 130 * len(graph.ops)
