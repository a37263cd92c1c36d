"""One forward with its loss, written down call by call: which function, on what, from where.

Seen at the level at which people write: `torch.sigmoid`, `F.linear`, `a + b`, each with the
module that made the call and the user's line. This is what cures look at and what they point to;
the autograd graph lies below it and knows neither functions nor constants.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._pytree import tree_leaves

from unvanish.fix.cure import Live
from unvanish.measure.preserve import preserved
from unvanish.records import SourceLine

_OWN = (str(Path(torch.__file__).parent), str(Path(__file__).parent))
# Calls that make no new value, or that are no part of the computation.
_SILENT = frozenset({"requires_grad", "backward", "register_hook", "retain_grad", "manual_seed"})


@dataclass(frozen=True, slots=True)
class Op:
    """One call of a torch function. Values are numbers of tensors, from 0 in order of sight."""

    index: int
    name: str  # plain: "linear", "add", "sigmoid"; a property as "data", "T"
    module: str | None  # innermost module that was running; None: outside of the model
    inputs: tuple[int, ...]  # tensors that are no parameters
    outputs: tuple[int, ...]
    parameters: tuple[str, ...]  # names of parameters among its arguments
    shape: tuple[int, ...]  # of its first output
    numbers: Mapping[str, Any]  # arguments that are numbers, flags or words, by keyword or position
    line: SourceLine | None


@dataclass
class Recording:
    """All calls of one forward with its loss."""

    ops: list[Op] = field(default_factory=list)
    calls: dict[str, int] = field(default_factory=dict)  # module path -> number of calls
    arguments: list[int] = field(default_factory=list)  # values that the root module was given
    loss: float = float("nan")

    def producer(self, value: int) -> Op | None:
        """The call that made a value; None for what came from outside."""
        return self._producers.get(value)

    def consumers(self, value: int) -> list[Op]:
        """The calls that take a value, in order."""
        return self._consumers.get(value, [])

    def link(self) -> Recording:
        """Index the calls by value."""
        self._producers = {value: op for op in self.ops for value in op.outputs}
        self._consumers: dict[int, list[Op]] = {}
        for op in self.ops:
            for value in dict.fromkeys(op.inputs):
                self._consumers.setdefault(value, []).append(op)
        return self


def record(live: Live) -> Recording:
    """Run `loss_fn(model, batch)` once without a graph of its own and write it down.

    Whatever a forward changes (buffers, random states, gradients) is put back. Raises what the
    loss function raises.
    """
    recording = Recording()
    with preserved(live.model), torch.enable_grad(), _eager():
        recorder = _Recorder(live.model, recording)
        with recorder.hooks(), recorder:
            loss = live.loss_fn(live.model, live.batch)
        if loss.numel() == 1:
            recording.loss = float(loss.detach())
    return recording.link()


@contextmanager
def _eager() -> Iterator[None]:
    # Compiled code calls no torch function that could be seen.
    with torch.compiler.set_stance("force_eager"):
        yield


class _Recorder(TorchFunctionMode):
    def __init__(self, model: nn.Module, recording: Recording) -> None:
        super().__init__()
        self._model = model
        self._recording = recording
        self._numbers: dict[int, int] = {}
        self._alive: list[Tensor] = []  # ids stay taken while the tensor lives
        self._parameters = {id(p): name for name, p in model.named_parameters()}
        self._paths = {id(module): path for path, module in model.named_modules()}
        self._stack: list[str] = []

    @contextmanager
    def hooks(self) -> Iterator[None]:
        before = torch.nn.modules.module.register_module_forward_pre_hook(self._enter)
        after = torch.nn.modules.module.register_module_forward_hook(self._leave, always_call=True)
        try:
            yield
        finally:
            before.remove()
            after.remove()

    def _enter(self, module: nn.Module, args: Any) -> None:
        path = self._paths.get(id(module))
        if path is None:  # not registered, or no part of the model
            path = self._stack[-1] if self._stack else None
        if path is None:
            return
        if module is self._model:
            leaves = [leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]
            self._recording.arguments += [self._number(leaf) for leaf in leaves]
        if id(module) in self._paths:
            calls = self._recording.calls
            calls[path] = calls.get(path, 0) + 1
        self._stack.append(path)

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._stack:
            self._stack.pop()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        taken = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        data = [leaf for leaf in taken if id(leaf) not in self._parameters]
        inputs = tuple(self._number(leaf) for leaf in data)
        result = func(*args, **kwargs)
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        name = plain_name(func)
        if made and taken and name not in _SILENT:
            names = dict.fromkeys(
                self._parameters[id(leaf)] for leaf in taken if id(leaf) in self._parameters
            )
            self._recording.ops.append(
                Op(
                    index=len(self._recording.ops),
                    name=name,
                    module=self._stack[-1] if self._stack else None,
                    inputs=inputs,
                    outputs=tuple(self._number(leaf, new=True) for leaf in made),
                    parameters=tuple(names),
                    shape=tuple(made[0].shape),
                    numbers=_plain_arguments(args, kwargs),
                    line=user_line(sys._getframe(1)),
                )
            )
        return result

    def _number(self, tensor: Tensor, *, new: bool = False) -> int:
        key = id(tensor)
        if new or key not in self._numbers:
            self._numbers[key] = len(self._alive)
            self._alive.append(tensor)
        return self._numbers[key]


def plain_name(function: Any) -> str:
    """Return the plain name of a torch function: "add" for `Tensor.__iadd__` and `torch.add`."""
    name = getattr(function, "__name__", "")
    if name == "__get__":
        return str(resolve_name(function)).split(".")[-2]
    if name.startswith("__") and name.endswith("__"):
        name = name[2:-2]
        for prefix in ("r", "i"):
            if name.startswith(prefix) and name[1:] in _OPERATORS:
                name = name[1:]
    return str(name).strip("_")


_OPERATORS = frozenset({"add", "sub", "mul", "truediv", "div", "pow", "matmul"})


def _plain_arguments(args: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    plain = (bool, int, float, str)
    found = {str(i): item for i, item in enumerate(args) if isinstance(item, plain)}
    return found | {key: item for key, item in kwargs.items() if isinstance(item, plain)}


def user_line(frame: FrameType | None) -> SourceLine | None:
    """The line of the innermost frame that is neither torch's nor ours."""
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(_OWN) and not file.startswith("<"):
            return SourceLine(file, frame.f_lineno)
        frame = frame.f_back
    return None
