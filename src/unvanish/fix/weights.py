"""Drawing weights anew: by how much, how, and the lines that do the same."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from unvanish.fix.cure import Edit
from unvanish.fix.structure import Layer, Structure
from unvanish.i18n import _
from unvanish.meanfield.activation import Activation
from unvanish.meanfield.critical import criticality
from unvanish.meanfield.moments import moments

Law = Literal["normal", "orthogonal"]


def signal_gain(activation: Activation | None) -> float | None:
    """σ_w with which a layer of weights keeps the signal that `activation` hands to it.

    The ReLU family and the one-sided smooth ones: √(1/E φ²), for pre-activations of length 1. Odd
    ones (tanh): 1/φ'(0), critical for q → 0. None (linear): 1. Returns None for an activation
    with a mean and no usable critical point (sigmoid, softplus): these need a centring bias.
    """
    if activation is None:
        return 1.0
    here, there = (float(activation.f(torch.tensor([z]).numpy())[0]) for z in (1.0, -1.0))
    found = criticality(activation)
    if math.isclose(here, -there, rel_tol=1e-6):
        return found.sigma_w
    at_zero = float(activation.f(torch.zeros(1).numpy())[0])
    if found.kind == "none" or abs(at_zero) > 1e-6:
        return None
    return float(moments(activation, 1.0).second ** -0.5)


def redrawable(structure: Structure) -> list[Layer]:
    """Layers whose weights may be drawn anew: trainable and no part of a recurrence."""
    trainable = {name for name, p in structure.model.named_parameters() if p.requires_grad}
    return [layer for layer in structure.chain if layer.weight in trainable]


def draw(weight: Tensor, gain: float, law: Law, generator: torch.Generator) -> None:
    """Fill `weight` in place, on the CPU in float32 first, whatever its device and type."""
    drawn = torch.empty(weight.shape, dtype=torch.float32)
    if law == "orthogonal":
        nn.init.orthogonal_(drawn, gain, generator=generator)
    else:
        fan_in = math.prod(weight.shape[1:])
        nn.init.normal_(drawn, std=gain / math.sqrt(fan_in), generator=generator)
    with torch.no_grad():
        weight.copy_(drawn)


def redraw(
    model: nn.Module, gains: Mapping[str, float], law: Law, generator: torch.Generator
) -> tuple[Edit, ...]:
    """Draw every weight in `gains` with its gain and set its module's bias to 0."""
    words = {"normal": _("normal weights"), "orthogonal": _("orthogonal weights")}
    edits = []
    for name, gain in gains.items():
        weight = model.get_parameter(name)
        before = _size(weight)
        draw(weight, gain, law, generator)
        bias = bias_of(model, name)
        if bias is not None:
            nn.init.zeros_(bias)
        edits.append(Edit(name, words[law], before, _size(weight)))
    return tuple(edits)


def bias_of(model: nn.Module, weight: str) -> Tensor | None:
    """The bias beside the parameter `weight`, if there is one."""
    path, _dot, name = weight.rpartition(".")
    bias = getattr(model.get_submodule(path), name.replace("weight", "bias"), None)
    return bias if isinstance(bias, Tensor) else None


def redraw_lines(gains: Mapping[str, float], law: Law) -> str:
    """The lines that do what `redraw` does, with torch's global generator."""
    if law == "orthogonal":
        one = "drawn = torch.nn.init.orthogonal_(torch.empty(weight.shape), gain)"
    else:
        one = (
            "drawn = torch.nn.init.normal_(torch.empty(weight.shape),"
            " std=gain / weight[0].numel() ** 0.5)"
        )
    return "\n".join(
        (
            "import torch",
            "",
            table("gains", gains),
            "with torch.no_grad():",
            "    for name, gain in gains.items():",
            "        weight = model.get_parameter(name)",
            f"        {one}",
            "        weight.copy_(drawn)",
            "        bias = getattr(model.get_submodule(name.rpartition('.')[0]), 'bias', None)",
            "        if bias is not None:",
            "            bias.zero_()",
        )
    )


def table(name: str, values: Mapping[str, float]) -> str:
    """Return the assignment of a dictionary of numbers as wrapped lines."""
    items = ", ".join(f"{key!r}: {value!r}" for key, value in values.items())
    return _wrapped(f"{name} = {{", items, "}")


def listing(name: str, values: Iterable[str]) -> str:
    """Return the assignment of a list of words as wrapped lines."""
    return _wrapped(f"{name} = [", ", ".join(map(repr, values)), "]")


def _wrapped(opening: str, items: str, closing: str) -> str:
    if len(opening) + len(items) < 90:
        return f"{opening}{items}{closing}"
    body = textwrap.fill(
        items, 88, initial_indent="    ", subsequent_indent="    ", break_long_words=False
    )
    return f"{opening}\n{body},\n{closing}"


def _size(weight: Tensor) -> str:
    return _("std {std:.3g}").format(std=float(weight.detach().float().std(correction=0)))
