"""The chain rule of the textbook chain, against torch's autograd in float64."""

import dataclasses
import math
import random
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.chain.torch_chain import VALUES, gradients, local_log10_gains
from unvanish.chain import ACTIVATIONS, Chain, Solution, make_chain, solve
from unvanish.chain.solution import forward
from unvanish.errors import UnknownNameError, UsageError

# Each derivative is a product of up to 2 L + 2 numbers, and each product rounds by 1e-16 at a
# random sign: sqrt(4000) 1e-16 = 7e-15 at depth 2,000. The two forward passes round differently
# too: a z off by 1e-15 puts its slope off by up to 2e-15, in all sqrt(2000) 2e-15 = 1e-13.
RELATIVE = 1e-12


def close(ours: float, theirs: float) -> bool:
    return ours == pytest.approx(theirs, rel=RELATIVE, abs=0)


def check_against_autograd(solution: Solution) -> None:
    expected = gradients(solution.chain, solution.a_0, solution.target)
    assert close(solution.input_gain, expected.input_gain)
    for neuron in solution.neurons:
        k = neuron.k - 1
        assert close(neuron.da_dw, expected.da_dw[k])
        assert close(neuron.da_db, expected.da_db[k])
        assert close(neuron.dC_dw, expected.dc_dw[k])
        assert close(neuron.dC_db, expected.dc_db[k])
        assert close(neuron.factor, expected.factors[k])


def steady_chain(name: str, depth: int) -> Chain:
    """A chain of random z whose factors are just below 1.

    So the signal stays within floats, and the forward pass does not amplify its own rounding: with
    factors above 1 two correct programs would disagree on z itself.
    """
    source = random.Random(f"{name} {depth}")
    signs = (1,) if name == "relu" else (1, -1)
    zs = [source.choice(signs) * source.uniform(0.1, 1.0) for _ in range(depth)]
    slope = ACTIVATIONS[name].slope
    weights = [source.choice((1, -1)) * source.uniform(0.9, 1.0) / slope(z) for z in zs]
    return make_chain(None, weights, pre_activation=zs, a_0=0.7, activation=name)


@pytest.mark.parametrize("depth", [1, 2, 10, 200, 2000])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_derivative_is_autograd_s(name: str, depth: int) -> None:
    solution = solve(steady_chain(name, depth), 0.7, target=0.25)
    assert -250 < solution.input_gain_log10 < 250  # within floats, or the comparison says nothing
    check_against_autograd(solution)


@pytest.mark.parametrize("weight", [0.01, -0.5, 20.0, -300.0])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_logarithms_at_depth_2000_are_right_beyond_the_floats(name: str, weight: float) -> None:
    chain = make_chain(2000, weight, pre_activation=0.5, a_0=0.4, activation=name)
    solution = solve(chain, 0.4)
    assert solution.input_gain in (0.0, math.inf, -math.inf)
    # autograd neuron by neuron, where nothing underflows, and its logarithms added up exactly
    gains = local_log10_gains(chain, 0.4)
    assert solution.input_gain_log10 == pytest.approx(math.fsum(gains), rel=RELATIVE)
    _zs, activations = forward(chain, 0.4)
    for k in (1, 2, 777, 1999):
        neuron = solution.neurons[k - 1]
        expected = math.fsum([*gains[k:], neuron.slope_log10])
        assert neuron.factor_log10 == pytest.approx(gains[k - 1], rel=RELATIVE, abs=1e-14)
        assert neuron.da_db_log10 == pytest.approx(expected, rel=RELATIVE)
        expected += math.log10(abs(activations[k - 1]))
        assert neuron.da_dw_log10 == pytest.approx(expected, rel=RELATIVE)
        expected += math.log10(abs(solution.error))
        assert neuron.dC_dw_log10 == pytest.approx(expected, rel=RELATIVE)


def test_saturated_neurons_are_right_beyond_the_floats() -> None:
    chain = make_chain(2000, 50.0, bias=1.0)
    gains = local_log10_gains(chain, 1.0, exact=True)
    assert max(gains) < -19  # z = 51
    assert solve(chain).input_gain_log10 == pytest.approx(math.fsum(gains), rel=RELATIVE)


numbers = st.floats(-3, 3).map(lambda x: math.copysign(0.05, x) + x)
neurons = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(ACTIVATIONS)), neurons, numbers, numbers)
def test_random_small_chains(
    name: str, pairs: list[tuple[float, float]], a_0: float, target: float
) -> None:
    weights, biases = zip(*pairs, strict=True)
    solution = solve(Chain(weights, biases, name), a_0, target)
    expected = gradients(solution.chain, a_0, target)
    # torch computes 1 - tanh^2 and sigma (1 - sigma) as they stand, and loses to the cancellation
    # what the slope has lost against 1
    lost = sum(1e-15 / neuron.slope for neuron in solution.neurons if neuron.slope)
    for neuron in solution.neurons:
        k = neuron.k - 1
        for ours, theirs in ((neuron.da_dw, expected.da_dw), (neuron.da_db, expected.da_db)):
            assert ours == pytest.approx(theirs[k], rel=RELATIVE + lost, abs=0)
        assert neuron.dC_dw == pytest.approx(neuron.da_dw * solution.error, rel=1e-14)
        assert neuron.dC_db == pytest.approx(neuron.da_db * solution.error, rel=1e-14)
    assert solution.error == pytest.approx(expected.output - target, abs=1e-12)


