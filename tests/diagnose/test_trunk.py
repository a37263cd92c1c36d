"""The trunk: what is judged, what is left out, and how its parts add up."""

from __future__ import annotations

import math

import pytest

from tests.diagnose.builders import Net, a_view, over_time, stack
from unvanish.diagnose.trunk import Trunk
from unvanish.records import Trace


def trunk_of(trace: Trace) -> Trunk:
    trunk = a_view([trace]).traces[0].trunk
    assert trunk is not None
    return trunk


def test_the_ratio_starts_at_the_output_and_telescopes() -> None:
    trace = stack(20, "sigmoid", 0.577).trace()
    trunk = trunk_of(trace)
    assert trace.main_path is not None
    assert trace.output_level_log10 is not None
    assert trunk.ratio == pytest.approx(
        trace.main_path.source_level_log10 - trace.output_level_log10
    )
    assert sum(trunk.gains.values()) == pytest.approx(trunk.ratio)
    assert trunk.layers == 20
    assert 10**trunk.per_layer_log10 == pytest.approx(0.245 * 0.577)


def test_a_relu_is_not_to_blame_for_its_nature() -> None:
    trunk = trunk_of(stack(30, "relu", 0.577).trace())
    assert trunk.blame["off"] == pytest.approx(0.0, abs=1e-9)
    # Each weight is measured against sqrt(2); the head, which feeds no ReLU behind it, against 1.
    expected = 30 * math.log10(0.577) - 29 * math.log10(math.sqrt(2))
    assert trunk.blame["weight"] == pytest.approx(expected)


def test_pools_constants_and_learnt_scales_are_left_out() -> None:
    net = Net().linear("0").relu("1")
    net.add("2", "MulBackward0", "weight", -5.0)  # LayerScale
    net.add("3", "MeanBackward1", "pool", -1.0).add("4", "MulBackward0", "scale", -3.0)
    trunk = trunk_of(net.linear("5").loss().trace())
    assert trunk.ratio == pytest.approx(math.log10(math.sqrt(0.5)))


@pytest.mark.parametrize("op", ["SigmoidBackward0", "SoftmaxBackward0"])
def test_the_squashing_at_the_output_belongs_to_the_loss(op: str) -> None:
    factor = "attention" if op.startswith("Softmax") else "slope"
    net = Net().linear("0").relu("1").linear("2").add("3", op, factor, -4.0)  # type: ignore[arg-type]
    assert trunk_of(net.loss().trace()).ratio == pytest.approx(math.log10(math.sqrt(0.5)))


def test_a_weight_before_a_norm_is_judged_with_it() -> None:
    net = Net().linear("0")
    for i in range(5):
        net.norm(f"n{i}", 100.0).relu(f"r{i}").linear(f"c{i}", 0.02)
    net.norm("n", 100.0).relu("r").linear("head").loss()
    trunk = trunk_of(net.trace())
    # The weights' 0.02 and the norms' 100 share one account; only the head is a weight of its own.
    assert trunk.blame["weight"] == pytest.approx(0.0, abs=1e-9)
    assert len(trunk.of("norm")) == 11 - 1


@pytest.mark.parametrize(("gain", "growth"), [(100.0, 2.0), (0.01, 0.0)])
def test_growth_by_a_norm_that_only_skips_part_from_the_source(gain: float, growth: float) -> None:
    """It divides by a scale that no weight has set; what shrinks the signal is counted."""
    net = Net().add("emb", "EmbeddingBackward0", "weight", 0.0)
    net.add("block", "AddBackward0", "merge", 0.0, merge=0.3).norm("norm", gain)
    trunk = trunk_of(net.linear("head").loss().trace())
    assert trunk.growth_at_source == pytest.approx(growth)
    assert trunk_of(stack(3, "relu", 1.0).trace()).growth_at_source == 0


def test_what_a_further_source_has_of_its_own() -> None:
    main = stack(4, "relu", math.sqrt(2))
    side = Net(main.ops[3:])  # leaves the trunk behind the second linear
    side.ops = [*Net().linear("table").linear("a", 0.1).linear("b", 0.1).ops, *side.ops]
    one, other = (trunk_of(net.trace()) for net in (main, side))
    layers, decades = other.own(one)
    assert (layers, decades) == (2, pytest.approx(-2.0))
    assert one.own(one) == (0, 0)


def test_a_norm_right_behind_the_source_is_left_out() -> None:
    net = Net().add("emb", "EmbeddingBackward0", "weight", 0.0).norm("norm", 50.0)
    trunk = trunk_of(net.linear("1").loss().trace())
    assert trunk.ratio == pytest.approx(0.0)


def test_recurrence_is_kept_apart() -> None:
    net = Net().linear("in")
    for _ in range(10):
        net.add("rnn", "TanhBackward0", "slope", -0.05).add(
            "rnn", "MmBackward0", "recurrence", -0.2
        )
    trunk = trunk_of(net.linear("head").loss().trace(recurrences=(over_time(-0.25, 10),)))
    assert trunk.ratio_in_space == pytest.approx(0.0)
    assert trunk.gains["recurrence"] == pytest.approx(-2.5)


def test_a_gain_of_zero_cuts_and_a_gain_of_nan_breaks() -> None:
    cut = trunk_of(Net().linear("0").relu("1", 0.0).linear("2").loss().trace())
    assert cut.ratio == -math.inf
    assert cut.cut is not None
    assert cut.cut.edge.module == "1"
    broken = Net().linear("0").add("1", "X", "slope", math.nan).linear("2").loss().trace()
    assert a_view([broken]).traces[0].trunks == ()


def test_an_output_without_a_signal_is_not_judged() -> None:
    trace = stack(3, "sigmoid", 0.577).trace(output_level_log10=-math.inf)
    assert a_view([trace]).traces[0].trunks == ()


def test_functional_ops_find_their_own_rows() -> None:
    net = Net().linear("0")
    for i in range(3):
        row = {"activation": "sigmoid", "saturated_share": 0.9 if i == 1 else 0.0}
        net.add("", "SigmoidBackward0", "slope", -0.6, functional=True, row=row)
        net.linear(f"{i + 1}")
    parts = [item.part for item in trunk_of(net.loss().trace()).edges]
    assert parts[1::2] == ["slope", "saturation", "slope"]


def test_a_trace_without_a_path_has_no_trunk() -> None:
    trace = Trace(step=0, loss=1.0, layers=(), main_path=None)
    assert a_view([trace]).traces[0].trunk is None
