"""How the tests trace: the user's side of the tracer's interface, in a few lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from unvanish.measure import BackwardTracer, CallLog, PendingTrace, TraceOptions
from unvanish.records import MainPath, Trace

LossFunction = Callable[[Any, Any], Tensor]


def pending(
    model: Any, batch: Any, loss_fn: LossFunction, *, replay: bool = False, **options: Any
) -> PendingTrace:
    log = CallLog()
    log.install()
    log.active = True
    try:
        loss = loss_fn(model, batch)
        tracer = BackwardTracer([loss], log, options=TraceOptions(**options))
        with tracer:
            torch.autograd.backward([loss])
        result = tracer.pending(step=0)
        if replay:
            result.replay()
        return result
    finally:
        log.remove()


def trace(
    model: Any, batch: Any, loss_fn: LossFunction, *, replay: bool = False, **options: Any
) -> Trace:
    return pending(model, batch, loss_fn, replay=replay, **options).resolve()


def true_output_levels(
    model: nn.Module, batch: Any, loss_fn: LossFunction
) -> dict[tuple[str, int], float]:
    """Return log10 ||dL/d(output)|| by (path, call) of leaf modules, from plain autograd.

    Outputs that an in-place op overwrote are left out: autograd can no longer be asked for them.
    """
    outputs: list[tuple[tuple[str, int], Tensor, int]] = []
    counts: dict[str, int] = {}

    def keep(path: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, out: Any) -> None:
            number = counts[path] = counts.get(path, -1) + 1
            if isinstance(out, Tensor) and out.grad_fn is not None:
                outputs.append(((path, number), out, out._version))

        return hook

    handles = [
        part.register_forward_hook(keep(path))
        for path, part in model.named_modules()
        if not list(part.children())
    ]
    try:
        loss = loss_fn(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    intact = [(key, out) for key, out, version in outputs if out._version == version]
    gradients = torch.autograd.grad(loss, [out for _, out in intact], allow_unused=True)
    return {
        key: float(torch.log10(torch.linalg.vector_norm(gradient)))
        for (key, _out), gradient in zip(intact, gradients, strict=True)
        if gradient is not None
    }


def path_sum(path: MainPath) -> float:
    return sum(edge.gain_log10 + edge.merge_log10 for edge in path.edges)
