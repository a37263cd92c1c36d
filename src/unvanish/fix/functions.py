"""Other functions in place of the user's calls, without touching the source.

`Substitution` sees every call of a torch function while it is entered. Each cure that imitates a
source edit has its own; it is entered around the forward and the loss of a trial, or for as long as
a model's forward runs (`during_forward`).
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from unvanish.fix.recording import plain_name, user_line
from unvanish.records import SourceLine

# Calls that hand their input on, entry by entry: what is known of the input holds of the output.
_VIEWS = frozenset(
    {"view", "reshape", "flatten", "squeeze", "unsqueeze", "contiguous", "float", "to", "getitem"}
)


class Substitution(TorchFunctionMode):
    """Offers every call to `instead`; what that returns is the result."""

    def __init__(self) -> None:
        super().__init__()
        self._notes: dict[int, tuple[weakref.ref[Tensor], str, Any]] = {}

    def instead(
        self, name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Return the result of another call, or NotImplemented to let this one be."""
        return NotImplemented

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name, words = plain_name(func), dict(kwargs or {})
        result = self.instead(name, func, args, words)
        if result is NotImplemented:
            result = func(*args, **words)
            if name in _VIEWS and isinstance(result, Tensor) and self._notes:
                self._hand_on(func, args, words, result)
        return result

    def note(self, output: Tensor, kind: str, origin: Any) -> Tensor:
        """Remember what `output` was made of, while it lives."""
        self._notes[id(output)] = (weakref.ref(output), kind, origin)
        return output

    def origin(self, value: Any, kind: str) -> Any:
        """What `value` was made of, if it was noted as of this kind; else None."""
        held, known, origin = self._notes.get(id(value), (None, "", None))
        return origin if held is not None and held() is value and known == kind else None

    def _hand_on(self, func: Any, args: Any, words: dict[str, Any], result: Tensor) -> None:
        source = args[0] if args else None
        held, kind, origin = self._notes.get(id(source), (None, "", None))
        if held is not None and held() is source and isinstance(origin, Tensor):
            self.note(result, kind, func(origin, *args[1:], **words))

    @staticmethod
    def line() -> SourceLine | None:
        """The user's line that made the call."""
        return user_line(sys._getframe(1))


class during_forward:  # noqa: N801 - a hook pair that reads as words: during_forward(model, make)
    """Enter a substitution whenever `model`'s forward runs, by two hooks that copy with it."""

    def __init__(self, model: nn.Module, make: Callable[[], Substitution]) -> None:
        self.make = make
        self.entered: list[Any] = []
        model.register_forward_pre_hook(self.enter, prepend=True)
        model.register_forward_hook(self.leave, always_call=True)

    def enter(self, module: nn.Module, args: Any) -> None:
        """Before the forward."""
        mode: Any = self.make()  # torch leaves its methods untyped
        mode.__enter__()
        self.entered.append(mode)

    def leave(self, module: nn.Module, args: Any, output: Any) -> None:
        """After the forward, also where it raised."""
        self.entered.pop().__exit__(None, None, None)
