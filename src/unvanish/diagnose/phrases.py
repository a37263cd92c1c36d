"""How rules name places and parts in their sentences."""

from __future__ import annotations

from unvanish.diagnose.trunk import Part
from unvanish.i18n import _
from unvanish.words import printable


def place(module: str | None) -> str:
    """Name a module; its path is untrusted text."""
    if module is None:
        return _("the code outside all modules")
    return f"`{printable(module)}`" if module else _("the model itself")


def part_name(part: Part, activation: str | None = None) -> str:
    """Name what weakens or strengthens the signal; by the activation where that is known."""
    if part == "slope" and activation:
        return _("slope of the {activation}").format(activation=activation)
    names = {
        "slope": _("slope of the activation"),
        "saturation": _("saturated units"),
        "off": _("units that are off"),
        "weight": _("weights"),
        "norm": _("normalisation"),
        "attention": _("attention"),
        "gate": _("gates"),
        "merge": _("sums of branches"),
        "scale": _("constant factors"),
        "opaque": _("fused ops"),
    }
    return names.get(part, part)


def linear(log10: float) -> float:
    """Return 10**log10, infinity where a float cannot hold it."""
    return 10.0**log10 if log10 < 308 else float("inf")
