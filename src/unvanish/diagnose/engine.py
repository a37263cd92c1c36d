"""The engine: run the rules on each model, hang symptoms under their cause, name the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from unvanish.diagnose.catalogue import problems, rules
from unvanish.diagnose.config import Config
from unvanish.diagnose.rule import Rule
from unvanish.diagnose.view import View
from unvanish.errors import NoSignalError
from unvanish.i18n import _
from unvanish.records import (
    Diagnosis,
    Finding,
    ModelDiagnosis,
    ModelRun,
    Run,
    Severity,
    Training,
    Verdict,
)

FailOn = Literal["error", "warning", "never"]

_RANK: dict[Severity, int] = {"error": 0, "warning": 1, "info": 2}
# Of findings equally grave the one nearer to the root of the trouble comes first.
_ORDER: tuple[Verdict, ...] = (
    "cut-graph",
    "non-finite",
    "dead-units",
    "loss-head",
    "exploding",
    "vanishing",
    "forward-collapse",
    "update-size",
    "healthy",
)


def diagnose(run: Run, config: Config | None = None) -> Diagnosis:
    """Return the verdict on `run`, under `config` (None: the defaults).

    Raises NoSignalError if no backward pass of the run was traced.
    """
    config = config or Config()
    if not any(model.traces for model in run.models):
        raise NoSignalError(
            _("no backward pass was traced in this run"),
            _("Run at least one step that calls loss.backward()."),
        )
    notes = list(problems())
    models = tuple(_model(model, config, notes) for model in run.models)
    gravest = min(models, key=lambda model: _gravity(model.findings))
    findings = sorted((each for model in models for each in model.findings), key=_key)
    return Diagnosis(
        run=replace(run, notes=run.notes + tuple(notes)) if notes else run,
        verdict=gravest.verdict,
        training=gravest.training,
        findings=tuple(findings),
        models=models,
    )


def failing(diagnosis: Diagnosis, fail_on: FailOn) -> bool:
    """Whether `diagnosis` holds a finding at the level `fail_on` or above."""
    if fail_on == "never":
        return False
    return any(_RANK[each.severity] <= _RANK[fail_on] for each in diagnosis.findings)


def _model(model: ModelRun, config: Config, notes: list[str]) -> ModelDiagnosis:
    view = View(model, config.limit)
    chosen = [rule for rule in rules() if config.runs(rule)]
    found = [each for rule in chosen if not rule.when_healthy for each in _check(rule, view, notes)]
    found = arrange(found)
    verdict: Verdict = "healthy"
    if found and found[0].severity != "info":
        verdict = found[0].verdict
    else:
        found += [
            each for rule in chosen if rule.when_healthy for each in _check(rule, view, notes)
        ]
    training: Training = view.training.state
    return ModelDiagnosis(model.name, verdict, training, tuple(found))


def _check(rule: Rule, view: View, notes: list[str]) -> Sequence[Finding]:
    try:
        return rule.check(view)
    except Exception as error:  # one rule's failure must not cost the user the other verdicts
        notes.append(
            _("the rule {code} failed on {model} ({error}); please report it").format(
                code=rule.code, model=view.model.name, error=f"{type(error).__name__}: {error}"
            )
        )
        return ()


def arrange(findings: Sequence[Finding]) -> list[Finding]:
    """Hang findings under those that explain them, and put the gravest first.

    A finding's `explains` comes in as a claim (any codes) and goes out as what it leads: the codes
    that fired, directly or through one that it leads. Each finding has one leader at most, and a
    leader is as grave as the gravest it leads.
    """
    findings = sorted(findings, key=_key)
    leaders = _leaders(findings)
    arranged = []
    for i, each in enumerate(findings):
        led = [other for j, other in enumerate(findings) if j != i and leaders[j] == i]
        gravest = min((each, *led), key=lambda other: _RANK[other.severity])
        codes = tuple(dict.fromkeys(other.code for other in led))
        arranged.append((leaders[i] != i, replace(each, explains=codes, severity=gravest.severity)))
    arranged.sort(
        key=lambda item: (_RANK[item[1].severity], item[0], _ORDER.index(item[1].verdict))
    )
    return [each for _follows, each in arranged]


def _disproved(cause: Finding, effect: Finding) -> bool:
    """Whether each claims to explain the other, and the effect was seen first: then it leads."""
    if cause.step is None or effect.step is None:
        return False
    return cause.code in effect.explains and cause.step > effect.step


def _leaders(findings: Sequence[Finding]) -> list[int]:
    """The index of the finding that leads each: its own, if no other explains it."""
    parent: dict[int, int] = {}

    def top(index: int) -> int:
        while index in parent:
            index = parent[index]
        return index

    for i, each in enumerate(findings):
        for j, other in enumerate(findings):
            claimed = other.code in each.explains and not _disproved(each, other)
            if claimed and j not in parent and top(i) != j:
                parent[j] = i
    return [top(i) for i in range(len(findings))]


def _key(each: Finding) -> tuple[int, bool, int]:
    return _RANK[each.severity], not each.explains, _ORDER.index(each.verdict)


def _gravity(findings: Sequence[Finding]) -> tuple[int, bool, int]:
    return _key(findings[0]) if findings else (3, True, 0)
