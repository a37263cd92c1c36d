"""Parameters that get no step.

Layers kept in a Python list are no part of `model.parameters()`; a head that was replaced after the
optimiser was made is not in its groups. `register-parameters` registers the layers and puts the
parameters into the optimiser.

Proposed where the graph is cut.

Unsafe: what stood still begins to move; freeze first what was meant to stand still.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from unvanish.fix.cure import Applicability, Change, Cure, Edit, Kind, Live, NotApplicable
from unvanish.fix.replace import optimise
from unvanish.i18n import _


class RegisterParameters(Cure):
    """Optimise what is not optimised."""

    name = "register-parameters"
    applicability = Applicability.UNSAFE
    kind: ClassVar[Kind] = "structural"
    sources = ("PyTorch documentation, torch.nn.ModuleList",)
    words: ClassVar[Mapping[str, float]] = {"CG102": 0.98, "CG": 0.7}

    def summary(self) -> str:
        return _("Register lost layers, and hand their parameters to the optimiser.")

    def apply(self, live: Live) -> Change:
        if live.optimizer is None:
            raise NotApplicable(_("there is no optimiser"))
        lost = _lost(live)
        if not lost:
            raise NotApplicable(_("the optimiser holds every trainable parameter"))
        held = _containers(live.model)
        for path, name in held:
            setattr(_at(live.model, path), name, _registered(_value(live.model, path, name)))
        optimise(live.optimizer, lost, beside=live.model.parameters())
        rows = [Edit(name, _("optimised"), _("no"), _("yes")) for name in lost]
        return Change(tuple(rows), details={"held": held})

    def code(self, live: Live, change: Change) -> str:
        lines = []
        if change.details["held"]:
            lines = [
                "import torch",
                "",
                f"for path, name in {change.details['held']!r}:",
                "    owner = model.get_submodule(path)",
                "    layers = getattr(owner, name)",
                "    named = isinstance(layers, dict)",
                "    kind = torch.nn.ModuleDict if named else torch.nn.ModuleList",
                "    setattr(owner, name, kind(layers))",
            ]
        return "\n".join(
            (
                *lines,
                "held = {id(p) for group in optimizer.param_groups for p in group['params']}",
                "lost = [p for p in model.parameters() if p.requires_grad and id(p) not in held]",
                "optimizer.param_groups[0]['params'].extend(lost)",
            )
        )


def _registered(layers: Any) -> nn.Module:
    return nn.ModuleDict(layers) if isinstance(layers, dict) else nn.ModuleList(layers)


def _lost(live: Live) -> dict[str, Tensor]:
    """Return trainable parameters that no group holds, also of modules in plain containers."""
    assert live.optimizer is not None
    held = {id(p) for group in live.optimizer.param_groups for p in group["params"]}
    found: dict[str, Tensor] = {
        name: parameter
        for name, parameter in live.model.named_parameters()
        if parameter.requires_grad and id(parameter) not in held
    }
    for path, name in _containers(live.model):
        for inner, parameter in _registered(_value(live.model, path, name)).named_parameters():
            if parameter.requires_grad and id(parameter) not in held:
                found[f"{path}.{name}.{inner}".lstrip(".")] = parameter
    return found


def _at(model: nn.Module, path: str) -> nn.Module:
    return model.get_submodule(path)


def _value(model: nn.Module, path: str, name: str) -> Any:
    return getattr(_at(model, path), name)


def _containers(model: nn.Module) -> list[tuple[str, str]]:
    """Return (path of the module, attribute) of lists and dictionaries of modules alone."""
    return [
        (path, name)
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if not name.startswith("_") and _holds_modules(value)
    ]


def _holds_modules(value: Any) -> bool:
    if isinstance(value, dict):
        named = all(isinstance(key, str) for key in value)
        return named and bool(value) and all(isinstance(v, nn.Module) for v in value.values())
    return (
        isinstance(value, list | tuple)
        and bool(value)
        and all(isinstance(item, nn.Module) for item in value)
    )


CURES = (RegisterParameters(),)
