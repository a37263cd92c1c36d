"""The chain of single neurons, and the chain rule on it, written out.

    a_0 = input        z_k = w_k a_{k-1} + b_k        a_k = phi(z_k)        C = (a_L - y)^2 / 2

Notable choices:
- One loop forward, one loop backward, no graph and no recursion: this *is* back-propagation.
- A factor is w_k phi'(z_k) = da_k/da_{k-1}. Everything else is a product of factors:
      da_L/da_0 = factor_L ... factor_1                     (the input's gain)
      da_L/db_k = factor_L ... factor_{k+1} phi'(z_k)       da_L/dw_k = da_L/db_k a_{k-1}
      dC/db_k   = (a_L - y) da_L/db_k                       dC/dw_k   = (a_L - y) da_L/dw_k
- Products are kept wide (see wide.py), so that log10 is right where the number itself is 0 or inf.
- Forward values are ordinary floats; where they overflow, infinities and NaNs are shown as such.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from unvanish.chain.activations import SATURATED, SMALLEST, find_activation
from unvanish.chain.wide import Wide
from unvanish.errors import UsageError
from unvanish.i18n import _
from unvanish.shown import Shown

DEPTH = 10  # as in the textbook example: ten factors of 2.5 make 9536.74


@dataclass(frozen=True, slots=True)
class Chain:
    """Neurons in a row: `weights[k-1]` and `biases[k-1]` are w_k and b_k."""

    weights: tuple[float, ...]
    biases: tuple[float, ...]
    activation: str = "sigmoid"
    chosen: bool = field(default=False, compare=False)  # the biases, to put every z_k somewhere

    @property
    def depth(self) -> int:
        """The number of neurons, L."""
        return len(self.weights)


@dataclass(frozen=True, slots=True)
class Neuron:
    """What is known of neuron k; each `*_log10` is that of the absolute value."""

    k: int
    weight: float
    bias: float
    z: float
    a: float
    slope: float
    slope_log10: float
    factor: float  # w_k phi'(z_k)
    factor_log10: float
    da_dw: float  # of a_L, the chain's output
    da_dw_log10: float
    da_db: float
    da_db_log10: float
    dC_dw: float  # noqa: N815 - the cost is C
    dC_dw_log10: float  # noqa: N815
    dC_db: float  # noqa: N815
    dC_db_log10: float  # noqa: N815
    saturated: bool  # the slope is not 0, and below 0.07 of the steepest


@dataclass(frozen=True, slots=True, repr=False)
class Solution(Shown):
    """A chain, one input, and every derivative."""

    chain: Chain
    a_0: float
    target: float
    output: float  # a_L
    error: float  # a_L - y
    cost: float  # (a_L - y)^2 / 2
    input_gain: float  # da_L/da_0, the product of all factors
    input_gain_log10: float
    neurons: tuple[Neuron, ...]

    @property
    def factors(self) -> tuple[float, ...]:
        """w_k phi'(z_k) for k = 1 ... L."""
        return tuple(neuron.factor for neuron in self.neurons)

    def __repr__(self) -> str:
        count, kind = self.chain.depth, self.chain.activation
        return f"<Solution of {count} {kind} neurons: input gain {self.input_gain:.6g}>"


def solve(chain: Chain, a_0: float = 1.0, target: float = 0.0) -> Solution:
    """Run the chain on `a_0` and return every derivative of its output and of its cost."""
    phi = find_activation(chain.activation)
    zs, activations = forward(chain, a_0)
    error = activations[-1] - target

    neurons = []
    product = Wide.of(1.0)  # factor_L ... factor_{k+1}
    for k in range(chain.depth, 0, -1):
        weight, z, before = chain.weights[k - 1], zs[k - 1], activations[k - 1]
        slope_log10 = math.nan if math.isnan(z) else phi.log10_slope(z)
        slope = math.nan if math.isnan(z) else phi.slope(z)
        wide_slope = Wide.of(slope) if slope >= SMALLEST else Wide.from_log10(slope_log10)
        factor = wide_slope * weight
        da_db = product * wide_slope
        da_dw = da_db * before
        dc_db = da_db * error
        dc_dw = da_dw * error
        neurons.append(
            Neuron(
                k=k,
                weight=weight,
                bias=chain.biases[k - 1],
                z=z,
                a=activations[k],
                slope=slope,
                slope_log10=slope_log10,
                factor=factor.value,
                factor_log10=factor.log10,
                da_dw=da_dw.value,
                da_dw_log10=da_dw.log10,
                da_db=da_db.value,
                da_db_log10=da_db.log10,
                dC_dw=dc_dw.value,
                dC_dw_log10=dc_dw.log10,
                dC_db=dc_db.value,
                dC_db_log10=dc_db.log10,
                saturated=-math.inf < slope_log10 < math.log10(SATURATED * phi.steepest),
            )
        )
        product = product * factor

    return Solution(
        chain=chain,
        a_0=a_0,
        target=target,
        output=activations[-1],
        error=error,
        cost=0.5 * error * error,
        input_gain=product.value,
        input_gain_log10=product.log10,
        neurons=tuple(reversed(neurons)),
    )


