"""Two runs side by side, as plain data: what differs in how they were set, went and measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from unvanish.i18n import _
from unvanish.records import (
    Diagnosis,
    LayerSignal,
    ModelRun,
    ParameterSignal,
    Trace,
    Training,
    Verdict,
)
from unvanish.shown import Shown

Pair = tuple[float | None, float | None]


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two runs."""

    id: str
    verdict: Verdict
    training: Training
    steps: int
    first_loss: float | None
    last_loss: float | None
    findings: tuple[str, ...]  # codes, the gravest first


@dataclass(frozen=True, slots=True)
class Row:
    """A layer or a parameter in both; a number is None where it is not in a run."""

    name: str
    level: Pair = (None, None)  # log10 of dL/d(output)
    gradient: Pair = (None, None)
    weight: Pair = (None, None)
    update: Pair = (None, None)

    @property
    def difference(self) -> float:
        """The greatest difference, in decades; of what only one run has, infinite."""
        pairs = (self.level, self.gradient, self.update)
        known = [pair for pair in pairs if pair != (None, None)]
        return max((_apart(*pair) for pair in known), default=0.0)


@dataclass(frozen=True, slots=True)
class ModelComparison:
    """One model in both runs, at the last step that both traced (else at the last of each)."""

    name: str
    steps: tuple[int | None, int | None]
    layers: tuple[Row, ...]
    parameters: tuple[Row, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Comparison(Shown):
    """Run A and run B. `settings` are what they were given differently: name, A's, B's."""

    a: Side
    b: Side
    settings: tuple[tuple[str, str, str], ...]
    models: tuple[ModelComparison, ...]

    def __repr__(self) -> str:
        return f"<Comparison of {self.a.id} ({self.a.verdict}) and {self.b.id} ({self.b.verdict})>"


def compare(a: Diagnosis, b: Diagnosis) -> Comparison:
    """Return what differs between two diagnosed runs. Models are matched by name, then by order."""
    return Comparison(_side(a), _side(b), _settings(a, b), tuple(map(_model, *_matched(a, b))))


def _side(diagnosis: Diagnosis) -> Side:
    steps = max((model.steps for model in diagnosis.run.models), key=len, default=())
    losses = [step.loss for step in steps]
    return Side(
        id=diagnosis.run.id,
        verdict=diagnosis.verdict,
        training=diagnosis.training,
        steps=max((step.step + 1 for step in steps), default=0),
        first_loss=losses[0] if losses else None,
        last_loss=losses[-1] if losses else None,
        findings=tuple(finding.code for finding in diagnosis.findings),
    )


def _settings(a: Diagnosis, b: Diagnosis) -> tuple[tuple[str, str, str], ...]:
    pairs = zip(_given(a), _given(b), strict=True)
    return tuple((name, one, other) for (name, one), (_same, other) in pairs if one != other)


def _given(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    run = diagnosis.run
    optimizer = next((model.optimizer for model in run.models if model.optimizer), None)
    return [
        ("command", " ".join(run.command)),
        ("directory", run.directory),
        ("device", run.environment.device),
        ("torch", run.environment.torch),
        ("python", run.environment.python),
        ("unvanish", run.tool_version),
        ("optimizer", optimizer.name if optimizer else ""),
        ("lr", ", ".join(f"{rate:g}" for rate in optimizer.lr) if optimizer else ""),
        ("weight decay", f"{optimizer.weight_decay}" if optimizer else ""),
        ("momentum", f"{optimizer.momentum}" if optimizer else ""),
        ("model", " + ".join(model.type for model in run.models)),
    ]


def setting_label(name: str) -> str:
    """Return what a setting of `Comparison.settings` is called in the chosen language."""
    known = {
        "command": _("command"),
        "directory": _("directory"),
        "device": _("device"),
        "optimizer": _("optimizer"),
        "lr": _("learning rate"),
        "weight decay": _("weight decay"),
        "momentum": _("momentum"),
        "model": _("model"),
    }
    return known.get(name, name)


def _matched(
    a: Diagnosis, b: Diagnosis
) -> tuple[Sequence[ModelRun | None], Sequence[ModelRun | None]]:
    rest = {model.name: model for model in b.run.models}
    unmatched = [model for model in a.run.models if model.name not in rest]
    pairs: list[tuple[ModelRun | None, ModelRun | None]] = [
        (model, rest.pop(model.name)) for model in a.run.models if model.name in rest
    ]
    others = [*rest.values()]
    for position in range(max(len(unmatched), len(others))):
        one = unmatched[position] if position < len(unmatched) else None
        other = others[position] if position < len(others) else None
        pairs.append((one, other))
    return [one for one, _other in pairs], [other for _one, other in pairs]


def _model(a: ModelRun | None, b: ModelRun | None) -> ModelComparison:
    one, other = _traces(a, b)
    named = a or b
    return ModelComparison(
        name=named.name if named is not None else "",
        steps=(one.step if one else None, other.step if other else None),
        layers=_layers(one, other),
        parameters=_parameters(one, other),
    )


def _traces(a: ModelRun | None, b: ModelRun | None) -> tuple[Trace | None, Trace | None]:
    of_a = {trace.step: trace for trace in (a.traces if a else ())}
    of_b = {trace.step: trace for trace in (b.traces if b else ())}
    common = max(of_a.keys() & of_b.keys(), default=None)
    if common is not None:
        return of_a[common], of_b[common]
    return (
        of_a[max(of_a)] if of_a else None,
        of_b[max(of_b)] if of_b else None,
    )


def _layers(a: Trace | None, b: Trace | None) -> tuple[Row, ...]:
    def rows(trace: Trace | None) -> dict[str, LayerSignal]:
        layers = trace.layers if trace else ()
        return {
            f"{row.module}#{row.call}" + (f" {row.op}" if row.op else ""): row for row in layers
        }

    of_a, of_b = rows(a), rows(b)
    return tuple(
        Row(
            name=name.removesuffix("#0"),
            level=_pair(of_a.get(name), of_b.get(name), lambda row: row.level_log10),
            gradient=_pair(of_a.get(name), of_b.get(name), lambda row: row.grad_log10),
            weight=_pair(of_a.get(name), of_b.get(name), lambda row: row.weight_log10),
            update=_pair(of_a.get(name), of_b.get(name), lambda row: row.update_ratio_log10),
        )
        for name in dict.fromkeys([*of_a, *of_b])
    )


def _parameters(a: Trace | None, b: Trace | None) -> tuple[Row, ...]:
    def rows(trace: Trace | None) -> dict[str, ParameterSignal]:
        return {signal.name: signal for signal in (trace.parameters if trace else ())}

    of_a, of_b = rows(a), rows(b)
    return tuple(
        Row(
            name=name,
            gradient=_pair(of_a.get(name), of_b.get(name), lambda row: row.grad_log10),
            weight=_pair(of_a.get(name), of_b.get(name), lambda row: row.weight_log10),
            update=_pair(of_a.get(name), of_b.get(name), lambda row: row.update_ratio_log10),
        )
        for name in dict.fromkeys([*of_a, *of_b])
    )


T = TypeVar("T")


def _pair(a: T | None, b: T | None, read: Callable[[T], float | None]) -> Pair:
    return None if a is None else read(a), None if b is None else read(b)


def _apart(a: float | None, b: float | None) -> float:
    if a is None or b is None:
        return math.inf
    if a == b or (math.isnan(a) and math.isnan(b)):
        return 0.0
    return abs(a - b) if math.isfinite(a) and math.isfinite(b) else math.inf
