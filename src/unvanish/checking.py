"""`unvanish.check`: one batch, one backward, the verdict; and nothing is changed by it."""

from __future__ import annotations

import datetime
import inspect
import platform
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unvanish import diagnose, store
from unvanish._version import __version__
from unvanish.diagnose.config import Config
from unvanish.errors import UnvanishError, UsageError, UserCodeError
from unvanish.i18n import _
from unvanish.measure import BackwardTracer, CallLog, NameBook, TraceOptions
from unvanish.measure.derivatives import noting
from unvanish.measure.forward import tensors_in
from unvanish.measure.nonfinite import nonfinite_kind
from unvanish.measure.preserve import preserved
from unvanish.measure.spectrum import CHEAP, SAMPLED
from unvanish.monitor.lane import Lane
from unvanish.monitor.naming import script_name
from unvanish.monitor.optimizers import facts_of, parameters_of
from unvanish.records import Diagnosis, Environment, Run, StepRecord, Trace

LossFunction = Callable[[Any, Any], Tensor]


def check(
    model: nn.Module,
    batch: Any,
    loss_fn: LossFunction,
    optimizer: Optimizer | None = None,
    *,
    probes: int = 4,
    spectrum: bool | None = None,
    config: Config | None = None,
) -> Diagnosis:
    """Diagnose the backward signal of `model` on one batch.

    `loss_fn(model, batch)` returns the loss, a tensor of one number; `batch` is whatever it takes.
    With `optimizer` the verdict knows whether updates depend on the gradient's scale. `probes` is
    the number of random cotangents sent back from the network's output on a replay (0: none).
    `spectrum`: the singular values of the network's Jacobian, on another replay; where there are
    many, their distribution from some 250 products with vectors. None: only where there are few.

    Parameters, buffers, gradients, random states, flags, hooks and the grad mode are as before
    when this returns or raises; the optimiser does not step.

    Raises UsageError if an argument cannot be used (the loss is not one number, the batch holds
    NaN, no parameter requires a gradient), UserCodeError if the model or the loss function raises,
    NoSignalError if the loss does not depend on anything that requires a gradient.
    """
    _require_usable(model, batch, loss_fn, optimizer)
    started = time.monotonic()
    held = None if optimizer is None else frozenset(id(p) for _g, _r, p in parameters_of(optimizer))
    lane = Lane([weakref.ref(optimizer)] if optimizer is not None else [])
    lane.optimizer = None if optimizer is None else facts_of(optimizer)
    names = NameBook(script_name)
    most = {None: CHEAP, True: SAMPLED, False: 0}[spectrum]
    options = TraceOptions(probes=probes, spectrum=most)
    with preserved(model, *_other_modules(loss_fn, model)), _recording() as log:
        trace = _traced(model, batch, loss_fn, lane, log, names, held, options)
    step = StepRecord(step=0, loss=trace.loss, sampled=True)
    run = Run(
        id=store.new_id(),
        kind="check",
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=(),
        directory="",
        tool_version=__version__,
        environment=Environment(
            python=platform.python_version(),
            torch=str(torch.__version__),
            platform=platform.platform(),
            device=str(next(model.parameters()).device),
        ),
        models=(replace(lane.model_run(), steps=(step,)),),
        seconds=time.monotonic() - started,
    )
    return diagnose.diagnose(run, config)


def returned(made: Any, name: str) -> tuple[Any, ...]:
    """Return `made`, the arguments of `check` that the user's function `name` returned.

    Raises UsageError unless it is (model, batch, loss_fn), or that with an optimiser.
    """
    if not isinstance(made, tuple) or len(made) not in (3, 4):
        raise UsageError(
            _("{target} returned {kind}, not (model, batch, loss_fn)").format(
                target=name, kind=type(made).__name__
            ),
            _("Return a tuple of three, or of four with the optimiser."),
        )
    return made


def _traced(
    model: nn.Module,
    batch: Any,
    loss_fn: LossFunction,
    lane: Lane,
    log: CallLog,
    names: NameBook,
    optimised: frozenset[int] | None,
    options: TraceOptions,
) -> Trace:
    with torch.inference_mode(False), torch.enable_grad():
        log.active = True
        with noting(log.derivatives):
            loss = _loss(model, batch, loss_fn)
        tracer = BackwardTracer([loss], log, names, options)
        tracer.take_derivatives()
        with tracer:
            _backward(model, loss, tracer)
        pending = tracer.pending(step=0)
        pending.replay()
    trace = pending.resolve()
    lane.see(pending, trace, names, lane.held(), optimised)
    return trace


