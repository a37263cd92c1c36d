"""Setting the stage for a replay: a call's inputs, random states and buffers as they were then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from unvanish.i18n import _
from unvanish.measure.calls import ModuleCall
from unvanish.measure.dynamo import eagerly
from unvanish.measure.forward import tensors_in
from unvanish.measure.names import unwrapped
from unvanish.measure.preserve import preserved


class ReplayError(Exception):
    """A replay is not possible; the message says why."""


@contextmanager
def as_then(
    call: ModuleCall, module: nn.Module
) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Set the stage of `call` again and yield its arguments, detached; put all back after."""
    inputs = call.inputs
    if inputs is None:
        raise ReplayError(_("its inputs were not kept"))
    if inputs.changed():
        raise ReplayError(_("an input or a parameter was changed in place after the forward"))
    with ExitStack() as stack:
        stack.enter_context(preserved(module))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(eagerly())  # what is compiled opens, and is not compiled once more
        for kind, enabled, dtype in inputs.autocast:
            if kind == "cpu" or torch.cuda.is_available():
                stack.enter_context(
                    torch.autocast(kind, dtype=dtype, enabled=enabled, cache_enabled=False)
                )
        with torch.no_grad():
            for buffer, content in inputs.buffers:
                if not torch.equal(buffer, content):
                    buffer.copy_(content)
        inputs.random.restore()
        arguments = tree_map_only(Tensor, _detached, inputs.arguments)
        keywords = tree_map_only(Tensor, _detached, inputs.keywords)
        yield arguments, keywords


def _detached(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_(tensor.requires_grad)


@contextmanager
def kernels_unfused() -> Iterator[None]:
    """Turn off the libraries that fuse a recurrent layer into one op."""
    # Not through backends.mkldnn.flags: it also touches TF32, and warns where there is none.
    mkldnn = torch._C._get_mkldnn_enabled()
    cudnn = torch._C._get_cudnn_enabled()
    try:
        torch._C._set_mkldnn_enabled(False)
        torch._C._set_cudnn_enabled(False)
        yield
    finally:
        torch._C._set_mkldnn_enabled(mkldnn)
        torch._C._set_cudnn_enabled(cudnn)


def replayable(calls: Sequence[ModuleCall]) -> tuple[ModuleCall, nn.Module]:
    """Return the outermost call of most parameters, whose inputs were kept, and its module."""
    call = _main_root(calls)
    if call is None:
        raise ReplayError(_("no call of a whole model was seen"))
    module = unwrapped(call.module)
    if _has_foreign_hooks(module):
        raise ReplayError(_("the model has forward hooks of your own, which would run again"))
    return call, module


def _main_root(calls: Sequence[ModuleCall]) -> ModuleCall | None:
    """Return the outermost kept call whose module has the most parameters."""
    roots = [call for call in calls if call.parent is None and call.inputs is not None]

    def size(call: ModuleCall) -> int:
        return sum(parameter.numel() for parameter in call.module.parameters())

    best = max(roots, key=size, default=None)
    return best if best is not None and size(best) > 0 else None


def _has_foreign_hooks(module: nn.Module) -> bool:
    """Whether a forward hook is there that torch itself did not put (pruning, spectral norm)."""
    for part in module.modules():
        for hook in [*part._forward_hooks.values(), *part._forward_pre_hooks.values()]:
            owner = getattr(hook, "__module__", "") or type(hook).__module__
            if not owner.startswith("torch."):
                return True
    return False


def output_of(output: Any) -> Tensor:
    """Return the network's output to probe: its first tensor with a gradient, scalars last."""
    tensors = [tensor for tensor in tensors_in(output) if tensor.grad_fn is not None]
    if not tensors:
        raise ReplayError(_("the output does not require a gradient"))
    return next((tensor for tensor in tensors if tensor.numel() > 1), tensors[0])
