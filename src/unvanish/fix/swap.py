"""Another activation in place of one, as a module or as a call in a forward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from unvanish.fix.cure import Edit, Live
from unvanish.fix.functions import Substitution, during_forward
from unvanish.fix.recording import Op
from unvanish.fix.replace import forget, place, replace_module
from unvanish.fix.structure import Structure
from unvanish.fix.weights import listing
from unvanish.i18n import _


@dataclass(frozen=True)
class Swap:
    """What is swapped: modules by path, and calls by the plain name of their function."""

    modules: tuple[str, ...]
    functions: tuple[str, ...]
    calls: tuple[Op, ...]


def plan(structure: Structure, ops: Sequence[Op]) -> Swap | None:
    """Sort the activations to swap; None where there is none.

    A function called in a forward is swapped wherever the model calls it, so it is left alone
    where one such call is not among `ops` (a sigmoid that is a gate, or the output).
    """
    modules: dict[str, None] = {}
    functions: dict[str, list[Op]] = {}
    wanted = {op.index for op in ops}
    for op in ops:
        if op.module and _is_leaf(structure.model.get_submodule(op.module)):
            modules[op.module] = None
        else:
            functions.setdefault(op.name, []).append(op)
    for name in list(functions):
        if any(
            op.name == name and op.module is not None and op.index not in wanted
            for op in structure.ops
            if op.module not in modules
        ):
            del functions[name]
    calls = tuple(op for each in functions.values() for op in each)
    return Swap(tuple(modules), tuple(functions), calls) if modules or functions else None


def _is_leaf(module: nn.Module) -> bool:
    return not any(True for _ in module.children()) and not any(
        p.dim() > 1 for p in module.parameters()
    )


class Functions(Substitution):
    """Another module for every call of some functions."""

    def __init__(self, names: tuple[str, ...], new: nn.Module) -> None:
        super().__init__()
        self.names = names
        self.new = new

    def instead(self, name: str, function: object, args: tuple, kwargs: dict) -> object:  # type: ignore[type-arg]
        """Return what the new activation makes of the first argument."""
        if name not in self.names or not args:
            return NotImplemented
        return self.new(args[0])


@dataclass
class Maker:
    """Makes `Functions`; an object, so that it copies with the model whose hooks hold it."""

    names: tuple[str, ...]
    new: nn.Module

    def __call__(self) -> Functions:
        """Make one."""
        return Functions(self.names, self.new)


def swap(
    live: Live, chosen: Swap, make: type[nn.Module], arguments: dict[str, float]
) -> list[Edit]:
    """Put `make(**arguments)` in the place of the chosen activations."""
    rows = []
    after = _call(make, arguments)
    for path in chosen.modules:
        old = live.model.get_submodule(path)
        forget(live.optimizer, old.parameters())
        replace_module(live.model, old, make(**arguments))
        rows.append(Edit(path, _("activation"), type(old).__name__, after))
    if chosen.functions:
        new = make(**arguments)
        place(new, live.model)
        during_forward(live.model, Maker(chosen.functions, new))
        rows += [
            Edit(op.module or "", _("activation"), op.name, after)
            for op in {(op.module, op.name): op for op in chosen.calls}.values()
        ]
    return rows


def swap_lines(chosen: Swap, make: type[nn.Module], arguments: dict[str, float]) -> str:
    """The lines that do what `swap` does."""
    call = f"torch.nn.{_call(make, arguments)}"
    lines = ["import torch", ""]
    if chosen.modules:
        lines += [
            listing("names", chosen.modules),
            "for name in names:",
            "    parent, _, last = name.rpartition('.')",
            f"    setattr(model.get_submodule(parent), last, {call})",
        ]
    if chosen.functions:
        lines += [
            "",
            *(f"# {place}" for place in _places(chosen.calls)),
            "from torch.overrides import TorchFunctionMode",
            "",
            "",
            "class Swapped(TorchFunctionMode):",
            "    def __torch_function__(self, function, types, args=(), kwargs=None):",
            f"        if getattr(function, '__name__', '').strip('_') in {chosen.functions!r}:",
            "            return ACTIVATION(args[0])",
            "        return function(*args, **(kwargs or {}))",
            "",
            "",
            f"ACTIVATION, modes = {call}, []",
            "model.register_forward_pre_hook(lambda *_: modes.append(Swapped().__enter__()))",
            "model.register_forward_hook(",
            "    lambda *_: modes.pop().__exit__(None, None, None), always_call=True",
            ")",
        ]
    return "\n".join(lines)


def _places(calls: Sequence[Op]) -> list[str]:
    lines = {(op.name, op.line) for op in calls if op.line is not None}
    return [
        _("or write it in place of {name} in {file}, line {line}").format(
            name=name, file=line.file.rpartition("/")[2], line=line.line
        )
        for name, line in sorted(lines, key=str)
        if line is not None
    ]


def _call(make: type[nn.Module], arguments: dict[str, float]) -> str:
    return f"{make.__name__}({', '.join(f'{k}={v!r}' for k, v in arguments.items())})"