def forward(chain: Chain, a_0: float) -> tuple[list[float], list[float]]:
    """Return z_1 ... z_L, and a_0 ... a_L."""
    value = find_activation(chain.activation).value
    zs, activations = [], [a_0]
    for weight, bias in zip(chain.weights, chain.biases, strict=True):
        zs.append(weight * activations[-1] + bias)
        activations.append(value(zs[-1]))
    return zs, activations


def make_chain(
    depth: int | None = None,
    weight: float | Sequence[float] = 1.0,
    bias: float | Sequence[float] | None = None,
    pre_activation: float | Sequence[float] | None = None,
    a_0: float = 1.0,
    activation: str = "sigmoid",
) -> Chain:
    """Return a chain; each of `weight`, `bias`, `pre_activation` is one number for all, or a list.

    Biases are 0 unless given. With `pre_activation` they are chosen instead, such that the input
    `a_0` puts every z_k where it says. `depth` is read off the lists, and is 10 without any.

    Raises UsageError (a list of the wrong length, a number that is not finite, a depth below 1,
    both biases and pre-activations, a z_k that no bias reaches) and UnknownNameError.
    """
    find_activation(activation)
    if bias is not None and pre_activation is not None:
        raise UsageError(
            _("biases are either given or chosen for the pre-activations, not both"),
            _("Leave out --bias or --pre-activation."),
        )
    if depth is None:
        lists = [given for given in (weight, bias, pre_activation) if isinstance(given, Sequence)]
        depth = len(lists[0]) if lists else DEPTH
    if depth < 1:
        raise UsageError(_("the chain has no neuron"), _("Give a --depth of 1 or more."))
    weights = _spread("--weight", weight, depth)
    if pre_activation is None:
        biases = _spread("--bias", 0.0 if bias is None else bias, depth)
    else:
        zs = _spread("--pre-activation", pre_activation, depth)
        biases = _biases_for(zs, weights, a_0, activation)
    return Chain(weights, biases, activation, chosen=pre_activation is not None)


def _spread(option: str, value: float | Sequence[float], depth: int) -> tuple[float, ...]:
    """Return one number for each neuron."""
    values = tuple(value) if isinstance(value, Sequence) else (value,) * depth
    if len(values) != depth:
        raise UsageError(
            _("{option} has {count} numbers, and the chain has {depth} neurons").format(
                option=option, count=len(values), depth=depth
            ),
            _("Give one number for all, or {depth} separated by commas.").format(depth=depth),
        )
    if not all(math.isfinite(number) for number in values):
        raise UsageError(
            _("{option} holds a number that is not finite").format(option=option),
            _("Give ordinary numbers, such as 10 or 1e200."),
        )
    return tuple(float(number) for number in values)


def _biases_for(
    zs: Sequence[float], weights: Sequence[float], a_0: float, activation: str
) -> tuple[float, ...]:
    """Return b_k = z_k - w_k a_{k-1}; refuse where rounding would put z_k elsewhere."""
    value = find_activation(activation).value
    biases, a = [], a_0
    for k, (z, weight) in enumerate(zip(zs, weights, strict=True), start=1):
        bias = z - weight * a
        reached = weight * a + bias
        if not abs(reached - z) <= 1e-9 * max(1.0, abs(z)):
            raise UsageError(
                _("no bias puts z_{k} at {z}: w·a is {product}, too large for float64").format(
                    k=k, z=z, product=weight * a
                ),
                _("Take smaller weights or another activation."),
            )
        biases.append(bias)
        a = value(reached)
    return tuple(biases)