def _loss(model: nn.Module, batch: Any, loss_fn: LossFunction) -> Tensor:
    try:
        loss = loss_fn(model, batch)
    except UnvanishError:
        raise
    except Exception as error:
        raise UserCodeError(
            _("the loss function failed: {error}").format(error=_told(error)),
            _("It is called as loss_fn(model, batch); the traceback above shows where it failed."),
        ) from error
    if not isinstance(loss, Tensor):
        raise UsageError(
            _("the loss function returned {kind}, not a tensor").format(kind=type(loss).__name__),
            _("Return the loss tensor itself, without item() or float()."),
        )
    if loss.numel() != 1:
        raise UsageError(
            _("the loss has shape {shape}, not one number").format(shape=tuple(loss.shape)),
            _("Reduce it: loss.mean() or loss.sum()."),
        )
    return loss


def _backward(model: nn.Module, loss: Tensor, tracer: BackwardTracer) -> None:
    """Run the backward without writing a `.grad`, where torch allows it."""
    leaves = tracer.leaves()
    try:
        if not any(op.kind == "CheckpointFunction" for op in tracer.measured.graph.ops):
            tracer.receive(
                torch.autograd.grad(loss, leaves, torch.ones_like(loss), allow_unused=True)
            )
            return
        # A reentrant checkpoint needs a backward into `.grad`; `preserved` puts the old ones back.
        for parameter in model.parameters():
            parameter.grad = None
        torch.autograd.backward([loss], [torch.ones_like(loss)])
    except Exception as error:
        raise UserCodeError(
            _("the backward failed: {error}").format(error=_told(error)),
            _("The same would happen in loss.backward(); the traceback above shows where."),
        ) from error


def _require_usable(model: Any, batch: Any, loss_fn: Any, optimizer: Any) -> None:
    if not isinstance(model, nn.Module):
        raise UsageError(
            _("the model is of type {kind}, not a torch.nn.Module").format(
                kind=type(model).__name__
            ),
            _("Call check(model, batch, loss_fn)."),
        )
    if not callable(loss_fn):
        raise UsageError(
            _("the loss function is of type {kind}, which cannot be called").format(
                kind=type(loss_fn).__name__
            ),
            _("Give a function loss_fn(model, batch) that returns the loss."),
        )
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        raise UsageError(
            _("the optimiser is of type {kind}, not a torch.optim.Optimizer").format(
                kind=type(optimizer).__name__
            ),
            _("Give the optimiser itself, or leave it out."),
        )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UsageError(
            _("the model has no parameter that requires a gradient"),
            _("Check that layers are registered (nn.ModuleList, not a list) and not all frozen."),
        )
    for number, tensor in enumerate(tensors_in(batch)):
        kind = nonfinite_kind(tensor) if tensor.is_floating_point() else None
        if kind is not None:
            bad = int((~torch.isfinite(tensor)).sum())
            raise UsageError(
                _("the batch holds {kind}: {bad} of {all} entries of its tensor {number}").format(
                    kind="NaN" if kind == "nan" else "inf",
                    bad=bad,
                    all=tensor.numel(),
                    number=number,
                ),
                _("Clean or drop these samples; every gradient would be NaN."),
            )


def _other_modules(loss_fn: LossFunction, model: nn.Module) -> list[nn.Module]:
    """Return the modules that the loss function reaches by name: a teacher, a loss with state."""
    function = getattr(loss_fn, "__func__", loss_fn)
    reached: list[Any] = [getattr(loss_fn, "__self__", None), loss_fn]
    if inspect.isfunction(function):
        variables = inspect.getclosurevars(function)
        reached += [*variables.nonlocals.values(), *variables.globals.values()]
    modules = [item for item in reached if isinstance(item, nn.Module) and item is not model]
    return list(dict.fromkeys(modules))


@contextmanager
def _recording() -> Iterator[CallLog]:
    log = CallLog()
    log.install()
    try:
        yield log
    finally:
        log.remove()


def _told(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
