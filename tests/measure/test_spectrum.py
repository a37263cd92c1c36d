"""The singular spectrum against the full Jacobian (torch.func.jacrev), and what it must not do."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.measure.cases import cross_entropy, data, labels
from tests.measure.tracing import trace
from unvanish.measure.spectrum import Jacobian, spectrum
from unvanish.records import Spectrum

MANY = 100_000  # products: the exact way, always


def measured(model: nn.Module, batch: Tensor, most: int = MANY) -> Spectrum:
    found = trace(model, batch, lambda m, b: m(b).square().mean(), replay=True, spectrum=most)
    assert found.spectrum is not None, found.notes
    return found.spectrum


def truth(model: nn.Module, batch: Tensor) -> Tensor:
    """Return the singular values of every sample's Jacobian, the greatest first."""
    jacobians = torch.func.vmap(torch.func.jacrev(lambda x: model(x[None])[0].reshape(-1)))(batch)
    return torch.linalg.svdvals(jacobians.detach().reshape(len(batch), jacobians.shape[1], -1))


def logs(values: Sequence[float]) -> list[float]:
    return [10.0**value for value in values]


def mlp(*widths: int) -> nn.Sequential:
    torch.manual_seed(0)
    body = [part for i, o in itertools.pairwise(widths) for part in (nn.Linear(i, o), nn.Tanh())]
    return nn.Sequential(*body[:-1]).double()


@pytest.mark.parametrize("widths", [(12, 16, 5), (4, 16, 9)], ids=["by rows", "by columns"])
def test_each_sample_s_singular_values_are_those_of_its_full_jacobian(
    widths: tuple[int, ...],
) -> None:
    model, batch = mlp(*widths), data(7, widths[0])
    found, values = measured(model, batch), truth(model, batch)
    assert (found.rows, found.columns, found.samples) == (widths[-1], widths[0], 7)
    assert (found.exact, found.coupled, found.starts) == (True, False, 0)
    # float64: a product is off by some 1e-16 of the greatest value, and the least is 0.02 of it
    assert logs(found.values_log10) == pytest.approx(values.median(dim=0).values.tolist(), rel=1e-9)
    assert logs(found.low_log10) == pytest.approx(values.amin(dim=0).tolist(), rel=1e-9)
    assert logs(found.high_log10) == pytest.approx(values.amax(dim=0).tolist(), rel=1e-9)
    assert found.shares[-1] == 1.0
    assert found.products <= min(widths[0], widths[-1]) + 4  # scale, samples, adjoint


def test_a_convolutional_network_with_dropout_and_images() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.GELU(), nn.Flatten(), nn.Linear(48, 6)).double()
    batch = data(5, 1, 6, 6)
    assert logs(measured(model, batch).values_log10) == pytest.approx(
        truth(model, batch).median(dim=0).values.tolist(), rel=1e-9
    )


def test_samples_that_batch_norm_couples_are_one_jacobian() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)).double()
    batch = data(4, 5)
    found = measured(model, batch)
    frozen = copy.deepcopy(model)
    frozen[1].track_running_stats = False
    whole = torch.autograd.functional.jacobian(frozen, batch).reshape(12, 20)
    assert (found.rows, found.columns, found.samples, found.coupled) == (12, 20, 1, True)
    assert logs(found.values_log10) == pytest.approx(torch.linalg.svdvals(whole).tolist(), rel=1e-9)


