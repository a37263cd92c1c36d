"""Activations by name: the names of the theory, of torch's functions, modules and autograd ops."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from unvanish.errors import UnknownNameError, UsageError
from unvanish.i18n import _
from unvanish.meanfield import piecewise, smooth
from unvanish.meanfield.activation import Activation


@dataclass(frozen=True, slots=True)
class Entry:
    """A name, how to build its activation, and other names for it."""

    name: str
    build: Callable[..., Activation]
    aliases: tuple[str, ...] = ()


CATALOGUE: tuple[Entry, ...] = (
    Entry("linear", piecewise.linear, ("identity",)),
    Entry("sigmoid", smooth.sigmoid, ("logistic", "expit")),
    Entry("tanh", smooth.tanh),
    Entry("relu", piecewise.relu),
    Entry("leaky_relu", piecewise.leaky_relu),
    Entry("prelu", piecewise.prelu, ("prelu_kernel",)),
    Entry("rrelu", piecewise.rrelu, ("rrelu_with_noise",)),
    Entry("relu6", piecewise.relu6),
    Entry("elu", piecewise.elu),
    Entry("selu", piecewise.selu),
    Entry("celu", piecewise.celu),
    Entry("gelu", smooth.gelu),
    Entry("gelu_tanh", smooth.gelu_tanh, ("gelu_new", "gelu_pytorch_tanh")),
    Entry("quick_gelu", smooth.quick_gelu),
    Entry("silu", smooth.silu, ("swish",)),
    Entry("mish", smooth.mish),
    Entry("softplus", smooth.softplus),
    Entry("logsigmoid", smooth.logsigmoid, ("log_sigmoid_forward",)),
    Entry("hardswish", piecewise.hardswish),
    Entry("hardtanh", piecewise.hardtanh),
    Entry("hardsigmoid", piecewise.hardsigmoid),
    Entry("softsign", piecewise.softsign),
    Entry("squared_relu", piecewise.squared_relu, ("relu2",)),
    Entry("erf", smooth.erf_activation),
    Entry("sin", smooth.sin, ("sine",)),
    Entry("softshrink", piecewise.softshrink),
    Entry("hardshrink", piecewise.hardshrink),
    Entry("tanhshrink", smooth.tanhshrink),
)
NAMES: tuple[str, ...] = tuple(entry.name for entry in CATALOGUE)

# "leaky_relu(0.2)", "leaky_relu_0.2", "elu(alpha=0.5)"
_WITH_PARAMETERS = re.compile(r"(?P<name>[A-Za-z]\w*?)(?:_(?P<number>\d+\.\d*)|\((?P<list>.*)\))?")


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


_BY_NAME: dict[str, Entry] = {
    _plain(name): entry for entry in CATALOGUE for name in (entry.name, *entry.aliases)
}


def find(name: str) -> Entry | None:
    """Return the entry of a plain name, without parameters."""
    return _BY_NAME.get(_plain(name))


def named(name: str, **parameters: float) -> Activation:
    """Return the activation of this name; case and underscores do not matter.

    Parameters are torch's (`negative_slope`, `alpha`, `beta`, `min_val`, ...), as keywords or in
    the name: "leaky_relu(0.2)", "leaky_relu_0.2", "elu(alpha=0.5)".

    Raises UnknownNameError with the list of names, UsageError for parameters it does not have.
    """
    match = _WITH_PARAMETERS.fullmatch(name.strip())
    entry = find(match["name"]) if match else None
    if not match or not entry:
        raise UnknownNameError(
            _("activation"),
            name,
            NAMES,
            _(
                "Or pass a function of a tensor, such as"
                " unvanish.gain(lambda z: z * torch.sigmoid(z)); on the command line,"
                " FILE.py:FUNCTION."
            ),
        )
    positional, keywords = _read_parameters(name, match["number"] or match["list"] or "")
    try:
        arguments = inspect.signature(entry.build).bind(*positional, **keywords, **parameters)
    except TypeError as error:
        raise UsageError(
            _("{name} does not take these parameters ({error})").format(
                name=entry.name, error=error
            ),
            _("It takes: {names}.").format(
                names=", ".join(inspect.signature(entry.build).parameters) or _("none")
            ),
        ) from None
    return build(entry, *arguments.args, **arguments.kwargs)


@lru_cache(maxsize=128)
def build(entry: Entry, *args: float, **parameters: float) -> Activation:
    """Return the activation of an entry, the same object for the same parameters.

    What is computed about an activation is remembered by its identity.
    """
    return entry.build(*args, **parameters)


def _read_parameters(name: str, text: str) -> tuple[list[float], dict[str, float]]:
    positional: list[float] = []
    keywords: dict[str, float] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        key, _equals, value = item.rpartition("=")
        try:
            number = float(value)
        except ValueError:
            raise UsageError(
                _("cannot read the parameter {item!r} of {name!r}").format(item=item, name=name),
                _("Write numbers: leaky_relu(0.2), elu(alpha=0.5)."),
            ) from None
        if key:
            keywords[key.strip()] = number
        else:
            positional.append(number)
    return positional, keywords


def slope_supremum(op_name: str, **parameters: float) -> float | None:
    """Return sup |φ'| of an element-wise op, None where it is infinite or the op is unknown.

    `op_name` is a plain name such as "sigmoid" or "leaky_relu"; parameters as for `named`.
    """
    entry = find(op_name)
    return build(entry, **parameters).slope_supremum if entry else None


def negative_slope(name: str, **parameters: float) -> float | None:
    """Return a where the op is z for z > 0 and a·z for z < 0, None for every other op.

    1 for the identity, 0 for ReLU. Such an op is positively homogeneous: it scales gradients by
    √((1 + a²)/2) whatever the weights are.
    """
    entry = find(name)
    return build(entry, **parameters).negative_slope if entry else None
