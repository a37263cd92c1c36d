"""Exactness, in float64: what the tracer says is what autograd says, to rounding.

A level is the logarithm of a norm that both sides form from the same gradient, so they may differ
by a few units in the last place of a sum of at most some hundred squares: 1e-12 is generous.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.measure.cases import CASES, Case, cross_entropy, data, labels
from tests.measure.tracing import path_sum, trace, true_output_levels

TOLERANCE = 1e-12

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@each_case
def test_gains_and_merges_add_up_to_the_ratio_of_levels(case: Case) -> None:
    result = trace(*case.build())
    assert result.main_path is not None
    for path in (result.main_path, *result.paths):
        expected = path.source_level_log10 - path.root_level_log10
        assert path_sum(path) == pytest.approx(expected, abs=TOLERANCE)
        level = path.root_level_log10
        for edge in path.edges:  # and at every op on the way
            assert edge.level_log10 == pytest.approx(level, abs=1e-9)
            level += edge.gain_log10 + edge.merge_log10


@pytest.mark.parametrize(
    # A reentrant checkpoint cannot be asked through autograd.grad: torch refuses.
    "case",
    [case for case in CASES if case.name != "checkpointed_reentrant"],
    ids=lambda case: case.name,
)
def test_levels_are_those_of_autograd(case: Case) -> None:
    model, batch, loss_fn = case.build()
    truth = true_output_levels(model, batch, loss_fn)
    result = trace(*case.build())
    compared = 0
    for layer in result.layers:
        expected = truth.get((layer.module, layer.call))
        if layer.op is None and layer.level_log10 is not None and expected is not None:
            assert layer.level_log10 == pytest.approx(expected, abs=TOLERANCE), layer.module
            compared += 1
    assert compared >= min(2, len(truth))


@each_case
def test_the_source_level_is_the_true_norm_at_the_first_layer(case: Case) -> None:
    result = trace(*case.build())
    assert result.main_path is not None
    assert result.root_level_log10 == pytest.approx(0.0, abs=TOLERANCE)
    assert math.isfinite(result.main_path.source_level_log10)


@pytest.mark.parametrize("factor", [1e-20, 1e-3, 7.0, 1e20])
@each_case
def test_scaling_the_loss_shifts_levels_and_changes_no_gain(case: Case, factor: float) -> None:
    plain = trace(*case.build())
    model, batch, loss_fn = case.build()
    scaled = trace(model, batch, lambda m, b: loss_fn(m, b) * factor)
    shift = math.log10(factor)
    for before, after in zip(plain.layers, scaled.layers, strict=True):
        if before.level_log10 is None:
            assert after.level_log10 is None
            continue
        assert after.level_log10 == pytest.approx(before.level_log10 + shift, abs=1e-9)
        if before.gain_log10 is not None:
            assert after.gain_log10 == pytest.approx(before.gain_log10, abs=1e-9)
    inside = [[op for op in result.ops if op.factor != "loss"] for result in (plain, scaled)]
    for one, other in zip(*inside, strict=True):
        assert (one.op, one.module, one.call, one.input) == (
            other.op,
            other.module,
            other.call,
            other.input,
        )
        # nan: no signal there to pass on (a forget gate at the first step, where the cell is 0)
        assert other.gain_log10 == pytest.approx(one.gain_log10, abs=1e-9, nan_ok=True)


@each_case
def test_wrapping_changes_nothing_but_names(case: Case) -> None:
    class Wrapper(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, *arguments: object) -> object:
            return self.inner(*arguments)

    plain = trace(*case.build())
    model, batch, loss_fn = case.build()
    wrapped = trace(Wrapper(model), batch, loss_fn)
    assert [layer.level_log10 for layer in wrapped.layers] == [
        layer.level_log10 for layer in plain.layers
    ]
    assert [layer.factors_log10 for layer in wrapped.layers] == [
        layer.factors_log10 for layer in plain.layers
    ]
    for before, after in zip(plain.layers, wrapped.layers, strict=True):
        assert after.module == (f"inner.{before.module}" if before.module else "inner")
    assert plain.main_path is not None
    assert wrapped.main_path is not None
    assert [edge.gain_log10 for edge in wrapped.main_path.edges] == [
        edge.gain_log10 for edge in plain.main_path.edges
    ]


# --- every node against a computation by hand ---------------------------------------------------


def log_ratio(part: Tensor, whole: Tensor) -> float:
    return float(torch.log10(part.norm() / whole.norm()).detach())


def gains_of(result: object, op: str) -> list[float]:
    return [gain.gain_log10 for gain in result.ops if gain.op.startswith(op)]  # type: ignore[attr-defined]


def test_mlp_by_hand() -> None:
    torch.manual_seed(0)
    first, second = nn.Linear(6, 8).double(), nn.Linear(8, 5).double()
    model = nn.Sequential(first, nn.Sigmoid(), second)
    batch, target = data(4, 6), labels(4)
    result = trace(model, batch, cross_entropy(target))

    activation = torch.sigmoid(batch @ first.weight.T + first.bias)
    logits = activation @ second.weight.T + second.bias
    at_logits = (torch.softmax(logits, 1) - functional.one_hot(target, 5)) / 4
    at_activation = at_logits @ second.weight
    at_pre = at_activation * activation * (1 - activation)
    assert gains_of(result, "Addmm") == pytest.approx(
        [log_ratio(at_activation, at_logits)], abs=TOLERANCE
    )
    assert gains_of(result, "Sigmoid") == pytest.approx(
        [log_ratio(at_pre, at_activation)], abs=TOLERANCE
    )
    layers = {layer.module: layer for layer in result.layers}
    assert layers["0"].level_log10 == pytest.approx(
        float(at_pre.norm().log10().detach()), abs=TOLERANCE
    )
    assert layers["0"].grad_log10 == pytest.approx(
        float(torch.cat([(at_pre.T @ batch).flatten(), at_pre.sum(0)]).norm().log10().detach()),
        abs=TOLERANCE,
    )


def test_convolution_by_hand() -> None:
    torch.manual_seed(0)
    first = nn.Conv2d(1, 3, 3, padding=1).double()
    second = nn.Conv2d(3, 2, 3, padding=1).double()
    batch = data(2, 1, 5, 5)
    result = trace(
        nn.Sequential(first, nn.Tanh(), second), batch, lambda m, b: m(b).pow(2).sum() / 2
    )
    activation = torch.tanh(first(batch)).detach()
    at_output = second(activation).detach()
    at_activation = functional.conv_transpose2d(at_output, second.weight, padding=1)
    at_pre = at_activation * (1 - activation**2)
    assert gains_of(result, "Convolution") == pytest.approx(
        [log_ratio(at_activation, at_output)], abs=TOLERANCE
    )
    assert gains_of(result, "Tanh") == pytest.approx(
        [log_ratio(at_pre, at_activation)], abs=TOLERANCE
    )


def test_residual_branch_has_the_gain_of_its_scale() -> None:
    torch.manual_seed(0)
    front = nn.Linear(6, 6).double()
    inner = nn.Linear(6, 6).double()

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.front, self.inner = front, inner

        def forward(self, x: Tensor) -> Tensor:
            h = self.front(x)
            return h + 0.1 * self.inner(h)

    batch = data(4, 6)
    result = trace(Block(), batch, lambda m, b: m(b).pow(2).sum() / 2)
    at_sum = (front(batch) + 0.1 * inner(front(batch))).detach()
    through_branch = 0.1 * at_sum @ inner.weight
    scales = [gain for gain in result.ops if gain.op == "MulBackward0" and gain.factor == "scale"]
    assert [gain.gain_log10 for gain in scales] == pytest.approx([-1.0], abs=TOLERANCE)
    layer = next(layer for layer in result.layers if layer.module == "inner")
    assert layer.gain_log10 == pytest.approx(log_ratio(through_branch, 0.1 * at_sum), abs=TOLERANCE)
    # The sum: the trunk's share is the greater one, and its merge term makes up for the branch.
    assert result.main_path is not None
    total = at_sum + through_branch
    merge = next(edge for edge in result.main_path.edges if edge.op == "AddBackward0")
    assert merge.merge_log10 == pytest.approx(log_ratio(total, at_sum), abs=TOLERANCE)


def test_attention_has_three_gains() -> None:
    query, key, value = (data(2, 3, 4, 8) * scale for scale in (1.0, 0.5, 2.0))
    leaves = [item.requires_grad_() for item in (query, key, value)]

    def loss_fn(_model: object, _batch: object) -> Tensor:
        return functional.scaled_dot_product_attention(*leaves).pow(2).sum() / 2

    result = trace(None, None, loss_fn)
    output = functional.scaled_dot_product_attention(*leaves).detach()
    scores = torch.softmax(query @ key.transpose(-1, -2) / 8**0.5, -1).detach()
    at_scores = output @ value.detach().transpose(-1, -2)
    at_logits = scores * (at_scores - (at_scores * scores).sum(-1, keepdim=True)) / 8**0.5
    expected = [
        log_ratio(at_logits @ key.detach(), output),
        log_ratio(at_logits.transpose(-1, -2) @ query.detach(), output),
        log_ratio(scores.transpose(-1, -2) @ output, output),
    ]
    fused = [gain for gain in result.ops if gain.op.startswith("ScaledDotProduct")]
    if fused:
        assert [gain.gain_log10 for gain in fused] == pytest.approx(expected, abs=1e-10)
        assert {gain.factor for gain in fused} == {"attention"}
    levels = sorted(path.source_level_log10 for path in (result.main_path, *result.paths) if path)
    total = float(output.norm().log10())
    assert levels == pytest.approx(sorted(total + gain for gain in expected), abs=1e-10)


def lstm_by_hand(layer: nn.LSTM, x: Tensor) -> dict[str, list[Tensor]]:
    """Return pre-activations, cell states and hidden states by time step, as plain tensors."""
    hidden = torch.zeros(x.shape[0], layer.hidden_size, dtype=x.dtype)
    cell = torch.zeros_like(hidden)
    kept: dict[str, list[Tensor]] = {"z": [], "h": [], "c": []}
    for moment in range(x.shape[1]):
        z = (
            x[:, moment] @ layer.weight_ih_l0.T
            + layer.bias_ih_l0
            + hidden @ layer.weight_hh_l0.T
            + layer.bias_hh_l0
        )
        i, f, g, o = z.chunk(4, dim=1)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        hidden = torch.sigmoid(o) * torch.tanh(cell)
        for name, value in (("z", z), ("h", hidden), ("c", cell)):
            kept[name].append(value)
    return kept


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    # Opened against fused differs by rounding alone: float32 holds 6e-8, a few hundred ops deep.
    [(torch.float64, 1e-11), (torch.float32, 1e-5)],
)
def test_lstm_by_hand(dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    model = nn.LSTM(4, 6, batch_first=True).to(dtype)
    batch = data(3, 5, 4).to(dtype)

    def loss_fn(m: nn.Module, b: Tensor) -> Tensor:
        return m(b)[0][:, -1].pow(2).sum()

    if dtype == torch.float32:
        fused = trace(model, batch, loss_fn)
        assert any(layer.opaque for layer in fused.layers), "this build fuses no LSTM"
    result = trace(model, batch, loss_fn, replay=True, probes=0)
    assert not any(layer.opaque for layer in result.layers)
    kept = lstm_by_hand(model, batch)
    gradients = torch.autograd.grad(kept["h"][-1].pow(2).sum(), kept["z"])
    levels = [float(gradient.double().norm().log10()) for gradient in gradients]
    by_weight = {item.weight: item for item in result.recurrences}
    assert set(by_weight) == {"weight_hh_l0"}
    measured = [step.level_log10 for step in by_weight["weight_hh_l0"].levels]
    assert measured == pytest.approx(levels, abs=tolerance)
    # The gain of each recurrent weight: what comes back to h_{t-1} over what is at z_t.
    expected = [log_ratio(gradient @ model.weight_hh_l0, gradient) for gradient in gradients[1:]]
    recurrent = [gain.gain_log10 for gain in result.ops if gain.factor == "recurrence"]
    assert recurrent == pytest.approx(expected, abs=tolerance)


# --- the regime this tool exists for ------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_levels_survive_float32(scale: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5))
    batch = data(4, 6).float()

    def loss_fn(m: nn.Module, b: Tensor) -> Tensor:
        return functional.mse_loss(m(b), torch.zeros(4, 5, dtype=b.dtype)) * scale

    single = trace(model, batch, loss_fn)
    double = trace(model.double(), batch.double(), loss_fn)
    for a, b in zip(single.layers, double.layers, strict=True):
        assert a.level_log10 is not None
        # float32 rounding, 6e-8 a number, over three layers.
        assert a.level_log10 == pytest.approx(b.level_log10, abs=1e-5)


def test_a_graph_of_20_000_ops() -> None:
    weight = torch.tensor([1.0001], dtype=torch.float64)

    def loss_fn(_model: object, leaf: Tensor) -> Tensor:
        x = leaf
        for _ in range(20_000):
            x = x * weight
        return x.sum()

    leaf = torch.ones(1, dtype=torch.float64, requires_grad=True)
    result = trace(None, leaf, loss_fn)
    assert result.op_count > 20_000
    assert result.main_path is not None
    # 20,000 rounding errors of 1e-16 each at most.
    assert path_sum(result.main_path) == pytest.approx(20_000 * math.log10(1.0001), abs=1e-10)
