"""Factors, sources, cut points, whole calls, slopes, probes: what a trace says of a structure."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.measure import cases
from tests.measure.cases import CASES, cross_entropy, data, labels
from tests.measure.tracing import trace
from unvanish.records import LayerSignal, Trace

BY_NAME = {case.name: case for case in CASES}


def traced(name: str, **options: Any) -> Trace:
    return trace(*BY_NAME[name].build(), **options)


def layer(result: Trace, module: str) -> LayerSignal:
    return next(one for one in result.layers if one.module == module and one.op is None)


# --- slopes --------------------------------------------------------------------------------------


def test_saturation_of_the_sigmoid_is_beyond_4() -> None:
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64).reshape(-1, 1).requires_grad_()
    result = trace(None, z, lambda _m, b: torch.sigmoid(b).sum())
    row = next(one for one in result.layers if one.activation == "sigmoid")
    # All 4,001 points are counted, as they are fewer than the sample's bound; 0.0707 is 4.0003.
    assert row.saturated_share == pytest.approx(float((z.abs() > 4).double().mean()), abs=1e-3)
    assert row.off_share == 0.0


def test_relu_is_off_for_half_and_a_dead_unit_is_found() -> None:
    x = data(200, 4)
    x[:, 2] = -x[:, 2].abs()
    x = x.requires_grad_()
    result = trace(None, x, lambda _m, b: torch.relu(b).sum())
    row = next(one for one in result.layers if one.activation == "relu")
    assert row.units == 4
    assert row.dead_share == 0.25
    assert row.off_share == pytest.approx(float((x <= 0).double().mean()), abs=1e-12)
    assert row.saturated_share in (None, 0.0)


def test_dead_channels_of_a_convolution() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5)).double()
    batch = data(6, 1, 6, 6)
    model(batch)
    with torch.no_grad():
        model[0].bias[1] = -100.0
    row = layer(trace(model, batch, cross_entropy(labels(6))), "1")
    assert (row.units, row.dead_share) == (4, 0.25)


def test_entries_without_a_gradient_say_nothing() -> None:
    x = data(10, 3).requires_grad_()
    mask = torch.zeros(10, 3, dtype=torch.float64)
    mask[:, 0] = 1.0
    result = trace(None, x, lambda _m, b: (torch.relu(b) * mask).sum())
    row = next(one for one in result.layers if one.activation == "relu")
    assert row.off_share == pytest.approx(float((x[:, 0] <= 0).double().mean()), abs=1e-12)
    assert row.dead_share == 0.0


# --- factors -------------------------------------------------------------------------------------


def test_modules_that_are_one_factor_as_a_whole() -> None:
    result = traced("language_model")
    assert set(layer(result, "norm").factors_log10) == {"norm"}
    assert set(layer(result, "activation").factors_log10) == {"slope"}


def test_a_hand_written_activation_has_its_true_slope() -> None:
    model = cases.HandWrittenGELU()
    z = data(50, 3).requires_grad_()
    result = trace(model, z, lambda m, b: m(b).sum())
    slope = torch.autograd.grad(model(z).sum(), z)[0]
    measured = layer(result, "").slope_rms
    assert measured == pytest.approx(float(slope.pow(2).mean().sqrt()), rel=1e-12)


def test_weights_that_act_again_are_a_recurrence_and_shared_ones_are_not() -> None:
    tied = traced("weight_tied")
    assert [item.weight for item in tied.recurrences] == ["layer.weight"]
    assert len(tied.recurrences[0].levels) == 4
    # Embedding and head share a weight; the one is not applied to the output of the other.
    assert traced("language_model").recurrences == ()


class SinTimesX(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.sin(x) * x

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (x,) = ctx.saved_tensors
        return gradients[0] * (torch.sin(x) + x * torch.cos(x))


class CumulativeSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.cumsum(-1)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0].flip(-1).cumsum(-1).flip(-1)


@pytest.mark.parametrize(("function", "factor"), [(SinTimesX, "slope"), (CumulativeSum, "opaque")])
def test_an_op_that_no_table_knows_is_element_wise_by_its_ratios(
    function: Any, factor: str
) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = nn.Linear(6, 8), nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(function.apply(self.first(x)))

    torch.manual_seed(0)
    result = trace(Model(), data(8, 6).float(), cross_entropy(labels(8)), replay=True, probes=1)
    assert result.main_path is not None
    edge = next(edge for edge in result.main_path.edges if edge.op.startswith(function.__name__))
    assert edge.factor == factor
    assert any("opaque" in note for note in result.notes) == (factor == "opaque")


def test_blame_of_relu_with_he_weights_is_nobodys() -> None:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(10):
        layers += [nn.Linear(256, 256), nn.ReLU()]
        nn.init.kaiming_normal_(layers[-2].weight, nonlinearity="relu")  # type: ignore[arg-type]
    model = nn.Sequential(*layers, nn.Linear(256, 10))
    result = trace(model, data(32, 256).float(), cross_entropy(labels(32, 10)))
    assert result.main_path is not None
    # The head, edge by edge the first weight, is PyTorch's default: leave it out.
    inside = [edge for edge in result.main_path.edges if edge.module not in (None, "20")]
    for factor in ("slope", "weight"):
        blame = sum(edge.blame_log10 for edge in inside if edge.factor == factor)
        gain = sum(edge.gain_log10 for edge in inside if edge.factor == factor)
        # Without references each would be blamed for 10 layers of 0.15 decades; a net of width
        # 256 strays from the mean by sqrt(10 * 5 / 256) / 2 nats, 0.2 decades.
        assert abs(gain) > 1.2
        assert abs(blame) < 0.5


# --- sources, cut points -------------------------------------------------------------------------


def test_a_positional_embedding_without_a_batch_is_no_source() -> None:
    result = traced("language_model")
    assert result.main_path is not None
    sources = {result.main_path.source_module, *(path.source_module for path in result.paths)}
    assert "position" not in sources
    assert "embed" in sources


def test_every_input_has_its_main_path() -> None:
    result = traced("unet_with_time")
    assert result.main_path is not None
    sources = {path.source_module for path in (result.main_path, *result.paths)}
    assert {"down1", "time.0"} <= sources


def test_cut_points_of_a_residual_net_are_the_ops_between_blocks() -> None:
    result = traced("residual")
    assert result.main_path is not None
    cuts = [edge for edge in result.main_path.edges if edge.cut_point]
    assert sum(edge.op == "AddBackward0" for edge in cuts) == 4
    total = sum(segment.gain_log10 for segment in result.segments)
    # All paths pass the first and the last cut point: segments telescope between them.
    expected = result.main_path.source_level_log10 - result.main_path.root_level_log10
    assert total == pytest.approx(expected, abs=1e-12)


def test_the_summands_of_the_loss_are_told_apart() -> None:
    assert len(traced("two_losses").loss_terms) == 2
    assert len(traced("mlp").loss_terms) == 1


# --- probe and forward signal --------------------------------------------------------------------


def test_the_probe_converges_to_the_norm_of_the_jacobian() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 4)).double()
    x = data(1, 6).requires_grad_()
    jacobian = torch.autograd.functional.jacobian(model, x).reshape(4, 6)
    # v is uniform on the unit sphere of R^4: E||J^T v||^2 = ||J||_F^2 / 4.
    exact = 0.5 * math.log10(float(jacobian.pow(2).sum()) / 4)
    errors = []
    for probes in (4, 64, 1024):
        result = trace(model, x, lambda m, b: m(b).pow(2).sum(), replay=True, probes=probes)
        assert result.probe is not None
        assert result.probe.count == probes
        errors.append(abs(result.probe.gain_log10 - exact))
    # The standard error falls as 1/sqrt(n); the relative spread of ||J^T v||^2 is below 1.
    assert errors[2] < 3 * 0.5 / math.log(10) / 1024**0.5
    assert result.probe.low_log10 <= exact <= result.probe.high_log10


def test_participation_counts_the_samples_that_are_told_apart() -> None:
    model = nn.Linear(40, 40, bias=False).double()
    x = data(16, 40).requires_grad_()
    apart = trace(model, x, lambda m, b: m(b).pow(2).sum(), replay=True, probes=1)
    participation = layer(apart, "").participation
    # 16 random directions in 40 dimensions: 16 / (1 + 16/40) = 11 expected.
    assert participation == pytest.approx(11.4, abs=2.5)
    with torch.no_grad():
        model.weight.copy_(torch.outer(model.weight[:, 0], torch.ones(40, dtype=torch.float64)))
    front = nn.Sequential(nn.Linear(40, 40).double(), model)
    one = trace(front, x.detach(), lambda m, b: m(b).pow(2).sum(), replay=True, probes=1)
    assert layer(one, "0").participation == pytest.approx(1.0, abs=1e-6)  # rank one


def test_forward_statistics() -> None:
    model = nn.Sequential(nn.Identity(), nn.Linear(6, 5)).double()
    batch = data(8, 6)
    result = trace(model, batch, cross_entropy(labels(8)))
    unit = batch / batch.norm(dim=1, keepdim=True)
    cosines = unit @ unit.T
    mean = float((cosines.sum() - 8) / (8 * 7))
    row = layer(result, "0")
    assert row.forward_rms == pytest.approx(float(batch.pow(2).mean().sqrt()), rel=1e-12)
    assert row.sample_correlation == pytest.approx(mean, abs=1e-12)
    same = trace(model, batch[:1].expand(8, 6), cross_entropy(labels(8)))
    assert layer(same, "0").sample_correlation == pytest.approx(1.0, abs=1e-12)


# --- not finite -----------------------------------------------------------------------------------


def test_the_first_op_that_breaks_the_forward() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = nn.Linear(6, 8), nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.log(torch.relu(self.first(x))))

    result = trace(Model(), data(8, 6).float(), cross_entropy(labels(8)))
    assert result.nonfinite is not None
    assert result.nonfinite.direction == "forward"
    assert result.nonfinite.op == "LogBackward0"


def test_the_first_op_that_breaks_the_backward() -> None:
    model = nn.Linear(6, 8)
    result = trace(
        model,
        data(8, 6).float(),
        lambda m, b: functional.mse_loss((m(b) - m(b)).pow(2).sum(1).sqrt(), torch.ones(8)),
    )
    assert math.isfinite(result.loss)
    assert result.nonfinite is not None
    assert (result.nonfinite.direction, result.nonfinite.op) == ("backward", "SqrtBackward0")
