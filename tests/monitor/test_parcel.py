from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unvanish.monitor.parcel import FAILED, Layout, Part, Row

NAMES = ("a.weight", "b.weight")
FLOAT32 = st.floats(-45.0, 39.0)  # decades: from the smallest subnormal to the largest number
FLOAT64 = st.floats(-323.0, 308.0)


def added(layout: Layout, *given: tuple[Row, dict[str, Part]]) -> tuple[list[Row], dict[str, Part]]:
    packed = [layout.pack(rank, row, parts) for rank, (row, parts) in enumerate(given)]
    assert {len(one) for one in packed} == {layout.size}
    return layout.unpack([sum(column) for column in zip(*packed, strict=True)])


def joined(one: float, other: float) -> float:
    high, low = max(one, other), min(one, other)
    return high + 0.5 * math.log10(1.0 + 10.0 ** (2.0 * (low - high)))


@pytest.mark.parametrize(("wide", "norms"), [(False, FLOAT32), (True, FLOAT64)])
def test_norms_of_parts_add_up_in_the_whole_range(
    wide: bool, norms: st.SearchStrategy[float]
) -> None:
    layout = Layout(2, NAMES, wide)

    @given(norms, norms)
    def check(one: float, other: float) -> None:
        parts = ({"a.weight": Part(gradient=value, weight=value)} for value in (one, other))
        _rows, sums = added(layout, *((Row(step=3), part) for part in parts))
        # Squares of 1e-323 are formed after a scaling by 1e200: nothing but rounding is lost.
        assert sums["a.weight"].gradient == pytest.approx(joined(one, other), abs=1e-12)
        assert sums["a.weight"].weight == pytest.approx(joined(one, other), abs=1e-12)
        assert sums["b.weight"].gradient == -math.inf

    check()


@pytest.mark.parametrize("wide", [False, True])
def test_what_is_not_finite_stays_so_and_counts_add_up(wide: bool) -> None:
    layout = Layout(2, NAMES, wide)
    one = {
        "a.weight": Part(gradient=math.inf, zeros=3, nonfinite=1, with_gradient=1),
        "b.weight": Part(change=math.nan),
    }
    other = {"a.weight": Part(gradient=1.0, zeros=4, subnormals=2, with_gradient=1)}
    _rows, sums = added(layout, (Row(step=0), one), (Row(step=0), other))
    assert sums["a.weight"].gradient == math.inf
    assert (sums["a.weight"].zeros, sums["a.weight"].subnormals) == (7, 2)
    assert (sums["a.weight"].nonfinite, sums["a.weight"].with_gradient) == (1, 2)
    assert math.isnan(sums["b.weight"].change)


def test_each_rank_has_a_row_of_its_own() -> None:
    layout = Layout(3, ())
    given = [
        Row(step=8, loss=0.5, level=-2.0, messages=1),
        Row(step=8, state=FAILED),
        Row(step=8, loss=math.inf),
    ]
    rows, sums = added(layout, *((row, {}) for row in given))
    assert [repr(row) for row in rows] == [
        repr(Row(*map(float, (row.step, row.state, row.seconds, row.loss, row.level, row.copies,
                              row.cost, row.bare, row.spent, row.elapsed, row.messages))))
        for row in given
    ]  # fmt: skip
    assert sums == {}
    assert layout.bytes == 3 * 88
