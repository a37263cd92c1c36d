"""Typed formulas: what they compute, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from unvanish.errors import UsageError
from unvanish.meanfield.catalogue import named
from unvanish.meanfield.facade import gain
from unvanish.meanfield.formula import FUNCTIONS, LONGEST, MOST, formula

Z = np.linspace(-6.0, 6.0, 401)

SAME = {
    "z*sigmoid(z)": "silu",
    "z / (1 + exp(-z))": "silu",
    "tanh(z)": "tanh",
    "2*sigmoid(2*z) - 1": "tanh",
    "max(z, 0)": "relu",
    "relu(z)": "relu",
    "max(z, 0.2*z)": "leaky_relu(0.2)",
    "0.5*z*(1 + erf(z/2**0.5))": "gelu",
    "z*tanh(softplus(z))": "mish",
    "z/(1 + abs(z))": "softsign",
    "max(z, 0)^2": "squared_relu",
    "min(max(z, -1), 1)": "hardtanh",
    "sin(z)": "sin",
    "-(-z)": "linear",
}


@pytest.mark.parametrize("text", SAME)
def test_a_formula_is_the_activation_it_writes(text: str) -> None:
    typed, known = formula(text), named(SAME[text])
    away = np.ones_like(Z, bool)
    for kink in known.kinks:
        away &= np.abs(Z - kink) > 1e-9
    # a few roundings of numbers of order 1, and one cancellation in 2σ(2z) − 1
    np.testing.assert_allclose(typed.f(Z), known.f(Z), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(typed.df(Z)[away], known.df(Z)[away], rtol=1e-11, atol=1e-14)
    # those of the slope are found; the catalogue also names those of its derivative
    sharp = [kink for kink in known.kinks if np.ptp(known.slopes_around(kink)) > 1e-6]
    assert typed.kinks == pytest.approx(tuple(sharp))
    # through all of the theory
    assert gain(typed, "backward") == pytest.approx(gain(known, "backward"), rel=1e-9)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_slopes_are_those_of_finite_differences(name: str) -> None:
    act = formula(f"{name}(0.3 + z*z)" if name in ("sqrt", "log1p") else f"{name}(0.3 + 0.7*z)")
    step = 1e-6
    points = Z[np.abs(0.3 + 0.7 * Z) > 1e-3]
    differences = (act.f(points + step) - act.f(points - step)) / (2 * step)
    # central differences at this step: rounding 1e-16/1e-6 times values up to 1e2
    np.testing.assert_allclose(act.df(points), differences, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "open('/etc/passwd')",
        "z.__class__",
        "(lambda: z)()",
        "[z for z in (1,)]",
        "z if z else 1",
        "z < 1",
        "z and z",
        "z @ z",
        "z // 1",
        "f'{z}'",
        "'z'",
        "True",
        "...",
        "1j",
        "q",
        "exp",
        "exp()",
        "exp(z, z)",
        "exp(x=z)",
        "max(z)",
        "max(*z)",
        "exec(z)",
        "z ** z",
        "z ** -1",
        "z ** 17",
        "9 ** 9 ** 9",
        "1e9 * z",
        "1e999",
        "(z := 3)",
        "z; z",
        "z\n z",
        "z\0",
        "",
        "(",
        "(" * 150 + "z" + ")" * 40,
        "-" * 100 + "z",
        "z+" * MOST + "z",
        "z" + " " * LONGEST + "+ 1",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        formula(text)
    assert caught.value.remedy


@pytest.mark.parametrize("text", ["1/z", "sqrt(z)", "z**0.5", "exp(exp(z))", "log1p(z)", "0/0*z"])
def test_what_is_not_finite_everywhere_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not finite"):
        formula(text)


@pytest.mark.parametrize("text", ["sin(1000*z)", "sin(1e6*z*z)", "abs(sin(40*z))"])
def test_what_would_take_long_to_average_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="turns more than"):
        formula(text)
    assert formula("sin(4*z)").f(Z).max() > 0.99


def test_a_jump_is_found() -> None:
    assert formula("sign(z - 0.25)").jumps == pytest.approx((0.25,))