def test_the_textbook_product() -> None:
    solution = solve(make_chain(10, 10, pre_activation=0))
    assert solution.factors == (2.5,) * 10
    assert solution.input_gain == 9536.7431640625
    assert solution.neurons[0].da_dw == 9536.7431640625 / 10  # a_0 = 1, and w_1 is no factor of it
    assert not any(neuron.saturated for neuron in solution.neurons)


def test_the_same_weights_with_zero_biases_saturate() -> None:
    solution = solve(make_chain(10, 10, bias=0), a_0=0.0)
    assert solution.input_gain < 1e-27
    assert [neuron.k for neuron in solution.neurons if neuron.saturated] == list(range(2, 11))


def test_one_saturated_neuron_kills_the_product() -> None:
    zs = [0.0] * 10
    good = solve(make_chain(None, 10, pre_activation=zs)).input_gain
    zs[3] = 40.0
    bad = solve(make_chain(None, 10, pre_activation=zs))
    assert [neuron.k for neuron in bad.neurons if neuron.saturated] == [4]
    assert bad.input_gain / good == pytest.approx(4 * math.exp(-40), rel=1e-12)


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=8), st.floats(-20, 20))
def test_chosen_biases_put_z_where_it_is_wanted(zs: list[float], weight: float) -> None:
    chain = make_chain(None, weight, pre_activation=zs, a_0=0.3)
    for neuron, z in zip(solve(chain, 0.3).neurons, zs, strict=True):
        assert neuron.z == pytest.approx(z, rel=1e-12, abs=1e-13)  # two roundings of w a <= 20


def test_sum_and_product_rules_hold_between_the_numbers() -> None:
    solution = solve(steady_chain("tanh", 30), 0.7, target=0.1)
    product = 1.0
    for neuron in solution.neurons:
        assert neuron.factor == pytest.approx(neuron.weight * neuron.slope, rel=1e-15)
        product *= neuron.factor
    assert solution.input_gain == pytest.approx(product, rel=1e-13)
    assert solution.cost == 0.5 * (solution.output - 0.1) ** 2


def test_depth_is_not_limited_by_recursion() -> None:
    depth = 20 * sys.getrecursionlimit()
    solution = solve(make_chain(depth, 4, pre_activation=0))
    assert solution.input_gain == 1.0


def test_a_product_through_zero_comes_back() -> None:
    weights = [1e5 if k % 2 else 1e-5 for k in range(400)]
    weights.sort()
    chain = make_chain(None, weights, pre_activation=1.0, activation="linear")
    solution = solve(chain)
    assert solution.input_gain == pytest.approx(1.0, rel=1e-12)
    assert solution.neurons[200].da_db_log10 == pytest.approx(5 * 199, rel=1e-13)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("weight", [1e200, -1e200, 1.7e308, 5e-324])
def test_overflow_does_not_raise(name: str, weight: float) -> None:
    solution = solve(make_chain(8, weight, bias=1e300, activation=name), 1e200)
    assert len(solution.factors) == 8


def test_nan_is_shown_and_not_hidden_in_a_zero() -> None:
    chain = Chain((1e308, -1.0, 0.0), (1e308, math.inf, 0.0), "relu")  # z_2 = inf - inf
    solution = solve(chain, 10.0)
    assert math.isnan(solution.neurons[1].z)
    assert math.isnan(solution.input_gain)
    assert math.isnan(solution.input_gain_log10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 0}, "--depth of 1"),
        ({"depth": 3, "weight": [1.0, 2.0]}, r"--weight has 2 numbers.*3 neurons.*3 separated"),
        ({"weight": [1.0] * 4, "bias": [0.0] * 3}, "--bias has 3 numbers"),
        ({"weight": []}, "no neuron"),
        ({"bias": 0.0, "pre_activation": 0.0}, "not both.*Leave out"),
        ({"weight": math.inf}, "--weight holds a number that is not finite"),
        ({"pre_activation": [0.0, math.nan]}, "--pre-activation holds"),
        ({"weight": 1e20, "pre_activation": 0.3}, "no bias puts z_1 at 0.3.*smaller weights"),
        ({"weight": 1e308, "a_0": 10.0, "pre_activation": 0.0}, "no bias puts z_1"),
    ],
)
def test_bad_chains_are_refused_with_a_remedy(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_chain(**arguments)  # type: ignore[arg-type]


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="swish"):
        make_chain(activation="swish")


def test_results_cannot_be_changed() -> None:
    solution = solve(make_chain(2))
    with pytest.raises(dataclasses.FrozenInstanceError):
        solution.input_gain = 1.0  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        solution.neurons[0].z = 1.0  # type: ignore[misc]


def test_the_oracle_itself_is_torch() -> None:
    w = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(VALUES["sigmoid"](w * 3.0 + 1.0), w)
    assert gradients(Chain((2.0,), (1.0,), "sigmoid"), 3.0, 0.0).da_dw[0] == expected.item()
