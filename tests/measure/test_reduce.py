"""Norms that survive what float32 norms do not."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unvanish.measure.reduce import Reducer, join_log10, log10_norm


@pytest.mark.parametrize("value", [1e-44, 1e-38, 1e-30, 1e-23, 1e-10, 1.0, 1e10, 1e20, 1e37])
def test_float32_over_its_whole_range(value: float) -> None:
    tensor = torch.full((4096,), value)
    # The entry as float32 holds it; the norm of 4,096 equal entries is 64 times the entry. The sum
    # runs in 8 lanes: 512 roundings of 6e-8 at most, halved by the root, are 7e-6 decades.
    assert log10_norm(tensor) == pytest.approx(math.log10(float(tensor[0]) * 64), abs=7e-6)


@pytest.mark.parametrize("value", [1e-300, 1e-200, 1e200, 1e300])
def test_float64_beyond_the_range_of_its_squares(value: float) -> None:
    tensor = torch.full((4096,), value, dtype=torch.float64)
    assert log10_norm(tensor) == pytest.approx(math.log10(value) + math.log10(64), abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    tensor = torch.full((100_000,), 8.0, dtype=dtype)
    assert log10_norm(tensor) == pytest.approx(math.log10(8.0 * 100_000**0.5), abs=1e-6)


def test_special_values() -> None:
    assert log10_norm(torch.zeros(3)) == -math.inf
    assert log10_norm(torch.empty(0)) == -math.inf
    assert log10_norm(torch.tensor([1.0, math.inf])) == math.inf
    assert math.isnan(log10_norm(torch.tensor([1.0, math.inf, math.nan])))


def test_sparse_and_complex() -> None:
    sparse = torch.sparse_coo_tensor([[0, 0, 2]], [1.0, 2.0, 4.0], (4,))  # entry 0 twice: 3
    assert log10_norm(sparse) == pytest.approx(math.log10(5.0), abs=1e-7)
    assert log10_norm(torch.tensor([3 + 4j])) == pytest.approx(math.log10(5.0), abs=1e-7)


@given(
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=50),
    st.sampled_from([1e-30, 1e-18, 1e-8, 1.0, 1e8, 1e18, 1e30]),
)
def test_agrees_with_exact_arithmetic(values: list[float], scale: float) -> None:
    tensor = torch.tensor(values) * scale
    exact = math.hypot(*(float(value) for value in tensor))
    measured = log10_norm(tensor)
    if exact == 0.0:
        assert measured == -math.inf
    else:
        # 50 squares in float32: a few roundings of 6e-8.
        assert measured == pytest.approx(math.log10(exact), abs=1e-6)


def test_parts_join_to_the_norm_of_the_whole() -> None:
    parts = [torch.randn(5, dtype=torch.float64) * scale for scale in (1e-8, 1.0, 1e3)]
    joint = join_log10([log10_norm(part) for part in parts])
    assert joint == pytest.approx(log10_norm(torch.cat(parts)), abs=1e-12)
    assert join_log10([]) == -math.inf
    assert join_log10([-math.inf, -math.inf]) == -math.inf
    assert math.isnan(join_log10([0.0, math.nan]))


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_shares_add_to_one(scale: float) -> None:
    first, second = torch.randn(100) * scale, torch.randn(100) * scale
    whole = first + second
    reducer = Reducer()
    norm = reducer.norm(whole)
    slots = [reducer.share(part, whole, norm) for part in (first, second)]
    values = reducer.resolve()
    assert sum(values[slot] for slot in slots) == pytest.approx(1.0, abs=1e-5)
