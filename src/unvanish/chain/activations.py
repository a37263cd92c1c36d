"""Activations of a single neuron: value, slope, and the slope's logarithm where floats end.

Notable choices:
- sigma(z)(1 - sigma(z)) is computed as e/(1+e)^2 with e = exp(-|z|). The textbook form loses every
  digit for z > 37, where sigma rounds to 1.
- Beyond |z| = 745 even that is 0 in float64, and the logarithm is computed from z directly.
- At a kink (z = 0 of the ReLU family) the slope is that of the left side, as in PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from unvanish.errors import UnknownNameError
from unvanish.i18n import _

LEAK = 0.01  # slope of the leaky ReLU for z <= 0, PyTorch's default
LN10 = math.log(10.0)

# A slope below this share of the steepest is called saturated: for the sigmoid exactly |z| > 4,
# for sigma'(4) = 0.0707 / 4.
SATURATED = 1.0 / math.cosh(2.0) ** 2

SMALLEST = 1e-300  # below it floats lose digits, then vanish


@dataclass(frozen=True, slots=True)
class Activation:
    """A function of one number, and its slope."""

    name: str
    value: Callable[[float], float]
    slope: Callable[[float], float]  # never negative
    formula: str  # of the slope, in symbols
    tail: Callable[[float], float] | None = None  # log10 of a slope that is too small for a float
    steepest: float = 1.0  # the supremum of the slope
    steepest_at: float | None = None  # the one z of that slope; None: a half-line, or nowhere

    def log10_slope(self, z: float) -> float:
        """Return log10 of the slope at z, right where the slope itself underflows; -inf for 0."""
        slope = self.slope(z)
        if slope >= SMALLEST:
            return math.log10(slope)
        return -math.inf if self.tail is None else self.tail(z)


def sigmoid(z: float) -> float:
    """1 / (1 + exp(-z)), without overflow."""
    e = math.exp(-abs(z))
    return 1.0 / (1.0 + e) if z >= 0 else e / (1.0 + e)


def sigmoid_slope(z: float) -> float:
    """sigma(z)(1 - sigma(z)), without cancellation."""
    e = math.exp(-abs(z))
    return e / (1.0 + e) / (1.0 + e)


def tanh_slope(z: float) -> float:
    """1 - tanh(z)^2, without cancellation."""
    return 4.0 * sigmoid_slope(2.0 * z)


def relu(z: float) -> float:
    """z where z > 0, else 0."""
    return max(z, 0.0)


def relu_slope(z: float) -> float:
    """1 where z > 0, else 0."""
    return 1.0 if z > 0 else 0.0


def leaky_relu(z: float) -> float:
    """z where z > 0, else LEAK z."""
    return z if z > 0 else LEAK * z


def leaky_relu_slope(z: float) -> float:
    """1 where z > 0, else LEAK."""
    return 1.0 if z > 0 else LEAK


def elu(z: float) -> float:
    """z where z > 0, else exp(z) - 1."""
    return z if z > 0 else math.expm1(z)


def elu_slope(z: float) -> float:
    """1 where z > 0, else exp(z)."""
    return math.exp(min(z, 0.0))


def softplus(z: float) -> float:
    """log(1 + exp(z)), without overflow."""
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))


def softsign(z: float) -> float:
    """z / (1 + |z|)."""
    return math.copysign(1.0, z) if math.isinf(z) else z / (1.0 + abs(z))


def softsign_slope(z: float) -> float:
    """1 / (1 + |z|)^2."""
    return 1.0 / (1.0 + abs(z)) / (1.0 + abs(z))


_KNOWN = (
    Activation(
        "sigmoid",
        sigmoid,
        sigmoid_slope,
        "σ'(z) = σ(z)·(1 − σ(z))",
        tail=lambda z: -abs(z) / LN10,
        steepest=0.25,
        steepest_at=0.0,
    ),
    Activation(
        "tanh",
        math.tanh,
        tanh_slope,
        "φ'(z) = 1 − tanh²(z)",
        tail=lambda z: math.log10(4.0) - 2.0 * abs(z) / LN10,
        steepest_at=0.0,
    ),
    Activation("relu", relu, relu_slope, "φ'(z) = 1 (z > 0), 0 (z ≤ 0)"),
    Activation("leaky_relu", leaky_relu, leaky_relu_slope, f"φ'(z) = 1 (z > 0), {LEAK} (z ≤ 0)"),
    Activation("elu", elu, elu_slope, "φ'(z) = 1 (z > 0), exp(z) (z ≤ 0)", tail=lambda z: z / LN10),
    Activation("softplus", softplus, sigmoid, "φ'(z) = 1/(1 + exp(−z))", tail=lambda z: z / LN10),
    Activation(
        "softsign",
        softsign,
        softsign_slope,
        "φ'(z) = 1/(1 + |z|)²",
        tail=lambda z: -2.0 * math.log10(abs(z)),
        steepest_at=0.0,
    ),
    Activation("linear", lambda z: z, lambda z: 1.0, "φ'(z) = 1"),
)
ACTIVATIONS: dict[str, Activation] = {known.name: known for known in _KNOWN}


def find_activation(name: str) -> Activation:
    """Return the activation called `name`; UnknownNameError lists them all otherwise."""
    if name not in ACTIVATIONS:
        raise UnknownNameError(
            _("activation"), name, ACTIVATIONS, _("Choose one of those that are known.")
        )
    return ACTIVATIONS[name]
