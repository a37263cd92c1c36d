"""Names for modules and parameters, as the user would say them.

A module is named by its dotted path below its root: the outermost module that holds it, without
wrappers (DistributedDataParallel, torch.compile). Layers kept in a plain Python list are not
registered anywhere; they are named by the attribute that holds them, `hidden[0]`.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary, ref

from torch import nn

from unvanish.measure.calls import ModuleCall
from unvanish.measure.sharding import plain_class

_WRAPPERS = {
    "DistributedDataParallel": "module",
    "DataParallel": "module",
    "FullyShardedDataParallel": "_fsdp_wrapped_module",
    "OptimizedModule": "_orig_mod",
    "AveragedModel": "module",
}


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the user's module inside wrappers such as DDP and torch.compile's."""
    for _ in range(8):
        attribute = _WRAPPERS.get(type(module).__name__)
        inner = getattr(module, attribute, None) if attribute else None
        if not isinstance(inner, nn.Module):
            break
        module = inner
    return module


class NameBook:
    """Remembers the root and the dotted path of every module it has seen."""

    def __init__(self, name_root: Callable[[nn.Module], str | None] | None = None) -> None:
        """`name_root` may give a root the name that the user's script calls it by."""
        self._name_root = name_root
        # The roots weakly too: a value that holds its own key would keep every model alive.
        self._places: WeakKeyDictionary[nn.Module, tuple[ref[nn.Module], str]] = WeakKeyDictionary()
        self._numbers: dict[str, WeakKeyDictionary[nn.Module, int]] = {}

    def learn(self, calls: Sequence[ModuleCall]) -> None:
        """Find the roots of the modules in `calls`, and name what lies below them."""
        unknown = [call for call in calls if call.module not in self._places]
        if not unknown:
            return
        tops = [call.module for call in unknown if call.parent is None]
        for root in dict.fromkeys(outermost(unwrapped(module)) for module in tops):
            for path, module in root.named_modules():
                self._places.setdefault(module, (ref(root), path))
        for call in unknown:
            if call.module not in self._places:
                root, path = self._unregistered(call)
                self._places[call.module] = (ref(root), path)

    def root_of(self, module: nn.Module) -> nn.Module:
        """Return the root that holds `module` (itself if nothing does)."""
        return self._place(module)[0]

    def path_of(self, module: nn.Module) -> str:
        """Return the dotted path of `module` below its root."""
        return self._places[module][1] if module in self._places else type(module).__name__

    def _place(self, module: nn.Module) -> tuple[nn.Module, str]:
        """Return the root that holds `module` and its path there; itself if nothing is known."""
        root, path = self._places.get(module, (None, ""))
        alive = root() if root is not None else None
        return (alive, path) if alive is not None else (unwrapped(module), "")

    def is_registered(self, module: nn.Module) -> bool:
        """Whether `module` is found under its root, so that `parameters()` sees it."""
        root, path = self._place(module)
        return module is root or ("[" not in path and not path.startswith("<"))

    def root_name(self, root: nn.Module) -> str:
        """Return what the user calls this root: a variable of the script, or its class."""
        given = self._name_root(root) if self._name_root else None
        if given:
            return given
        # Several models of one class and without a name of their own are numbered as they come.
        kind = plain_class(root)
        numbers = self._numbers.setdefault(kind, WeakKeyDictionary())
        number = numbers.setdefault(root, 1 + max(numbers.values(), default=0))
        return kind if number == 1 else f"{kind} {number}"

    def parameter_names(self, modules: Iterable[nn.Module]) -> dict[int, tuple[str, nn.Module]]:
        """Return, by id, the dotted name and the owner of every parameter of these modules."""
        found: dict[int, tuple[str, nn.Module]] = {}
        for module in modules:
            path = self.path_of(module)
            for name, parameter in module.named_parameters(recurse=False):
                full = f"{path}.{name}" if path else name
                found.setdefault(id(parameter), (full, module))
        return found

    def owner_of(self, parameter: int) -> nn.Module | None:
        """Return the module, of those seen, that holds the parameter of this id."""
        return next(
            (
                module
                for module in list(self._places)
                if any(id(own) == parameter for own in module._parameters.values())
            ),
            None,
        )

    def _unregistered(self, call: ModuleCall) -> tuple[nn.Module, str]:
        holder = call.parent.module if call.parent else None
        holder = unwrapped(holder) if holder is not None else None
        if holder is None:
            return call.module, ""
        root, path = self._place(holder)
        attribute = _attribute_holding(holder, call.module) or f"<{type(call.module).__name__}>"
        return root, f"{path}.{attribute}" if path else attribute


def _attribute_holding(holder: nn.Module, module: nn.Module) -> str | None:
    for name, value in vars(holder).items():
        if value is module:
            return f"[{name}]"
        items: Iterable[tuple[Any, Any]] = ()
        if isinstance(value, list | tuple):
            items = enumerate(value)
        elif isinstance(value, dict) and not name.startswith("_"):
            items = value.items()
        for key, item in items:
            if item is module:
                return f"{name}[{key}]"
    return None


def outermost(module: nn.Module) -> nn.Module:
    """Return the outermost module that holds `module`: a LightningModule calls its parts itself.

    Looks through live modules once for each new root; wrappers do not count as holders.
    """
    parents: dict[int, nn.Module] = {}
    for candidate in gc.get_objects():
        # By type, not isinstance: that would run the __class__ property of lazy proxies.
        if not issubclass(type(candidate), nn.Module):
            continue
        if type(candidate).__name__ not in _WRAPPERS:
            for child in candidate.__dict__.get("_modules", {}).values():
                if child is not None:
                    parents.setdefault(id(child), candidate)
    seen = {id(module)}
    while id(module) in parents and id(parents[id(module)]) not in seen:
        module = parents[id(module)]
        seen.add(id(module))
    return module


@dataclass(slots=True)
class Names:
    """How ops are named in the records: owner path, call number, parameter names."""

    book: NameBook
    calls: Sequence[ModuleCall]
    parameters: Mapping[int, str]
    prefix_roots: bool = False
    _numbers: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        counts: dict[int, int] = {}
        for call in self.calls:
            number = counts.get(id(call.module), 0)
            counts[id(call.module)] = number + 1
            self._numbers[id(call)] = number

    def module(self, call: ModuleCall | None) -> str | None:
        """Return the dotted path of a call's module; None for no call."""
        if call is None:
            return None
        path = self.book.path_of(call.module)
        if not self.prefix_roots:
            return path
        root = self.book.root_name(self.book.root_of(call.module))
        return f"{root}.{path}" if path else root

    def number(self, call: ModuleCall | None) -> int:
        """Return which call of its module this is, from 0."""
        return self._numbers.get(id(call), 0) if call is not None else 0