def test_tokens_are_followed_from_their_embedding_on() -> None:
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.out = nn.Embedding(9, 4), nn.Linear(12, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(torch.tanh(self.embed(x)).flatten(1))

    model = Net().double()
    batch = torch.arange(15).reshape(5, 3) % 9
    found = measured(model, batch)
    embedded = model.embed(batch).detach()
    values = truth(nn.Sequential(nn.Tanh(), nn.Flatten(), model.out), embedded)
    assert found.columns == 12
    assert logs(found.values_log10) == pytest.approx(values.median(dim=0).values.tolist(), rel=1e-9)


def test_an_orthogonal_linear_network_is_isometric() -> None:
    model = nn.Sequential(*[nn.Linear(8, 8, bias=False) for _ in range(30)]).double()
    for layer in model:
        nn.init.orthogonal_(layer.weight)
    assert measured(model, data(4, 8)).values_log10 == pytest.approx([0.0] * 8, abs=1e-12)


def distribution(values: Any, shares: Any, at: np.ndarray) -> np.ndarray:
    """Return the log10 of the singular values that the shares `at` fall on."""
    places = np.searchsorted(np.asarray(shares), at).clip(max=len(values) - 1)
    return np.asarray(values)[places]


def test_sampling_converges_to_the_whole_distribution() -> None:
    model, batch = mlp(80, 100, 100, 60), data(6, 80)
    values = truth(model, batch).flatten().sort(descending=True).values
    shares = np.arange(1, len(values) + 1) / len(values)
    at = np.linspace(0.02, 0.98, 97)
    exact = distribution(values.log10().numpy(), shares, at)
    errors, tops = [], []
    for most in (40, 59):
        found = measured(model, batch, most)
        assert not found.exact
        assert found.starts >= 2
        assert found.products <= most
        errors.append(np.abs(distribution(found.values_log10, found.shares, at) - exact).mean())
        tops.append(float(values[0].log10()) - found.values_log10[0])
    # More steps would do it exactly: here they are taken directly.
    jacobian = direct(model, batch)
    errors += [sampled_error(jacobian, steps, at, exact) for steps in (20, 45)]
    assert errors[-1] < errors[1] < errors[0] * 1.05
    assert errors[-1] < 0.06  # decades, over a distribution that spans two
    # The greatest Ritz value approaches the greatest singular value from below.
    assert all(-1e-9 <= top < 0.05 for top in tops)
    assert tops[1] <= tops[0]


def direct(model: nn.Module, batch: Tensor) -> Jacobian:
    leaf = batch.clone().requires_grad_()
    output = model(leaf)
    edge = torch.autograd.graph.get_gradient_edge(leaf)
    return Jacobian(output, [edge], [tuple(batch.shape)])


def sampled_error(jacobian: Jacobian, steps: int, at: np.ndarray, exact: np.ndarray) -> float:
    from unvanish.measure.spectrum import _lanczos, _random

    size = min(jacobian.rows, jacobian.columns)
    runs = [_lanczos(jacobian, _random(size, 2 + start), steps) for start in range(4)]
    nodes = np.concatenate([run[0].numpy() for run in runs])
    weights = np.concatenate([run[1].numpy() for run in runs]) / 4
    order = np.argsort(-nodes)
    shares = weights[order].cumsum()
    return float(np.abs(distribution(np.log10(nodes[order]), shares, at) - exact).mean())


def test_as_many_steps_as_dimensions_find_every_singular_value() -> None:
    from unvanish.measure.spectrum import _lanczos, _random

    model, batch = mlp(10, 12, 7), data(1, 10)
    values, weights = _lanczos(direct(model, batch), _random(7, 2), 7)
    assert values.tolist() == pytest.approx(truth(model, batch)[0].tolist(), rel=1e-8)
    assert float(weights.sum()) == pytest.approx(1.0, abs=1e-12)


def test_sampling_more_inputs_than_outputs_and_the_other_way_round_agree() -> None:
    model, batch = mlp(24, 30, 40), data(3, 24)
    found = spectrum(direct(model, batch), 3, 23)
    values = truth(model, batch).flatten().sort(descending=True).values
    assert (found.rows, found.columns, found.exact) == (40, 24, False)
    assert found.values_log10[0] == pytest.approx(float(values[0].log10()), abs=0.05)


def test_float32_is_no_limit_to_how_small_it_may_be() -> None:
    torch.manual_seed(0)
    body = [part for _ in range(45) for part in (nn.Linear(8, 8), nn.Sigmoid())]
    model = nn.Sequential(*body)
    batch = data(4, 8).float()
    found = measured(model, batch)
    values = truth(copy.deepcopy(model).double(), batch.double()).median(dim=0).values
    assert values[0] < 1e-36
    assert found.values_log10[0] == pytest.approx(math.log10(values[0]), abs=1e-3)


def test_exactly_zero_is_said_to_be_so() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    with torch.no_grad():
        model[0].bias.fill_(-1e3)
    assert measured(model, data(3, 4)).values_log10 == (-math.inf, -math.inf)


def test_too_few_products_give_none_and_no_note() -> None:
    found = trace(mlp(80, 90, 60), data(4, 80), cross_entropy(labels(4)), replay=True, spectrum=16)
    assert found.spectrum is None
    assert found.notes == ()


def test_a_network_that_is_known_to_be_too_large_is_not_even_run_again() -> None:
    runs = []

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = mlp(80, 90, 60)

        def forward(self, x: Tensor) -> Tensor:
            runs.append(len(x))
            return self.inner(x)

    for most, times in ((16, 1), (100, 2)):
        runs.clear()
        trace(Net(), data(4, 80), cross_entropy(labels(4)), replay=True, probes=0, spectrum=most)
        assert runs == [4] * times


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.clone()


class Custom(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Once.apply(x)


def test_what_cannot_be_differentiated_twice_is_noted() -> None:
    model = nn.Sequential(mlp(4, 6, 9), Custom())
    found = trace(model, data(3, 4), lambda m, b: m(b).square().mean(), replay=True, spectrum=64)
    assert found.spectrum is None
    assert [note for note in found.notes if note.startswith("no singular spectrum: ")]


def test_what_is_not_finite_is_noted() -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.sqrt(self.linear(x) * 0.0)

    found = trace(Broken().double(), data(3, 4), lambda m, b: m(b).sum(), replay=True, spectrum=64)
    assert "no singular spectrum: the Jacobian is not finite" in found.notes


def test_fused_attention_and_recurrence_are_opened_for_it() -> None:
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
            self.memory = nn.LSTM(8, 6, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.memory(self.attention(x))[0]

    found = measured(Net(), data(3, 4, 8).float(), 64)
    assert (found.rows, found.columns, found.exact) == (24, 32, True)
    assert measured(Net(), data(3, 4, 8).float(), 20).starts == 1


def test_nothing_is_changed_by_it() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 5))
    batch = data(8, 6).float()
    batch.requires_grad_(False)
    results = []
    for most in (0, 200):
        torch.manual_seed(1)
        one = copy.deepcopy(model)
        found = trace(one, batch, cross_entropy(labels(8)), replay=True, spectrum=most)
        gradients = [parameter.grad for parameter in one.parameters()]
        results.append(
            (found.layers, found.probe, torch.get_rng_state(), gradients, list(one.buffers()))
        )
        assert (found.spectrum is None) == (most == 0)
    (layers, probe, states, gradients, buffers), other = results
    assert layers == other[0]
    assert probe == other[1]
    assert torch.equal(states, other[2])
    assert all(torch.equal(a, b) for a, b in zip(gradients, other[3], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(buffers, other[4], strict=True))
    assert batch.grad is None
    assert not batch.requires_grad
