"""Activations given as torch functions, torch modules, or any Python function of a tensor.

torch is loaded here only, and only for a callable: whoever passes one has torch already. What torch
defines itself is recognised and replaced by its formula; everything else is evaluated in float64,
its slope taken by autograd, and its kinks found by bisection.
"""

from __future__ import annotations

import copy
import functools
import importlib
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from unvanish.errors import UsageError, UserCodeError
from unvanish.i18n import _
from unvanish.meanfield import catalogue
from unvanish.meanfield.activation import Activation, Array, Function

# Kinks are looked for on this grid, one in each interval: 0 and ±2ᵏ/16 have to be found, and the
# grid may not hold them.
_GRID = np.linspace(-40.0, 40.0, 3202)
_BISECTIONS = 50
_JUMP = 1e-6  # relative; a smooth function changes by 1e-13 over the last interval


def resolve(given: Any, *, kinks: Iterable[float] | None = None) -> Activation:
    """Return the activation that was given.

    `given` is a name ("gelu", "leaky_relu(0.2)"), a torch function (torch.nn.functional.gelu), a
    module or a module class (torch.nn.LeakyReLU(0.2)), or an element-wise function of a float64
    tensor of any shape. `kinks` are the places where such a function is not smooth; those of the
    value and the slope within [−40, 40] are found by themselves.

    Raises UnknownNameError for a name, UsageError for what is not element-wise, UserCodeError for a
    function that raises.
    """
    if isinstance(given, Activation):
        return given
    if isinstance(given, str):
        return catalogue.named(given)
    if not callable(given):
        raise UsageError(
            _("{given!r} is no activation").format(given=given),
            _("Give a name, a torch module, or a function of a tensor."),
        )
    torch = importlib.import_module("torch")
    if inspect.isclass(given) and issubclass(given, torch.nn.Module):
        given = given()
    known = _known_module(given) if isinstance(given, torch.nn.Module) else _known_function(given)
    return known or _from_callable(torch, given, kinks)


def _known_module(module: Any) -> Activation | None:
    if not type(module).__module__.startswith("torch.nn.modules"):
        return None
    entry = catalogue.find(type(module).__name__)
    if entry is None or getattr(module, "threshold", 20) < 20:
        return None
    if entry.name == "gelu" and module.approximate == "tanh":
        return catalogue.named("gelu_tanh")
    if entry.name == "prelu":
        # where channels differ, the slope that gives the right lengths and gradient norms
        return catalogue.named("prelu", negative_slope=module.weight.square().mean().sqrt().item())
    if entry.name == "rrelu" and not module.training:
        return catalogue.named("leaky_relu", negative_slope=0.5 * (module.lower + module.upper))
    names = inspect.signature(entry.build).parameters
    values = {name: float(getattr(module, name)) for name in names if hasattr(module, name)}
    return catalogue.named(entry.name, **values)


def _known_function(function: Any) -> Activation | None:
    keywords: dict[str, Any] = {}
    if isinstance(function, functools.partial) and not function.args:
        keywords = {k: v for k, v in function.keywords.items() if k != "inplace"}
        function = function.func
    owner = getattr(function, "__objclass__", function)  # torch.Tensor.tanh
    home = str(getattr(owner, "__module__", ""))
    if home.partition(".")[0] != "torch":
        return None
    entry = catalogue.find(function.__name__.removeprefix("special_").rstrip("_"))
    if entry is None:
        return None
    if entry.name == "gelu" and keywords.pop("approximate", "none") == "tanh":
        return catalogue.named("gelu_tanh")
    if not set(keywords) <= set(inspect.signature(entry.build).parameters):
        return None
    return catalogue.named(entry.name, **keywords)


def _from_callable(torch: Any, given: Any, kinks: Iterable[float] | None) -> Activation:
    name = getattr(given, "__name__", type(given).__name__)
    function = given
    if isinstance(given, torch.nn.Module):
        function = copy.deepcopy(given).to("cpu", torch.float64).eval()
    f, df = _evaluator(torch, name, function)
    _check_elementwise(name, f)
    leaps = jumps(f)
    found = jumps(df) if kinks is None else [float(kink) for kink in kinks]
    return Activation(name, f, df, kinks=tuple(sorted({*found, *leaps})), jumps=tuple(leaps))


def _evaluator(torch: Any, name: str, function: Callable[[Any], Any]) -> tuple[Function, Function]:
    def value(z: Any) -> Any:
        try:
            result = function(z)
        except Exception as error:
            raise UserCodeError(
                _("the activation {name!r} raised {kind}: {error}").format(
                    name=name, kind=type(error).__name__, error=error
                ),
                _("It has to take a float64 tensor of any shape and return one of the same shape."),
            ) from error
        if not isinstance(result, torch.Tensor) or result.shape != z.shape:
            raise UsageError(
                _(
                    "{name!r} is not element-wise: it does not return a tensor of its input's shape"
                ).format(name=name),
                _("Give a function that acts on each entry by itself."),
            )
        return result

    def f(z: Array) -> Array:
        with torch.inference_mode(False), torch.no_grad():
            result: Array = value(torch.tensor(z.copy())).to(torch.float64).numpy()
        return result

    def df(z: Array) -> Array:
        with torch.inference_mode(False), torch.enable_grad():
            leaf = torch.tensor(z.copy(), requires_grad=True)
            result = value(leaf.clone())  # in-place functions may not change a leaf
            if not result.requires_grad:
                return np.zeros_like(z)
            slope: Array = torch.autograd.grad(result.sum(), leaf)[0].numpy()
        return slope

    return f, df


def _check_elementwise(name: str, f: Function) -> None:
    z = np.linspace(-3.1, 2.9, 24)
    whole = f(z)
    same = np.array_equal(whole, f(z), equal_nan=True)
    apart = np.concatenate([f(z[:6].reshape(2, 3)).ravel(), f(z[6:])])
    # a vectorised kernel may round the last bit differently by position
    if not same or not np.allclose(whole, apart, rtol=1e-12, atol=1e-14, equal_nan=True):
        raise UsageError(
            _("{name!r} is not element-wise: entries depend on each other or on chance").format(
                name=name
            ),
            _("Give a function that acts on each entry by itself."),
        )
    if not np.isfinite(whole).all():
        raise UsageError(
            _("{name!r} is not finite between −3.1 and 2.9").format(name=name),
            _("An activation has to be defined for every real number."),
        )


def jumps(function: Function) -> list[float]:
    """Return where `function` jumps, bisecting every interval toward its greater change."""
    low, high = _GRID[:-1].copy(), _GRID[1:].copy()
    at_low, at_high = function(low), function(high)
    for _halving in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        at_middle = function(middle)
        left = np.abs(at_middle - at_low) >= np.abs(at_high - at_middle)
        high, at_high = np.where(left, middle, high), np.where(left, at_middle, at_high)
        low, at_low = np.where(left, low, middle), np.where(left, at_low, at_middle)
    change = np.abs(at_high - at_low)
    jumped = change > _JUMP * np.maximum(1.0, np.abs(at_low))
    places = 0.5 * (low + high)[jumped]
    rounded = np.round(places, 9)
    near = np.abs(places - rounded) < 1e-12
    return sorted({float(place) + 0.0 for place in np.where(near, rounded, places)})
