"""An activation typed as a formula of z: "z * sigmoid(1.7*z)", "max(z, 0) - 0.1*tanh(z)**2".

The text is parsed as a Python expression, but never run: the tree may hold numbers, z, the
operators + − * / ** and the functions below, and nothing else: no name is looked up, no attribute,
no call of anything that is not in the table. What is left is evaluated on arrays, value and slope
together (forward-mode differentiation), so a formula costs what its few operations cost.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from unvanish.errors import UsageError
from unvanish.i18n import _
from unvanish.meanfield.activation import Activation, Array
from unvanish.meanfield.bridge import jumps
from unvanish.meanfield.smooth import erf, logistic, normal_density, softplus_of

LONGEST = 200  # characters
MOST = 60  # operations
DEEPEST = 30  # nested
LARGEST = 1e6  # a number in a formula
POWER = 16  # an exponent
WIGGLES = 120  # turns from −40 to 40: sin(4.5 z) has that many. Quadrature takes time for each
KINKS = 40

Dual = tuple[Array, Array]  # a value, and its slope with respect to z


@dataclass(frozen=True, slots=True)
class _Function:
    """A function of one number: its value and its slope."""

    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]


def _sigmoid_slope(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    return small / (1.0 + small) ** 2


FUNCTIONS: dict[str, _Function] = {
    "exp": _Function(np.exp, np.exp),
    "log1p": _Function(np.log1p, lambda x: 1.0 / (1.0 + x)),
    "sqrt": _Function(np.sqrt, lambda x: 0.5 / np.sqrt(x)),
    "abs": _Function(np.abs, np.sign),
    "sign": _Function(np.sign, np.zeros_like),
    "sin": _Function(np.sin, np.cos),
    "cos": _Function(np.cos, lambda x: -np.sin(x)),
    "arctan": _Function(np.arctan, lambda x: 1.0 / (1.0 + x * x)),
    "tanh": _Function(np.tanh, lambda x: 4.0 * _sigmoid_slope(2.0 * x)),
    "sigmoid": _Function(logistic, _sigmoid_slope),
    "softplus": _Function(softplus_of, logistic),
    "relu": _Function(lambda x: np.maximum(x, 0.0), lambda x: np.where(x > 0.0, 1.0, 0.0)),
    "erf": _Function(erf, lambda x: 2.0 * np.sqrt(2.0) * normal_density(np.sqrt(2.0) * x)),
}
NAMES = ("z", "pi", "e")
_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow)


@functools.lru_cache(maxsize=64)
def formula(text: str) -> Activation:
    """Return the activation that `text` writes as a formula of z.

    Raises UsageError for anything but a short formula of the operations above, and for one that is
    not finite everywhere from −40 to 40.
    """
    tree = _parsed(text)

    def dual(z: Array) -> Dual:
        with np.errstate(all="ignore"):
            value, slope = _evaluate(tree, (np.asarray(z, np.float64), np.ones_like(z)))
        return np.broadcast_to(value, z.shape).copy(), np.broadcast_to(slope, z.shape).copy()

    def f(z: Array) -> Array:
        return dual(z)[0]

    def df(z: Array) -> Array:
        return dual(z)[1]

    probe = np.linspace(-40.0, 40.0, 1601)
    value, slope = dual(probe)
    if not (np.isfinite(value).all() and np.isfinite(slope[probe != 0.0]).all()):
        raise UsageError(
            _("the formula {text!r} is not finite for every z").format(text=text),
            _("An activation has to be defined for every real number."),
        )
    if _turns(df) > WIGGLES:
        raise _refused(_("it turns more than {count} times from −40 to 40").format(count=WIGGLES))
    leaps = jumps(f)
    kinks = tuple(sorted({*jumps(df), *leaps}))
    if len(kinks) > KINKS:
        raise _refused(_("it has more than {count} kinks").format(count=KINKS))
    return Activation(text.strip(), f, df, kinks=kinks, jumps=tuple(leaps))


def _turns(df: Callable[[Array], Array], points: int = 20_000) -> int:
    """Return how often the slope changes its sign; the points lie unevenly, so as not to alias."""
    z = np.sort(np.random.default_rng(0).uniform(-40.0, 40.0, points))
    signs = np.sign(df(z))
    return int(np.count_nonzero(np.diff(signs[signs != 0.0])))


def _parsed(text: str) -> ast.expr:
    """Return the tree of a formula that holds nothing but what is allowed."""
    if len(text) > LONGEST:
        raise _refused(_("it is {count} characters long").format(count=len(text)))
    if "\0" in text:
        raise _refused(_("it holds a NUL character"))
    try:
        tree = ast.parse(text.strip().replace("^", "**"), mode="eval").body
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise _refused(_("it cannot be read as an expression")) from error
    if sum(isinstance(node, ast.expr) for node in ast.walk(tree)) > 4 * MOST:
        raise _refused(_("it has more than {count} operations").format(count=MOST))
    counted = _check(tree, 0)
    if counted > MOST:
        raise _refused(_("it has more than {count} operations").format(count=MOST))
    return tree


def _check(node: ast.expr, depth: int) -> int:
    """Raise UsageError for what is not allowed; return the number of operations."""
    if depth > DEEPEST:
        raise _refused(_("it is nested too deeply"))
    match node:
        case ast.Constant(value=bool() | complex() | str() | bytes() | None):
            raise _refused(_("{part} is no number").format(part=_part(node)))
        case ast.Constant(value=int() | float() as number):
            if not abs(number) <= LARGEST:
                raise _refused(_("{part} is too large").format(part=_part(node)))
            return 0
        case ast.Name(id=name):
            if name not in NAMES:
                raise _refused(_("it does not know {part}").format(part=_part(node)))
            return 0
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=inner):
            return 1 + _check(inner, depth + 1)
        case ast.BinOp(left=left, op=op, right=right) if isinstance(op, _OPERATORS):
            if isinstance(op, ast.Pow) and not _is_exponent(right):
                raise _refused(_("an exponent has to be a number up to {most}").format(most=POWER))
            return 1 + _check(left, depth + 1) + _check(right, depth + 1)
        case ast.Call(func=ast.Name(id=name), args=[inner], keywords=[]) if name in FUNCTIONS:
            return 1 + _check(inner, depth + 1)
        case ast.Call(func=ast.Name(id="max" | "min"), args=[one, other], keywords=[]):
            return 1 + _check(one, depth + 1) + _check(other, depth + 1)
    raise _refused(_("it does not know {part}").format(part=_part(node)))


def _is_exponent(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
    match node:
        case ast.Constant(value=int() | float() as number):
            return not isinstance(number, bool) and 0 < number <= POWER
    return False


def _part(node: ast.expr) -> str:
    text = ast.unparse(node)
    return repr(text if len(text) <= 40 else text[:39] + "…")


def _refused(why: str) -> UsageError:
    return UsageError(
        _("this formula is refused: {why}").format(why=why),
        _("Write z, numbers, + - * / **, and {functions}.").format(
            functions=", ".join([*FUNCTIONS, "max", "min"])
        ),
    )


def _evaluate(node: ast.expr, z: Dual) -> Dual:
    match node:
        case ast.Constant(value=number):
            return _constant(float(number), z)  # type: ignore[arg-type]  # _check
        case ast.Name(id=name):
            return z if name == "z" else _constant({"pi": np.pi, "e": np.e}[name], z)
        case ast.UnaryOp(op=op, operand=inner):
            value, slope = _evaluate(inner, z)
            return (-value, -slope) if isinstance(op, ast.USub) else (value, slope)
        case ast.BinOp(left=left, op=op, right=right):
            return _combine(op, _evaluate(left, z), _evaluate(right, z))
        case ast.Call(func=ast.Name(id=name), args=[inner]):
            value, slope = _evaluate(inner, z)
            known = FUNCTIONS[name]
            return known.value(value), _times(known.slope(value), slope)
        case ast.Call(func=ast.Name(id=name), args=[one, other]):
            return _extreme(name, _evaluate(one, z), _evaluate(other, z))
    raise AssertionError(ast.dump(node))  # _check has refused everything else


def _constant(number: float, z: Dual) -> Dual:
    return np.full_like(z[0], number), np.zeros_like(z[0])


def _times(outer: Array, inner: Array) -> Array:
    """Return a product in which a slope of 0 stays 0, whatever it is multiplied with."""
    return np.where(inner == 0.0, 0.0, outer * inner)


def _combine(op: ast.operator, left: Dual, right: Dual) -> Dual:
    (a, da), (b, db) = left, right
    match op:
        case ast.Add():
            return a + b, da + db
        case ast.Sub():
            return a - b, da - db
        case ast.Mult():
            return a * b, _times(b, da) + _times(a, db)
        case ast.Div():
            return a / b, (da - _times(a / b, db)) / b
        case ast.Pow():
            return a**b, _times(b * a ** (b - 1.0), da)  # the exponent is a number
    raise AssertionError(op)


def _extreme(name: str, one: Dual, other: Dual) -> Dual:
    (a, da), (b, db) = one, other
    first = a > b if name == "max" else a < b
    return np.where(first, a, b), np.where(first, da, db)
