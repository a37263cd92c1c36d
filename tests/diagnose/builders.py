"""Traces and runs made by hand: each layer given by its gain, levels following from them.

net = Net().linear("0").sigmoid("1").linear("2")       # in forward order
trace = net.trace(step=0)                               # telescopes exactly
run = a_run([trace], losses=[2.3] * 50)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from unvanish.diagnose import diagnose
from unvanish.diagnose.config import Config
from unvanish.diagnose.view import View
from unvanish.records import (
    Diagnosis,
    Environment,
    Factor,
    Finding,
    GradientState,
    LayerSignal,
    MainPath,
    ModelRun,
    OptimizerFacts,
    ParameterFacts,
    PathEdge,
    Recurrence,
    Run,
    StepRecord,
    TimeStep,
    Trace,
)

SGD = OptimizerFacts("SGD", (0.1,), rescales=False, momentum=0.0)
ADAM = OptimizerFacts("Adam", (1e-3,), rescales=True, eps=1e-8)
RELU = 0.5 * math.log10(0.5)  # reference slope of a ReLU, in decades


@dataclass(frozen=True)
class Op:
    """One op on the main path, in forward order."""

    module: str | None
    op: str
    factor: Factor
    gain: float
    type: str = "Module"
    merge: float = 0.0
    row: Mapping[str, Any] = field(default_factory=dict)
    functional: bool = False


class Net:
    """A chain of ops in forward order; the first one is the source."""

    def __init__(self, ops: Sequence[Op] = ()) -> None:
        self.ops = list(ops)

    def add(self, module: str | None, op: str, factor: Factor, gain: float, **more: Any) -> Net:
        self.ops.append(Op(module, op, factor, gain, **more))
        return self

    def linear(self, module: str, gain: float = 1.0, **row: Any) -> Net:
        log = -math.inf if gain == 0 else math.log10(gain)
        return self.add(module, "AddmmBackward0", "weight", log, type="Linear", row=row)

    def sigmoid(self, module: str, gain: float = 0.245, **row: Any) -> Net:
        shares = {"units": 64, "off_share": 0.0, "saturated_share": 0.0, "dead_share": 0.0}
        return self._activation(module, "Sigmoid", gain, {**shares, **row})

    def tanh(self, module: str, gain: float = 0.9, **row: Any) -> Net:
        shares = {"units": 64, "off_share": 0.0, "saturated_share": 0.0, "dead_share": 0.0}
        return self._activation(module, "Tanh", gain, {**shares, **row})

    def relu(self, module: str, gain: float = math.sqrt(0.5), **row: Any) -> Net:
        shares = {"units": 64, "off_share": 0.5, "dead_share": 0.0}
        return self._activation(module, "Relu", gain, {**shares, **row})

    def norm(self, module: str, gain: float = 1.0) -> Net:
        return self.add(
            module, "NativeBatchNormBackward0", "norm", math.log10(gain), type="BatchNorm1d"
        )

    def loss(self, *ops: str, gain: float = 0.1) -> Net:
        """Close the net; `ops` are those of the loss, the outermost first."""
        for op in reversed(ops or ("NllLossBackward0", "LogSoftmaxBackward0")):
            self.add(None, op, "loss", math.log10(gain) if op == (ops or ("Nll",))[0] else 0.0)
        return self

    def _activation(self, module: str, kind: str, gain: float, row: dict[str, Any]) -> Net:
        log = -math.inf if gain == 0 else math.log10(gain)
        row = {"activation": kind.lower(), **row}
        return self.add(module, f"{kind}Backward0", "slope", log, type=kind, row=row)

    def path(self, offset: float = 0.0) -> MainPath:
        """The main path, from the loss (level `offset`) down to the source."""
        level, edges, owed = offset, [], 0.0
        for op in reversed(self.ops[1:]):
            gain = math.nan if level == -math.inf else op.gain
            reference = 0.0
            if op.op.startswith("Relu"):
                reference, owed = RELU, owed - RELU
            elif op.factor == "weight":
                reference, owed = owed, 0.0
            shown = op.factor in ("loss", "pool", "scale", "merge")
            edges.append(
                PathEdge(
                    op=op.op,
                    module=op.module,
                    call=0,
                    factor=op.factor,
                    gain_log10=gain,
                    merge_log10=op.merge,
                    level_log10=level,
                    blame_log10=0.0 if shown else gain - reference,
                )
            )
            level += op.gain + op.merge
        first = self.ops[0]
        return MainPath(first.op, first.module, 0, level, offset, tuple(edges))

    def trace(self, step: int = 0, offset: float = 0.0, **more: Any) -> Trace:
        """The trace; `offset` is the level of the loss, as scaling the loss would shift it."""
        path = self.path(offset)
        levels = {
            id(op): edge.level_log10 for op, edge in zip(self.ops[:0:-1], path.edges, strict=True)
        }
        rows = []
        for op in self.ops:
            if op.factor == "loss" or op.module is None:
                continue
            level = levels.get(id(op), path.source_level_log10)
            row = dict(op.row)
            if level == -math.inf:  # no gradient arrives: nothing is known of slopes
                row = {key: row[key] for key in row if key not in _SLOPES}
            rows.append(
                LayerSignal(
                    module=op.module,
                    type=op.op.removesuffix("Backward0").lower() if op.functional else op.type,
                    call=0,
                    op=op.op if op.functional else None,
                    level_log10=level,
                    gain_log10=op.gain,
                    on_main_path=True,
                    **row,
                )
            )
        output = next(
            (edge.level_log10 for edge in path.edges if edge.factor != "loss"),
            path.source_level_log10,
        )
        values = {"loss": 2.3, "batch_size": 64, "output_level_log10": output, **more}
        return Trace(step=step, layers=tuple(rows), main_path=path, **values)

    def renamed(self, prefix: str) -> Net:
        """The same net with other module names."""
        return Net(
            [
                replace(op, module=None if op.module is None else f"{prefix}{op.module}")
                for op in self.ops
            ]
        )


_SLOPES = ("off_share", "saturated_share", "dead_share", "slope_rms", "units", "activation")


def stack(depth: int, activation: str, weight: float, **activation_row: Any) -> Net:
    """`depth` blocks of linear and activation, a linear head, cross-entropy."""
    net = Net().linear("0", weight)
    for i in range(depth):
        getattr(net, activation)(f"{2 * i + 1}", **activation_row)
        net.linear(f"{2 * i + 2}", weight)
    return net.loss()


def over_time(per_step: float, steps: int, module: str = "rnn", last: float = -1.0) -> Recurrence:
    """A recurrent weight whose level changes by `per_step` decades for each step back."""
    levels = tuple(TimeStep(t, last + per_step * (steps - 1 - t)) for t in range(steps))
    return Recurrence(module, f"{module}.weight_hh_l0", levels)


def a_parameter(name: str, gradient: GradientState = "some", **more: Any) -> ParameterFacts:
    module = name.rpartition(".")[0]
    values: dict[str, Any] = {
        "name": name,
        "module": module,
        "type": "Linear",
        "numel": 64,
        "requires_grad": True,
        "registered": True,
        "in_optimizer": True,
        "called": True,
        "gradient": gradient,
    }
    return ParameterFacts(**{**values, **more})


def falling(count: int = 60) -> list[float]:
    return [2.3 * 0.95**i + 0.02 * (-1) ** i for i in range(count)]


def resting(count: int = 60) -> list[float]:
    """Fallen to a third of the start, and no further."""
    return [0.7 + 1.6 * 0.75**i + 0.02 * (-1) ** i for i in range(count)]


def stuck(count: int = 60) -> list[float]:
    return [2.3 + 0.02 * (-1) ** i + 0.001 * (i % 7) for i in range(count)]


def a_model(
    traces: Sequence[Trace],
    losses: Sequence[float] = (),
    optimizer: OptimizerFacts | None = SGD,
    parameters: Sequence[ParameterFacts] = (),
    **more: Any,
) -> ModelRun:
    steps = tuple(StepRecord(i, loss) for i, loss in enumerate(losses))
    return ModelRun(
        **{
            "name": "model",
            "type": "Sequential",
            "traces": tuple(traces),
            "steps": steps,
            "optimizer": optimizer,
            "parameters": tuple(parameters),
            **more,
        }
    )


def a_run(*models: ModelRun) -> Run:
    return Run(
        id="1",
        kind="run",
        created="2026-01-01T00:00:00Z",
        command=("train.py",),
        directory=".",
        tool_version="0",
        environment=Environment("3.11", "2.13.0", "linux", "cpu"),
        models=models,
    )


def judge(
    traces: Sequence[Trace], losses: Sequence[float] = (), config: Config | None = None, **more: Any
) -> Diagnosis:
    """Diagnose one model; no rule may fail on the way."""
    diagnosis = diagnose(a_run(a_model(traces, losses, **more)), config)
    assert not diagnosis.run.notes
    return diagnosis


def a_view(traces: Sequence[Trace], losses: Sequence[float] = (), **more: Any) -> View:
    return View(a_model(traces, losses, **more), Config().limit)


def codes(diagnosis: Diagnosis, least: str = "warning") -> list[str]:
    """The codes of the findings that are at least as grave as `least`."""
    grave = {"error": ("error",), "warning": ("error", "warning")}.get(least)
    return [each.code for each in diagnosis.findings if grave is None or each.severity in grave]


def finding(diagnosis: Diagnosis, code: str) -> Finding:
    return next(each for each in diagnosis.findings if each.code == code)


def evidence(found: Finding, name: str) -> float | str:
    return next(each.value for each in found.evidence if each.name == name)
