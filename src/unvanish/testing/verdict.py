"""Whether a verdict on a case is right: the family, the factor, the layer, and how soon."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from unvanish.diagnose import diagnose
from unvanish.monitor.program import Outcome
from unvanish.monitor.schedule import Schedule, WatchOptions
from unvanish.monitor.session import Session
from unvanish.records import Diagnosis, Finding, Run, Severity, Training, Verdict
from unvanish.testing.experiment import Answer, Case, Experiment


@dataclass(frozen=True)
class Judgement:
    """What was said of one case, held against what is known of it."""

    case: str
    verdict: Verdict
    training: Training
    code: str | None  # of the leading finding, if one is above a remark
    accepted: tuple[Verdict, ...]
    right: bool
    factor: bool | None  # None: the case names none, or the verdict is wrong
    layer: bool | None
    named: bool | None  # the evidence that must be named
    severity: Severity | None  # of the leading finding, if there is one above a remark
    grave: bool | None  # that is as grave as training shows it to be; None: the case does not say
    alarm: bool  # a finding above a remark, where the only right verdict is healthy
    known_step: int | None  # the sampled step from which on the verdict is right
    in_time: bool | None  # it was known by the step, and not before it could be


def watched(experiment: Experiment, *, every: int = 100, probe: bool = True) -> Run:
    """Train `experiment` to its end under the ears of `unvanish run`, and return the record."""
    session = Session(
        WatchOptions(Schedule(every), probe),
        kind="watch",
        command=(),
        directory="",
        say=lambda line: None,
    )
    session.begin()
    try:
        experiment.train()
    finally:
        session.end()
    return session.run(Outcome("finished", 0))


def judge(case: Case, answer: Answer, run: Run) -> Judgement:
    """Hold the verdict on `run` against the answer, which is from `case.answer`."""
    diagnosis = diagnose(run)
    accepted, leading = answer.accepted, leading_finding(diagnosis)
    right = diagnosis.verdict in accepted and not _alarms(accepted, leading)
    factor = layer = named = None
    if right and leading is not None:
        if case.factors:
            factor = leading.factor in case.factors
        if case.layers:
            module = leading.where.module
            layer = module is not None and any(fnmatchcase(module, p) for p in case.layers)
        if case.names is not None:
            named = any(row.name == case.names for row in leading.evidence)
    known = _known_step(run, accepted)
    severity = leading.severity if leading else None
    return Judgement(
        case=case.name,
        verdict=diagnosis.verdict,
        training=diagnosis.training,
        code=leading.code if leading else None,
        accepted=accepted,
        right=right,
        factor=factor,
        layer=layer,
        named=named,
        severity=severity,
        grave=(severity or "info") in answer.severities if answer.severities else None,
        alarm=_alarms(accepted, leading),
        known_step=known,
        in_time=_in_time(case, known) if right else None,
    )


def leading_finding(diagnosis: Diagnosis) -> Finding | None:
    """The finding that leads, if one is above a remark."""
    return next((each for each in diagnosis.findings if each.severity != "info"), None)


def _alarms(accepted: Sequence[Verdict], leading: Finding | None) -> bool:
    return tuple(accepted) == ("healthy",) and leading is not None


def _known_step(run: Run, accepted: Sequence[Verdict]) -> int | None:
    """The sampled step from which on a verdict on what was seen until then is right."""
    known = None
    for step in sorted({trace.step for model in run.models for trace in model.traces}):
        if diagnose(_until(run, step)).verdict not in accepted:
            known = None
        elif known is None:
            known = step
    return known


def _until(run: Run, step: int) -> Run:
    """What was known right after `step`."""
    models = (
        replace(
            model,
            traces=tuple(trace for trace in model.traces if trace.step <= step),
            steps=tuple(record for record in model.steps if record.step <= step),
        )
        for model in run.models
    )
    return replace(run, models=tuple(model for model in models if model.traces))


def _in_time(case: Case, known: int | None) -> bool | None:
    if case.known_by is None and case.unknown_at is None:
        return None
    if known is None:
        return False
    early = case.unknown_at is not None and known <= case.unknown_at
    return not early and (case.known_by is None or known <= case.known_by)
