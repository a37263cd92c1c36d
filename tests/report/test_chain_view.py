"""The chain on the terminal: any numbers at all can be shown."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from unvanish.chain import ACTIVATIONS, Chain, make_chain, solve, train
from unvanish.chain.explain import notes, story
from unvanish.codec import dumps, to_plain
from unvanish.errors import UsageError
from unvanish.report.chain import solution_view, training_view

anything = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False), st.floats(-20, 20), st.just(0.0)
)
chains = st.lists(st.tuples(anything, anything), min_size=1, max_size=40)


def shown(parts: list[RenderableType], width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    for part in parts:
        console.print(part)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(ACTIVATIONS)), chains, anything, anything)
def test_any_chain_can_be_shown_and_saved(
    name: str, pairs: list[tuple[float, float]], a_0: float, target: float
) -> None:
    weights, biases = zip(*pairs, strict=True)
    solution = solve(Chain(weights, biases, name), a_0, target)
    for chosen in (False, True):
        assert "∂C/∂w_1" in shown(solution_view(solution, notes(solution, chosen)))
    assert dumps(to_plain(solution))


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(sorted(ACTIVATIONS)),
    chains,
    st.lists(st.tuples(anything, anything), min_size=1, max_size=3),
    st.floats(0, 1e308, exclude_min=True),
)
def test_any_training_can_be_shown_and_saved(
    name: str, pairs: list[tuple[float, float]], samples: list[tuple[float, float]], lr: float
) -> None:
    weights, biases = zip(*pairs, strict=True)
    training = train(Chain(weights, biases, name), samples, steps=4, lr=lr)
    assert story(training) in " ".join(
        shown(training_view({name: training}, [story(training)]), width=1000).split()
    )
    assert dumps(to_plain(training))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(ACTIVATIONS)), chains, anything)
def test_any_pre_activation_is_reached_or_refused(
    name: str, pairs: list[tuple[float, float]], a_0: float
) -> None:
    weights, zs = zip(*pairs, strict=True)
    try:
        chain = make_chain(None, weights, pre_activation=zs, a_0=a_0, activation=name)
    except UsageError:
        return
    for neuron, z in zip(solve(chain, a_0).neurons, zs, strict=True):
        assert abs(neuron.z - z) <= 1e-9 * max(1.0, abs(z))


def test_a_long_table_shows_both_ends_and_what_kills() -> None:
    zs = [0.0] * 500
    zs[250] = 30.0
    solution = solve(make_chain(None, 4.0, pre_activation=zs))
    text = shown(solution_view(solution, ()))
    rows = [line.split()[0] for line in text.splitlines() if " 4 " in line]
    assert rows[:2] == ["1", "2"]
    assert "251" in rows
    assert rows[-1] == "500"
    assert len(rows) == 24
    assert "…" in text


@pytest.mark.parametrize(("weight", "mark"), [(8.0, "+"), (1.0, "−")])
def test_bars_say_which_way_the_signal_goes(weight: float, mark: str) -> None:
    text = shown(solution_view(solve(make_chain(3, weight, pre_activation=0)), ()))
    assert text.count(mark + "█") == 3


def test_curves_fall_as_the_loss_does() -> None:
    from unvanish.report.chain import _curve

    assert _curve([8.0, 4.0, 2.0, 1.0, 0.5, 0.0], 0.0, 8.0)[0] == "█"
    assert _curve([8.0, 4.0, 2.0, 1.0, 0.5, 0.0], 0.0, 8.0)[-1] == "▁"
    assert set(_curve([1.0] * 9, 0.0, 1.0)) == {"█"}
    assert _curve([1.0, float("inf"), float("nan")], 0.0, 1.0)[-1] == "█"
