"""The chain's own training: gradients by finite differences and torch, and its ends."""

import math
import random

import pytest
import torch

from tests.chain.torch_chain import VALUES
from unvanish.chain import (
    TASK,
    Chain,
    Training,
    backpropagate,
    five_chains,
    make_chain,
    solve,
    train,
)
from unvanish.errors import UsageError

SAMPLES = ((0.2, 0.4), (-0.7, 0.1), (1.3, 0.9))


def random_chain(name: str, depth: int = 4) -> Chain:
    source = random.Random(name)
    draw = [source.choice((1, -1)) * source.uniform(0.5, 1.5) for _ in range(2 * depth)]
    return Chain(tuple(draw[:depth]), tuple(draw[depth:]), name)


def loss(weights: list[float], biases: list[float], name: str) -> float:
    return backpropagate(Chain(tuple(weights), tuple(biases), name), SAMPLES)[0]


@pytest.mark.parametrize("name", VALUES)
def test_gradients_are_finite_differences(name: str) -> None:
    chain = random_chain(name)
    _loss, _w, _b, dc_dw, dc_db = backpropagate(chain, SAMPLES)
    weights, biases, step = list(chain.weights), list(chain.biases), 1e-5
    for numbers, gradients in ((weights, dc_dw), (biases, dc_db)):
        for k, gradient in enumerate(gradients):
            middle = numbers[k]
            numbers[k] = middle + step
            above = loss(weights, biases, name)
            numbers[k] = middle - step
            below = loss(weights, biases, name)
            numbers[k] = middle
            # central differences: error step^2 C'''/6 ~ 1e-10, rounding 1e-16 / step = 1e-11
            assert gradient == pytest.approx((above - below) / (2 * step), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", VALUES)
def test_the_recurrence_equals_the_product_formula(name: str) -> None:
    chain = random_chain(name, depth=12)
    got, _w, _b, dc_dw, dc_db = backpropagate(chain, SAMPLES)
    solutions = [solve(chain, x, y) for x, y in SAMPLES]
    assert got == pytest.approx(sum(s.cost for s in solutions) / 3, rel=1e-13)
    for k in range(chain.depth):
        # sums of three terms may cancel: measured against their size
        size = sum(abs(s.neurons[k].dC_db) + abs(s.neurons[k].dC_dw) for s in solutions)
        expected_w = sum(s.neurons[k].dC_dw for s in solutions) / 3
        expected_b = sum(s.neurons[k].dC_db for s in solutions) / 3
        assert dc_dw[k] == pytest.approx(expected_w, rel=0, abs=1e-13 * size)
        assert dc_db[k] == pytest.approx(expected_b, rel=0, abs=1e-13 * size)


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu"])
def test_training_takes_the_steps_of_torch_s_sgd(name: str) -> None:
    chain = random_chain(name)
    w = torch.tensor(chain.weights, dtype=torch.float64, requires_grad=True)
    b = torch.tensor(chain.biases, dtype=torch.float64, requires_grad=True)
    x, y = torch.tensor(SAMPLES, dtype=torch.float64).T
    optimizer = torch.optim.SGD([w, b], lr=0.3)
    for _step in range(20):
        a = x
        for k in range(chain.depth):
            a = VALUES[name](w[k] * a + b[k])
        cost = (0.5 * (a - y) ** 2).mean()
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
    training = train(chain, SAMPLES, steps=20, lr=0.3)
    assert training.steps[-1].weights == pytest.approx(w.tolist(), rel=1e-12)
    assert training.steps[-1].biases == pytest.approx(b.tolist(), rel=1e-12)
    assert training.losses[-2] == pytest.approx(cost.item(), rel=1e-12)


@pytest.fixture(scope="module")
def five() -> dict[str, Training]:
    return {name: train(chain) for name, chain in five_chains().items()}


def test_what_becomes_of_the_five(five: dict[str, Training]) -> None:
    assert {name: training.outcome for name, training in five.items()} == {
        "sigmoid": "still",
        "sigmoid w=10 b=0": "still",
        "sigmoid w=10 z=0": "dead",
        "tanh": "learnt",
        "relu": "learnt",
    }


def test_the_sigmoid_learns_the_mean_and_no_more(five: dict[str, Training]) -> None:
    training = five["sigmoid"]
    assert training.losses[-1] == pytest.approx(training.constant_loss, rel=0.01)
    assert abs(training.movement[0]) < 1e-5 < 1e-1 < abs(training.movement[-1])


def test_large_weights_at_zero_bias_give_a_front_gradient_near_1e_33(
    five: dict[str, Training],
) -> None:
    training = five["sigmoid w=10 b=0"]
    for step in training.steps:
        assert 1e-34 < step.dC_dw[0] < 1e-32
    assert training.movement[0] == 0.0  # float64 cannot add it to 10
    assert training.losses[-1] == pytest.approx(training.losses[0], rel=1e-2)


def test_large_weights_at_zero_z_take_one_giant_step_and_die(five: dict[str, Training]) -> None:
    training = five["sigmoid w=10 z=0"]
    sizes = training.step_sizes
    assert sizes[0] > 5  # of a weight of 10
    assert max(sizes[1:]) < 1e-3 * sizes[0]
    assert abs(training.steps[0].dC_dw[0]) > 10
    assert all(abs(step.dC_dw[0]) < 1e-15 for step in training.steps[1:])
    assert training.losses[-1] > training.losses[0]


@pytest.mark.parametrize("name", ["tanh", "relu"])
def test_tanh_and_relu_let_x_through(five: dict[str, Training], name: str) -> None:
    training = five[name]
    assert training.losses[-1] < 0.05 * training.constant_loss
    assert min(abs(moved) for moved in training.movement) > 1e-3


def test_numbers_of_a_training_add_up(five: dict[str, Training]) -> None:
    training = five["tanh"]
    assert len(training.steps) == 501
    for k in range(10):
        steps = [training.lr * step.dC_dw[k] for step in training.steps[:-1]]
        assert training.movement[k] == pytest.approx(-math.fsum(steps), rel=1e-9)
        assert training.largest_steps[k] == max(abs(size) for size in steps)
    ys = [y for _x, y in TASK]
    mean = sum(ys) / 3
    assert training.constant_loss == pytest.approx(sum((y - mean) ** 2 for y in ys) / 6)


def test_blow_up_is_shown_and_ends_the_training() -> None:
    training = train(make_chain(10, 5.0, activation="linear"))
    assert training.outcome == "diverged"
    assert len(training.steps) < 10
    assert max(training.largest_steps) > 1e100


def test_a_chain_that_starts_beyond_floats_is_diverged() -> None:
    training = train(make_chain(10, 1e200, activation="relu"))
    assert training.outcome == "diverged"
    assert training.largest_steps == (0.0,) * 10


def test_a_relu_can_die() -> None:
    training = train(make_chain(10, 2.0, activation="relu"))
    assert training.outcome == "dead"
    assert training.steps[-1].dC_dw == (0.0,) * 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"samples": ()}, "nothing to learn from"),
        ({"steps": 0}, "--steps of 1"),
        ({"lr": 0.0}, "learning rate"),
        ({"lr": math.nan}, "learning rate"),
        ({"lr": math.inf}, "learning rate"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        train(make_chain(2), **arguments)  # type: ignore[arg-type]
