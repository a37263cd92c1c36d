"""A small loop around real networks: traces at steps 0, 1, 2, 4, 8, … and the record of the run."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from unvanish.measure import BackwardTracer, CallLog, ParameterUpdate, TraceOptions
from unvanish.records import (
    Environment,
    GradientState,
    ModelRun,
    OptimizerFacts,
    ParameterFacts,
    Run,
    StepRecord,
    Trace,
)

Batch = tuple[Tensor, Tensor]
Loss = Callable[[nn.Module, Batch], Tensor]
ADAPTIVE = ("Adam", "AdamW", "RMSprop")


def sampled(step: int) -> bool:
    return step & (step - 1) == 0


def watch(
    model: nn.Module,
    batch: Callable[[int], Batch],
    loss_fn: Loss,
    optimizer: torch.optim.Optimizer | None,
    steps: int,
) -> Run:
    """Train `model` for `steps` steps and return what was recorded."""
    log = CallLog()
    log.install()
    traces: list[Trace] = []
    records: list[StepRecord] = []
    called: set[str] = set()
    try:
        for step in range(steps):
            log.clear()
            log.active = sampled(step)
            loss = loss_fn(model, batch(step))
            log.active = False
            if optimizer is not None:
                optimizer.zero_grad()
            if sampled(step) and loss.requires_grad:
                traces.append(_traced(model, loss, log, optimizer, step, called))
            else:
                loss.backward()
                if optimizer is not None:
                    optimizer.step()
            records.append(StepRecord(step, loss.item(), sampled(step)))
    finally:
        log.remove()
    return a_run(model, optimizer, traces, records, called)


def _traced(
    model: nn.Module,
    loss: Tensor,
    log: CallLog,
    optimizer: torch.optim.Optimizer | None,
    step: int,
    called: set[str],
) -> Trace:
    tracer = BackwardTracer([loss], log, options=TraceOptions(keep_ops=False))
    with tracer:
        torch.autograd.backward([loss])
    pending = tracer.pending(step=step)
    pending.replay()
    modules = set(pending.called_modules())
    called |= {name for name, module in model.named_modules() if module in modules}
    updates: dict[int, ParameterUpdate] = {}
    if optimizer is not None:
        before = {id(p): p.detach().clone() for p in model.parameters()}
        optimizer.step()
        for parameter in model.parameters():
            old = before[id(parameter)].double()
            moved, size = (parameter.detach().double() - old).norm(), old.norm()
            ratio = math.log10(moved / size) if moved > 0 and size > 0 else -math.inf
            updates[id(parameter)] = ParameterUpdate(ratio, optimizer.param_groups[0]["lr"], 0)
    return pending.resolve(updates)


def a_run(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    traces: list[Trace],
    records: list[StepRecord],
    called: set[str],
) -> Run:
    held = None
    if optimizer is not None:
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    best: dict[str, GradientState] = {}
    for trace in traces:
        for signal in trace.parameters:
            best[signal.name] = max(
                best.get(signal.name, "none"), _state(signal.grad_log10), key=_ORDER.index
            )
    facts = tuple(
        ParameterFacts(
            name=name,
            module=name.rpartition(".")[0],
            type=type(model.get_submodule(name.rpartition(".")[0])).__name__,
            numel=parameter.numel(),
            requires_grad=parameter.requires_grad,
            registered=True,
            in_optimizer=None if held is None else id(parameter) in held,
            called=name.rpartition(".")[0] in called,
            gradient=best.get(name, "none"),
        )
        for name, parameter in model.named_parameters()
    )
    settings = None
    if optimizer is not None:
        name = type(optimizer).__name__
        lr = tuple(group["lr"] for group in optimizer.param_groups)
        settings = OptimizerFacts(
            name,
            lr,
            name in ADAPTIVE,
            optimizer.defaults.get("eps"),
            momentum=optimizer.defaults.get("momentum"),
        )
    return Run(
        id="0",
        kind="run",
        created="2026-01-01T00:00:00Z",
        command=("train.py",),
        directory=".",
        tool_version="0",
        environment=Environment("3.11", torch.__version__, "linux", "cpu"),
        models=(
            ModelRun("model", type(model).__name__, tuple(traces), tuple(records), settings, facts),
        ),
    )


_ORDER: tuple[GradientState, ...] = ("none", "zero", "nonfinite", "some")


def _state(level: float | None) -> GradientState:
    if level is None:
        return "none"
    if math.isnan(level):
        return "nonfinite"
    return "zero" if level == -math.inf else "some"
