"""Keeping torch.compile away from our own frames.

While a compiled function runs, torch.compile looks at every Python frame that is entered, ours
too: it would compile our hooks in their "a graph is being compiled" branch, and they would see
nothing from then on. Marked code is run as it is. (Where a hook is inlined into a graph it returns
at once, because `torch.compiler.is_compiling()` is then true.)
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch._C._dynamo.eval_frame import (
    _FrameAction,
    _FrameExecStrategy,
    set_code_exec_strategy,
)
from torch.nn.modules import module as registry

F = TypeVar("F", bound=Callable[..., object])


def uncompiled(function: F) -> F:
    """Run `function`, and all that it calls, as plain Python."""
    return _marked(function, _FrameExecStrategy(_FrameAction.SKIP, _FrameAction.SKIP))


def uncompiled_itself(function: F) -> F:
    """Run `function` as plain Python; what it calls is looked at as without it."""
    return _marked(function, _FrameExecStrategy(_FrameAction.SKIP, _FrameAction.DEFAULT))


def _marked(function: F, strategy: _FrameExecStrategy) -> F:
    set_code_exec_strategy(function.__code__, strategy)
    return function


def eagerly() -> AbstractContextManager[None]:
    """Return a context in which compiled functions run as the Python that they were made from."""
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    context: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return context


_hidden: set[int] = set()  # ids of our global module hooks
_has_any_global_hook: Callable[[], Any] = registry._has_any_global_hook


def hide(hooks: Iterable[int]) -> None:
    """Keep torch.compile from warning of these global module hooks (by id); others' it still sees.

    It warns because hooks fire once more for the wrapper that it puts around a module. Ours know.
    """
    _hidden.update(hooks)
    vars(registry)["_has_any_global_hook"] = _has_other_global_hook


def unhide(hooks: Iterable[int]) -> None:
    """Take back `hide`."""
    _hidden.difference_update(hooks)
    if not _hidden:
        vars(registry)["_has_any_global_hook"] = _has_any_global_hook


def _has_other_global_hook() -> bool:
    registered: tuple[Iterable[int], ...] = (
        registry._global_backward_pre_hooks,
        registry._global_backward_hooks,
        registry._global_forward_pre_hooks,
        registry._global_forward_hooks,
    )
    return any(hook not in _hidden for hooks in registered for hook in hooks)
