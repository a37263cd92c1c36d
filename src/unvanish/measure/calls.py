"""The forward pass as module calls: who called whom, and which autograd nodes each call made.

Global forward hooks note the autograd sequence number on entry and exit of every module call.
A node belongs to the innermost call whose span holds its number (PyTorch's profiler attributes
ops the same way). Nothing is patched into a model.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.nn.modules import module as registry
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from unvanish.measure.derivatives import DerivativeLog
from unvanish.measure.dynamo import hide, uncompiled, unhide
from unvanish.measure.forward import ForwardSignal, first_tensor, tensors_in, thinned
from unvanish.measure.preserve import RandomStates
from unvanish.records import SourceLine

_sequence_number: Callable[[], int] = torch._C._autograd._get_sequence_nr
_CHECKPOINT_FILE = torch.utils.checkpoint.__file__
_FUSED_CLASSES = (nn.RNNBase,)


@dataclass(slots=True, eq=False)
class ModuleCall:
    """One call of one module. `start <= n._sequence_nr() < end` for the nodes it made."""

    module: nn.Module
    thread: int
    start: int
    parent: ModuleCall | None
    training: bool
    end: int = -1
    has_children: bool = False
    signal: ForwardSignal | None = None
    taken: Tensor | None = None  # a few entries of its input, or of its output if it has parameters
    batch_size: int | None = None
    output_is_scalar: bool = False
    outputs: tuple[tuple[int, int], ...] = ()  # (sequence number, output number) of its tensors
    source: SourceLine | None = None
    inputs: ReplayInputs | None = None  # kept for roots and fused layers only


@dataclass(slots=True, eq=False)
class ReplayInputs:
    """What a call was given, by reference, and what else decides its result."""

    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    versions: list[tuple[Tensor, int]]
    random: RandomStates
    autocast: tuple[tuple[str, bool, torch.dtype], ...]
    buffers: tuple[tuple[Tensor, Tensor], ...]

    @classmethod
    def of(cls, module: nn.Module, arguments: tuple[Any, ...]) -> ReplayInputs:
        """Note the state at the entry of a call of `module`."""
        return cls(
            arguments=arguments,
            keywords={},
            versions=[
                (tensor, tensor._version)
                for tensor in [*tensors_in(arguments), *module.parameters()]
            ],
            random=RandomStates.capture(),
            autocast=tuple(
                (kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind))
                for kind in ("cpu", "cuda")
            ),
            buffers=tuple((buffer, buffer.detach().clone()) for buffer in module.buffers()),
        )

    def add_keywords(self, keywords: dict[str, Any]) -> None:
        """Add the keyword arguments, which the global hooks show only when the call ends."""
        self.keywords = keywords
        self.versions += [(tensor, tensor._version) for tensor in tensors_in(keywords)]

    def changed(self) -> bool:
        """Whether an input was written to since it was noted."""
        return any(tensor._version != version for tensor, version in self.versions)


class _Open(threading.local):
    """The calls that are running in this thread; a bare module stands for one not kept."""

    def __init__(self) -> None:
        self.calls: list[ModuleCall | nn.Module] = []


class CallLog:
    """Module calls of one forward pass, in order, as the global hooks see them.

    `active` switches recording: while it is False the hooks return at once. Calls under no_grad
    are not kept, nor are those that run inside a backward (checkpoint recomputation) unless a
    tracer asks for them through `recompute`.
    """

    def __init__(
        self, *, keep_inputs: bool = True, forward_statistics: bool = True, samples: bool = True
    ) -> None:
        """What to keep of a call: `samples` are a few entries of what goes into activations."""
        self.active = False
        self.calls: list[ModuleCall] = []
        self.errors: list[str] = []
        self.recompute: list[ModuleCall] | None = None
        self.derivatives = DerivativeLog()
        self.checkpointed: list[nn.Module] = []  # called without a graph by a reentrant checkpoint
        self._keep_inputs = keep_inputs
        self._forward_statistics = forward_statistics
        self._samples = samples
        self._open = _Open()
        self._installed = False
        self._handles: list[Any] = []
        self._hooks: tuple[Any, ...] = ()

    def install(self) -> None:
        """Register the global hooks. Does nothing when they are there.

        They come back under the same ids and as the same functions: torch.compile guards on both,
        and a graph that was compiled with them is used again.
        """
        if self._installed:
            return
        self._installed = True
        if not self._handles:
            self._hooks = (self._enter, self._leave)
            self._handles = [
                register_module_forward_pre_hook(self._hooks[0]),
                register_module_forward_hook(self._hooks[1], with_kwargs=True, always_call=True),
            ]
        else:
            enter, leave = (handle.id for handle in self._handles)
            registry._global_forward_pre_hooks[enter] = self._hooks[0]
            registry._global_forward_hooks[leave] = self._hooks[1]
            registry._global_forward_hooks_with_kwargs[leave] = True
            registry._global_forward_hooks_always_called[leave] = True
        hide(handle.id for handle in self._handles)

    def remove(self) -> None:
        """Remove the global hooks and stop recording."""
        self.active = False
        unhide(handle.id for handle in self._handles)
        for handle in self._handles:
            handle.remove()
            # torch forgets to take this one back, and then believes that there are hooks.
            registry._global_forward_hooks_with_kwargs.pop(handle.id, None)
        self._installed = False
        self.clear()

    def clear(self) -> None:
        """Forget the recorded calls and the inputs kept for a replay."""
        self.calls = []
        self.errors = []
        self.derivatives.clear()
        self.checkpointed = []
        self._open.calls = []

    @contextmanager
    def elsewhere(self) -> Iterator[list[ModuleCall]]:
        """Record into a list of its own for a while, spans only: the calls of a replay."""
        state = (self.calls, self.active, self._open.calls)
        kept = (self._keep_inputs, self._forward_statistics, self._samples)
        self.calls, self.active, self._open.calls = [], True, []
        self._keep_inputs = self._forward_statistics = self._samples = False
        try:
            yield self.calls
        finally:
            self.calls, self.active, self._open.calls = state
            self._keep_inputs, self._forward_statistics, self._samples = kept

    @uncompiled
    def _enter(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if torch.compiler.is_compiling() or not self.active:
            return
        calls = self._destination()
        if calls is None:
            if not torch.is_grad_enabled() and _inside_reentrant_checkpoint():
                self.checkpointed.append(module)
            self._open.calls.append(module)  # keeps the stack in step with `_leave`
            return
        parent = self._parent()
        root = parent is None
        call = ModuleCall(
            module, threading.get_ident(), _sequence_number(), parent, module.training
        )
        if parent is not None:
            parent.has_children = True
            call.batch_size = parent.batch_size
        try:
            call.source = _calling_line()
            if root:
                call.batch_size = _batch_size(arguments)
            if self._keep_inputs and (root or isinstance(module, _FUSED_CLASSES)):
                call.inputs = ReplayInputs.of(module, arguments)
            if self._samples and not module._modules and not module._parameters:
                call.taken = thinned(arguments[0] if arguments else None)
        except Exception as error:
            self.errors.append(f"{type(error).__name__}: {error}")
        calls.append(call)
        self._open.calls.append(call)

    @uncompiled
    def _leave(self, module: nn.Module, arguments: tuple[Any, ...], *rest: Any) -> None:
        # `rest` is (keywords, output), and (output,) alone where the forward raised.
        stack = self._open.calls
        if torch.compiler.is_compiling() or not stack:
            return
        call = stack[-1]
        if (call.module if isinstance(call, ModuleCall) else call) is not module:
            return  # entered while recording was off
        stack.pop()
        if not isinstance(call, ModuleCall):
            return
        call.end = _sequence_number()
        keywords, output = rest if len(rest) == 2 else ({}, None)
        if output is None:
            return
        try:
            if call.inputs is not None and keywords:
                call.inputs.add_keywords(keywords)
                call.batch_size = call.batch_size or _batch_size(keywords)
            self._note_output(call, output)
        except Exception as error:
            self.errors.append(f"{type(error).__name__}: {error}")

    def _destination(self) -> list[ModuleCall] | None:
        """Return the list that a call made now belongs to, or None where it is not kept."""
        if not torch.is_grad_enabled() or _inside_transform() or being_recorded():
            return None
        return self.calls if torch._C._current_graph_task_id() == -1 else self.recompute

    def _parent(self) -> ModuleCall | None:
        calls = (call for call in reversed(self._open.calls) if isinstance(call, ModuleCall))
        return next(calls, None)

    def _note_output(self, call: ModuleCall, output: Any) -> None:
        tensors = tensors_in(output)
        call.outputs = tuple(
            (tensor.grad_fn._sequence_nr(), tensor.output_nr)
            for tensor in tensors
            if tensor.grad_fn is not None
        )
        first = first_tensor(output)
        if first is None:
            return
        call.output_is_scalar = first.numel() == 1 and len(tensors) == 1
        if self._samples and not call.has_children and call.module._parameters:
            call.taken = thinned(first)
        if self._forward_statistics and (not call.has_children or call.parent is None):
            call.signal = ForwardSignal.of(first, call.batch_size)


def being_recorded() -> bool:
    """Whether what runs now is recorded to be run again (torch.jit.trace, a CUDA graph).

    What we compute would be recorded with it.
    """
    if torch._C._get_tracing_state() is not None:
        return True
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


def _inside_reentrant_checkpoint() -> bool:
    """Whether a checkpoint is running its forward without a graph, to run it again in backward.

    It does so too where no input of it needs a gradient; then there is no backward to run it in.
    """
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        if code.co_name == "forward" and code.co_filename == _CHECKPOINT_FILE:
            return True
        frame = frame.f_back
    return False


def _inside_transform() -> bool:
    """Whether a torch.func transform (vmap, grad, jvp) is running."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def _batch_size(arguments: Any) -> int | None:
    first = first_tensor(arguments)
    return int(first.shape[0]) if first is not None and first.dim() > 0 else None


def _calling_line() -> SourceLine | None:
    """Return the nearest line of the caller that is not torch's or ours."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name != "torch" and not name.startswith(("torch.", "unvanish.measure")):
            return SourceLine(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return None
