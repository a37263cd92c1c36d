"""The chain rule for dC/dw_1, printed in symbols and in numbers.

∂C/∂w_1 = (a_L − y)·σ'(z_L)·w_L·σ'(z_{L−1})·w_{L−1} … σ'(z_2)·w_2·σ'(z_1)·a_0
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from unvanish.chain.activations import find_activation, sigmoid
from unvanish.chain.solution import Neuron, Solution

SHOWN = 2  # pairs at the start of a long product, and one at its end; those between are left out


def symbols(depth: int, activation: str) -> str:
    """Return dC/dw_1 of a chain of `depth` neurons, in symbols."""
    slope = "σ'" if activation == "sigmoid" else "φ'"
    pairs = [f"{slope}(z_{k})·w_{k}" for k in range(depth, 1, -1)]
    return f"∂C/∂w_1 = (a_{depth} − y)·{_product(pairs)}{slope}(z_1)·a_0"


def slope_in_symbols(activation: str) -> str:
    """Return the slope of `activation` as a formula, for the sigmoid σ(1 − σ)."""
    return find_activation(activation).formula


def numbers(solution: Solution) -> tuple[str, str, str]:
    """Return the same product in numbers: slopes and weights, then factors, then the result.

    The sigmoid's slope is written as the two numbers σ and 1 − σ.
    """
    first, *rest = solution.neurons
    rest.reverse()
    name = solution.chain.activation
    smallest = min(range(len(rest)), key=lambda i: rest[i].factor_log10, default=None)
    pairs = [f"{_slope(name, neuron)}·{_signed(neuron.weight)}" for neuron in rest]
    factors = [_signed(neuron.factor, neuron.factor_log10) for neuron in rest]
    output, slope = figure(solution.output, digits=6), figure(first.slope, first.slope_log10)
    error, end = _signed(solution.error), _signed(solution.a_0)
    return (
        f"({output} − {_signed(solution.target)})·{_product(pairs, smallest)}"
        f"{_slope(name, first)}·{end}",
        f"{error}·{_product(factors, smallest)}{slope}·{end}",
        figure(first.dC_dw, first.dC_dw_log10),
    )


def figure(value: float, log10: float | None = None, digits: int = 4) -> str:
    """Return a number in few digits; as a power of ten where floats end and `log10` does not."""
    if log10 is not None and math.isfinite(log10) and (value == 0 or math.isinf(value)):
        sign = "-" if math.copysign(1.0, value) < 0 else ""
        return f"{sign}10^{log10:.1f}" if abs(log10) < 1e6 else f"{sign}10^({log10:.3g})"
    return f"{value + 0.0:.{digits}g}"  # + 0.0: no "-0"


def _product(parts: Sequence[str], keep: int | None = None) -> str:
    """Join pairs, and leave out the middle of many, but for the part `keep`."""
    if len(parts) <= SHOWN + 2:
        return "".join(part + "·" for part in parts)
    kept = keep is not None and SHOWN <= keep < len(parts) - 1
    middle = f" … {parts[keep]} … " if keep is not None and kept else " … "
    return "·".join(parts[:SHOWN]) + middle + parts[-1] + "·"


def _slope(activation: str, neuron: Neuron) -> str:
    if activation == "sigmoid":
        return f"[{figure(sigmoid(neuron.z), digits=6)}·{figure(sigmoid(-neuron.z))}]"
    return f"[{figure(neuron.slope, neuron.slope_log10)}]"


def _signed(value: float, log10: float | None = None) -> str:
    text = figure(value, log10)
    return f"({text})" if text.startswith("-") else text
