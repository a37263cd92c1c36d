"""The formula and the sentences: the numbers in them are the numbers that were computed."""

import math
import re

import pytest

from unvanish.chain import Chain, make_chain, solve, train
from unvanish.chain.explain import headline, notes, story
from unvanish.chain.formula import figure, numbers, symbols


def evaluate(text: str) -> float:
    """Work a printed product out again."""
    plain = text.replace("·", "*").replace("−", "-").replace("[", "(").replace("]", ")")
    assert re.fullmatch(r"[-+*(). 0-9e]+", plain)
    return float(eval(plain))


def test_symbols() -> None:
    assert symbols(1, "sigmoid") == "∂C/∂w_1 = (a_1 − y)·σ'(z_1)·a_0"
    assert symbols(3, "tanh") == ("∂C/∂w_1 = (a_3 − y)·φ'(z_3)·w_3·φ'(z_2)·w_2·φ'(z_1)·a_0")
    assert symbols(10, "sigmoid") == (
        "∂C/∂w_1 = (a_10 − y)·σ'(z_10)·w_10·σ'(z_9)·w_9 … σ'(z_2)·w_2·σ'(z_1)·a_0"
    )


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu"])
@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_the_printed_product_works_out_to_the_gradient(name: str, depth: int) -> None:
    chain = make_chain(depth, -1.7, pre_activation=0.4, a_0=-0.6, activation=name)
    solution = solve(chain, -0.6, target=0.9)
    in_slopes, in_factors, result = numbers(solution)
    assert "…" not in in_slopes
    gradient = solution.neurons[0].dC_dw
    # each of up to 12 numbers is printed with 4 digits or more
    assert evaluate(in_slopes) == pytest.approx(gradient, rel=12 * 1e-3)
    assert evaluate(in_factors) == pytest.approx(gradient, rel=12 * 1e-3)
    assert evaluate(result) == pytest.approx(gradient, rel=1e-3)


def test_the_sigmoid_s_slope_is_written_as_sigma_times_one_minus_sigma() -> None:
    in_slopes, _factors, _result = numbers(solve(make_chain(2, 10, pre_activation=[0, 12])))
    assert in_slopes == "(0.999994 − 0)·[0.999994·6.144e-06]·10·[0.5·0.5]·1"


def test_the_factor_that_kills_is_not_left_out() -> None:
    zs = [0.0] * 10
    zs[4] = 50.0
    in_slopes, in_factors, _result = numbers(solve(make_chain(None, 10, pre_activation=zs)))
    assert in_slopes.count("…") == 2
    assert "[1·1.929e-22]·10" in in_slopes
    assert "1.929e-21" in in_factors


@pytest.mark.parametrize(
    ("value", "log10", "text"),
    [
        (2.5, 0.4, "2.5"),
        (-0.0, -math.inf, "0"),
        (0.0, -4242.25, "10^-4242.2"),
        (-math.inf, 999.0, "-10^999.0"),
        (0.0, -4.25e199, "10^(-4.25e+199)"),
        (math.inf, math.inf, "inf"),
        (math.nan, math.nan, "nan"),
    ],
)
def test_figures(value: float, log10: float, text: str) -> None:
    assert figure(value, log10) == text


def said(chain: Chain, a_0: float = 1.0, target: float = 0.0, chosen: bool = False) -> str:
    solution = solve(chain, a_0, target)
    return " ".join([headline(solution), *notes(solution, chosen)])


def test_the_two_answers_name_each_other() -> None:
    chosen = said(make_chain(10, 10, pre_activation=0), chosen=True)
    given = said(make_chain(10, 10, bias=0))
    assert "9536.7431640625" in chosen
    assert "explodes" in chosen
    assert "--bias 0" in chosen
    assert "10 of 10 units saturate" in chosen  # those of the other answer
    assert "3.73192e-34" in chosen
    assert "3.73192e-34" in given
    assert "vanishes" in given
    assert "10 of 10 units saturate" in given
    assert "--pre-activation 0" in given
    assert "9536.7431640625" in given


def test_one_saturated_neuron_is_pointed_to() -> None:
    zs = [0.0] * 10
    zs[3] = 40.0
    text = said(make_chain(None, 10, pre_activation=zs), chosen=True)
    assert "Neuron 4 alone kills the product" in text
    assert "without it the gain would be 10^3.58" in text
    assert "alone" not in said(make_chain(10, 10, bias=0))


def test_one_small_weight_is_pointed_to() -> None:
    weights = [4.0] * 6
    weights[1] = 1e-9
    text = said(make_chain(None, weights, pre_activation=0), chosen=True)
    assert "Neuron 2 alone kills the product" in text
    assert "saturate (" not in text.partition("The biases")[0]


@pytest.mark.parametrize(
    ("chain", "a_0", "target", "words"),
    [
        (make_chain(3), 0.0, 0.0, "a_0 is 0"),
        (make_chain(3, activation="linear"), 0.5, 0.5, "output equals the target"),
        (make_chain(3, -1.0, [0.0, 0.5, 0.0], activation="relu"), 1.0, 0.0, "are off (1, 3)"),
        (make_chain(3, 1e200, activation="linear"), 1.0, 0.0, "overflow float64 from neuron 2"),
        (make_chain(2000, 0.5, activation="tanh"), 1.0, 1.0, "logarithm is right"),
        (make_chain(3, 3.0), 1.0, 0.0, "none for neuron 1, since |w_1| < 4"),
        (make_chain(3, 20.0, activation="tanh"), 1.0, 0.0, "below 0.07 of the steepest, 1"),
        (make_chain(3, activation="linear"), 1.0, 0.0, "keeps its size"),
        (make_chain(3, 1e308, bias=1e308, activation="linear"), 1.0, 0.0, "explodes"),
        (Chain((1e308, -1.0), (1e308, math.inf), "relu"), 10.0, 0.0, "not a number"),
    ],
)
def test_what_else_is_worth_a_note(chain: Chain, a_0: float, target: float, words: str) -> None:
    assert words in said(chain, a_0, target)


def test_the_band_is_told_for_sigmoids_only() -> None:
    text = said(make_chain(10, 10, bias=0), a_0=0.1)
    assert "from -0.2063 to 0.2063, 0.4127 wide" in text
    assert "1 of 10 neurons" in text
    assert "0.448 (|w| = 6.89)" in text
    assert "band" not in said(make_chain(10, 10, activation="tanh"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, ["front stands still", "ignores x"]),
        ({"weight": 10.0}, ["front stands still", "too small a step for float64"]),
        (
            {"weight": 10.0, "pre_activation": 0.0, "a_0": 0.5},
            ["One giant step: at step 0", "dies"],
        ),
        ({"activation": "relu"}, ["It learns"]),
        ({"weight": 5.0, "activation": "linear"}, ["One giant step", "It blows up: at step 2"]),
        ({"weight": 1e200, "activation": "relu"}, ["It blows up: at step 0"]),
        ({"weight": -1.0, "activation": "relu"}, ["front stands still"]),
    ],
)
def test_the_story_of_a_training(arguments: dict[str, object], words: list[str]) -> None:
    text = story(train(make_chain(10, **arguments)))  # type: ignore[arg-type]
    for word in words:
        assert word in text


def test_the_story_of_weights_that_move_for_nothing() -> None:
    training = train(make_chain(10, activation="softplus"), lr=0.1)
    assert training.outcome == "moving"
    assert "has learnt nothing of x: the loss is 0.0133" in story(training)
