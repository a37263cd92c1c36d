"""`unvanish.monitor(model, optimizer)`: attaching a monitor to a model, once."""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from unvanish.errors import UsageError
from unvanish.i18n import _
from unvanish.measure.names import unwrapped
from unvanish.monitor.handle import Monitor
from unvanish.monitor.options import Level, MonitorOptions
from unvanish.monitor.ranks import place
from unvanish.records import Finding, Incident
from unvanish.store import RETENTION

_attached: weakref.WeakSet[Monitor] = weakref.WeakSet()


def attach(
    model: nn.Module,
    optimizer: Optimizer | Iterable[Optimizer],
    *,
    every: int | None = None,
    level: Level = "standard",
    overhead: float | None = 0.01,
    sinks: Iterable[Any] = (),
    on_alarm: Callable[[Finding], object] | None = None,
    on_incident: Callable[[Incident], object] | None = None,
    at: Collection[int] = (),
    save: bool = True,
    retention: int | None = RETENTION,
    directory: Path | str | None = None,
    timeout: float = 60.0,
) -> Monitor:
    """Watch `model` while `optimizer` (or several) trains it, and change nothing.

        with unvanish.monitor(model, optimizer) as watched:
            train()
        watched.diagnosis()

    It watches from here on, until `close()`, the end of the `with` block, or the end of the
    program; the run is kept under .unvanish/. Attaching again to the same model returns the monitor
    that is there, with the new optimisers added.

    Args:
        model: the module that is trained; a wrapper (DDP, torch.compile) stands for what is inside.
        optimizer: one or several; trainers' wrappers stand for what is inside.
        every: norms of all gradients and weights at each multiple of it, beside the sampled steps.
        level: what a sampled step measures. "cheap": of each parameter the level of its gradient
            and weight, counts of zero, subnormal and non-finite entries, the true update ratio.
            "standard": also the trace of the backward pass, layer by layer. "full": also a probe,
            and fused layers opened, on a replay of the batch.
        overhead: share of the time that sampled steps may take; it is measured. None: no limit, and
            every multiple of `every` is sampled.
        sinks: trackers' own objects (a TensorBoard writer, a W&B or MLflow run, a Path of JSON
            lines, … see docs/monitor.md), or objects with write, alarm and close.
        on_alarm: called with each alarm. To end the training from it, raise SystemExit.
        on_incident: called with each incident (a spike, a step that is not finite), likewise.
        at: steps that are sampled in any case.
        save: keep the run in the store.
        retention: samples of each quantity that are kept at full density, the newest ones; older
            ones are thinned out, incidents are not. None: all are kept.
        directory: where `.unvanish` lies; None: the current directory.
        timeout: seconds that a rank of a distributed training waits for another one at a sample,
            before it goes on alone.

    Raises:
        UsageError: an argument that cannot be, or a faulty [tool.unvanish].
    """
    root = _module(model)
    given = _optimizers(optimizer)
    options = MonitorOptions(
        every=every,
        level=level,
        overhead=overhead,
        sinks=tuple(sinks),
        on_alarm=on_alarm,
        on_incident=on_incident,
        at=frozenset(at),
        save=save,
        retention=retention,
        directory=Path.cwd() if directory is None else Path(directory),
        timeout=timeout,
    )
    return watching(root, given, options)


def watching(root: nn.Module, given: Sequence[Optimizer], options: MonitorOptions) -> Monitor:
    """Return the monitor of `root`, a new one if it has none."""
    for known in [*_attached]:
        if known.watches(root):
            known.adopt(given)
            return known
    monitor = Monitor(root, given, options, place().rank)
    _attached.add(monitor)
    return monitor


def _module(model: Any) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise UsageError(
            _("{type} is not a module").format(type=type(model).__name__),
            _("Give the torch.nn.Module that is trained: unvanish.monitor(model, optimizer)."),
        )
    return unwrapped(model)


def _optimizers(given: Any) -> list[Optimizer]:
    several = [given] if isinstance(given, Optimizer) or not _is_iterable(given) else [*given]
    found = [_inner(one) for one in several]
    if not found or not all(isinstance(one, Optimizer) for one in found):
        raise UsageError(
            _("{type} is not an optimiser").format(type=type(given).__name__),
            _("Give a torch.optim.Optimizer, or a list of them."),
        )
    return found


def _inner(optimizer: Any) -> Any:
    """Return torch's optimiser inside a trainer's wrapper: that is the one whose step is seen."""
    for _depth in range(4):
        inner = getattr(optimizer, "optimizer", None)
        if not isinstance(inner, Optimizer):
            return optimizer
        optimizer = inner
    return optimizer


def _is_iterable(value: Any) -> bool:
    return isinstance(value, Iterable)


_process = os.getpid()


def _at_exit() -> None:
    """Save what is still watched when the program ends."""
    if os.getpid() != _process:
        return
    error = getattr(sys, "last_value", None)  # what ended the program, if something did
    for monitor in [*_attached]:
        monitor.close(error)


atexit.register(_at_exit)
