"""The chain learns: gradient descent by its own back-propagation, no autograd.

    C = mean over samples of (a_L - y)^2 / 2        w_k <- w_k - lr dC/dw_k        (b_k likewise)

Notable choices:
- The task is a line, y = 0.1 + 0.4 x at three points. A chain whose front does not learn cannot let
  x through: the best it can do is to answer the mean of y, and its loss sticks at var(y)/2.
- The update is plain gradient descent, so that what is seen is the gradient and nothing else.
- Backward is the recurrence delta_{k-1} = delta_k w_k phi'(z_k), one loop a sample; solution.py
  writes the same as products. Tests hold the two against each other and finite differences.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from unvanish.chain.activations import find_activation
from unvanish.chain.solution import Chain, forward, make_chain
from unvanish.errors import UsageError
from unvanish.i18n import _
from unvanish.shown import Shown

Sample = tuple[float, float]  # x, y
Outcome = Literal["diverged", "dead", "still", "learnt", "moving"]

TASK: tuple[Sample, ...] = ((0.0, 0.1), (0.5, 0.3), (1.0, 0.5))
STEPS = 500
LEARNING_RATE = 0.2

STILL = 1e-3  # the front stands still when it moves less than this share of the greatest movement
DEAD = 1e-6  # the front is dead when its gradient stays below this share after the largest step
LEARNT = 0.5  # the chain has learnt when its loss is below this share of the best constant answer's


@dataclass(frozen=True, slots=True)
class Step:
    """The chain before the update of this step (the last one has no update)."""

    step: int
    loss: float
    weights: tuple[float, ...]
    biases: tuple[float, ...]
    dC_dw: tuple[float, ...]  # noqa: N815 - the cost is C
    dC_db: tuple[float, ...]  # noqa: N815


@dataclass(frozen=True, slots=True, repr=False)
class Training(Shown):
    """How a chain learnt, step by step."""

    chain: Chain
    samples: tuple[Sample, ...]
    lr: float
    steps: tuple[Step, ...]  # before step 0 ... after the last

    @property
    def losses(self) -> tuple[float, ...]:
        """The loss by step."""
        return tuple(step.loss for step in self.steps)

    @property
    def step_sizes(self) -> tuple[float, ...]:
        """The greatest change of any w_k, by step."""
        return tuple(_largest(self.lr * g for g in step.dC_dw) for step in self.steps[:-1])

    @property
    def movement(self) -> tuple[float, ...]:
        """How far each w_k is from where it started."""
        first, last = self.steps[0], self.steps[-1]
        return tuple(now - then for now, then in zip(last.weights, first.weights, strict=True))

    @property
    def largest_steps(self) -> tuple[float, ...]:
        """The greatest single change of each w_k."""
        return tuple(
            _largest(self.lr * step.dC_dw[k] for step in self.steps[:-1])
            for k in range(self.chain.depth)
        )

    @property
    def constant_loss(self) -> float:
        """The loss of the best answer that ignores x, the mean of y."""
        mean = sum(y for _x, y in self.samples) / len(self.samples)
        squares = [0.5 * (y - mean) * (y - mean) for _x, y in self.samples]  # ** would raise at inf
        return sum(squares) / len(self.samples)

    @property
    def largest_step(self) -> int:
        """The first step with the greatest change of any w_k."""
        sizes = self.step_sizes
        return sizes.index(max(sizes)) if sizes else 0

    @property
    def outcome(self) -> Outcome:
        """What happened, by the thresholds above; in this order, the first that holds."""
        first, last = self.steps[0], self.steps[-1]
        if not math.isfinite(last.loss):
            return "diverged"
        learnt = last.loss < LEARNT * (self.constant_loss or first.loss)
        alive = DEAD * abs(self.steps[self.largest_step].dC_dw[0])
        if not learnt and all(
            abs(step.dC_dw[0]) < alive for step in self.steps[self.largest_step + 1 :]
        ):
            return "dead"
        if abs(self.movement[0]) <= STILL * _largest(self.movement):
            return "still"
        return "learnt" if learnt else "moving"

    def __repr__(self) -> str:
        first, last = self.losses[0], self.losses[-1]
        return f"<Training, {self.outcome}: loss {first:.3g} → {last:.3g}>"


def _largest(values: Iterable[float]) -> float:
    """The greatest absolute value; NaN counts for nothing."""
    return max((abs(value) for value in values if not math.isnan(value)), default=0.0)


def train(
    chain: Chain,
    samples: Sequence[Sample] = TASK,
    steps: int = STEPS,
    lr: float = LEARNING_RATE,
) -> Training:
    """Train `chain` on (x, y) pairs by gradient descent; stop early once the loss is not finite.

    Raises UsageError without samples, for `steps` below 1, and for a learning rate that is not a
    positive number.
    """
    mean_input(samples)
    if steps < 1:
        raise UsageError(_("no step of training"), _("Give --steps of 1 or more."))
    if not 0 < lr < math.inf:
        raise UsageError(_("the learning rate is not a positive number"), _("Try --lr 0.1."))
    weights, biases = chain.weights, chain.biases
    history = []
    for number in range(steps + 1):
        now = Chain(weights, biases, chain.activation)
        history.append(Step(number, *backpropagate(now, samples)))
        if not math.isfinite(history[-1].loss):
            break
        weights = tuple(w - lr * g for w, g in zip(weights, history[-1].dC_dw, strict=True))
        biases = tuple(b - lr * g for b, g in zip(biases, history[-1].dC_db, strict=True))
    return Training(chain, tuple(samples), lr, tuple(history))


def backpropagate(
    chain: Chain, samples: Sequence[Sample]
) -> tuple[float, tuple[float, ...], tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Return the loss, the chain's weights and biases, dC/dw_k and dC/db_k (means over samples)."""
    slope = find_activation(chain.activation).slope
    loss = 0.0
    dc_dw, dc_db = [0.0] * chain.depth, [0.0] * chain.depth
    for x, y in samples:
        zs, activations = forward(chain, x)
        error = activations[-1] - y
        loss += 0.5 * error * error / len(samples)
        delta = error / len(samples)  # dC/da_k, from the last neuron to the first
        for k in range(chain.depth - 1, -1, -1):
            delta *= slope(zs[k])  # now dC/dz_k
            dc_dw[k] += delta * activations[k]
            dc_db[k] += delta
            delta *= chain.weights[k]
    return loss, chain.weights, chain.biases, tuple(dc_dw), tuple(dc_db)


def mean_input(samples: Sequence[Sample]) -> float:
    """Return the mean of x; UsageError without samples."""
    if not samples:
        raise UsageError(_("there is nothing to learn from"), _("Give an --input and a --target."))
    return sum(x for x, _y in samples) / len(samples)


def five_chains(depth: int = 10, samples: Sequence[Sample] = TASK) -> dict[str, Chain]:
    """Return the five chains of the course note's story, by their description.

    "z=0" holds at the mean of the inputs: biases can place one input only. Raises UsageError
    without samples, and where no bias places that input.
    """
    middle = mean_input(samples)
    return {
        "sigmoid": make_chain(depth, activation="sigmoid"),
        "sigmoid w=10 b=0": make_chain(depth, weight=10.0, bias=0.0),
        "sigmoid w=10 z=0": make_chain(depth, weight=10.0, pre_activation=0.0, a_0=middle),
        "tanh": make_chain(depth, activation="tanh"),
        "relu": make_chain(depth, activation="relu"),
    }
