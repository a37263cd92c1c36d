"""What a report shows first: the gravest model, the step its verdict rests on, the one picture."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from unvanish import words
from unvanish.i18n import _
from unvanish.records import (
    Diagnosis,
    Finding,
    Incident,
    ModelDiagnosis,
    ModelRun,
    OptimizerFacts,
    Run,
    Trace,
    Verdict,
    Where,
)
from unvanish.report import layers, prediction
from unvanish.report.layers import Row

LONGEST_TITLE = 300  # characters
# The pictures that can show a verdict, the best first; a report falls back to the next.
PICTURES: dict[Verdict, tuple[str, ...]] = {
    "vanishing": ("waterfall", "levels"),
    "exploding": ("waterfall", "levels"),
    "dead-units": ("slopes", "waterfall"),
    "forward-collapse": ("forward", "waterfall"),
    "non-finite": ("loss", "waterfall"),
    "cut-graph": ("parameters", "levels"),
    "loss-head": ("waterfall", "loss"),
    "update-size": ("parameters", "loss"),
    "healthy": ("waterfall", "levels"),
}


@dataclass(frozen=True, slots=True)
class Focus:
    """One model with the trace that its verdict rests on (None: nothing was traced)."""

    run: ModelRun
    diagnosis: ModelDiagnosis
    trace: Trace | None
    incidents: tuple[Incident, ...] = ()  # while it ran
    alarms: tuple[Finding, ...] = ()

    @property
    def gravest(self) -> Finding | None:
        """The finding that the verdict comes from."""
        return self.diagnosis.findings[0] if self.diagnosis.findings else None

    @property
    def pictures(self) -> tuple[str, ...]:
        """Names of the pictures that show the verdict, the best first."""
        first = self.gravest
        if first is not None and first.factor == "recurrence":
            return ("recurrence", *PICTURES[self.diagnosis.verdict])
        return PICTURES[self.diagnosis.verdict]


def models(diagnosis: Diagnosis) -> list[Focus]:
    """Return one Focus for each model, that of the gravest finding first."""
    judged = {model.name: model for model in diagnosis.models}
    unjudged = (diagnosis.verdict, diagnosis.training)
    order = list(dict.fromkeys(finding.model for finding in diagnosis.findings))
    found = [
        Focus(
            run,
            verdict := judged.get(run.name, ModelDiagnosis(run.name, *unjudged, ())),
            trace_of(run, verdict.findings[0] if verdict.findings else None),
            tuple(one for one in diagnosis.run.incidents if one.model in ("", run.name)),
            tuple(one for one in diagnosis.run.alarms if one.model in ("", run.name)),
        )
        for run in diagnosis.run.models
    ]
    return sorted(
        found, key=lambda one: order.index(one.run.name) if one.run.name in order else len(order)
    )


def alone(trace: Trace) -> Focus:
    """Return a Focus on one pass of which no run is known."""
    run = ModelRun(name="", type="", traces=(trace,))
    return Focus(run, ModelDiagnosis("", "healthy", "too-short", ()), trace)


def trace_of(run: ModelRun, finding: Finding | None) -> Trace | None:
    """Return the trace at the step of `finding`; without one, the last that has layers."""
    if finding is not None and finding.step is not None:
        for trace in run.traces:
            if trace.step == finding.step and trace.layers:
                return trace
    return next((trace for trace in reversed(run.traces) if trace.layers), None)


def sentence(diagnosis: Diagnosis) -> str:
    """Return the verdict in one sentence: its name, and what the gravest finding says."""
    if not any(model.traces for model in diagnosis.run.models) and not diagnosis.findings:
        return _("Nothing was measured: no backward pass was sampled.")
    name = words.verdict_name(diagnosis.verdict)
    finding = told(diagnosis)
    if finding is None:
        return _("{verdict}.").format(verdict=name)
    title = _closed(title_of(finding))
    if len(diagnosis.run.models) > 1:
        model = words.printable(finding.model)
        return _("{verdict} ({model}): {title}").format(verdict=name, model=model, title=title)
    if diagnosis.verdict == "healthy":
        return title
    return _("{verdict}: {title}").format(verdict=name, title=title)


def severity(diagnosis: Diagnosis) -> str:
    """Return how grave the verdict is: "error", "warning" or "info"."""
    if diagnosis.findings:
        return diagnosis.findings[0].severity
    return "info" if diagnosis.verdict == "healthy" else "error"


def told(diagnosis: Diagnosis) -> Finding | None:
    """Return the finding that the verdict's sentence tells of."""
    return next((f for f in diagnosis.findings if f.verdict == diagnosis.verdict), None)


def _closed(text: str) -> str:
    """Return `text` with a full stop at its end."""
    return text if text.endswith((".", "。", "!", "?")) else _("{sentence}.").format(sentence=text)


def title_of(finding: Finding) -> str:
    """Return the finding's own sentence; a layer's name in it may be of any length."""
    return words.shorten(words.printable(finding.title), LONGEST_TITLE)


def training(focus: Focus) -> str:
    """Return what training does, with its numbers; and which finding explains it if it fails."""
    sentence = _what_training_does(focus)
    if focus.diagnosis.training not in ("stuck", "diverging"):
        return sentence
    cause = focus.gravest
    if cause is None or cause.severity == "info":
        return _("{sentence} No finding explains it.").format(sentence=sentence)
    return _("{sentence} {code} explains it.").format(sentence=sentence, code=cause.code)


def _what_training_does(focus: Focus) -> str:
    state = words.training_name(focus.diagnosis.training)
    steps = focus.run.steps
    if not steps:
        return _("Training: {state}.").format(state=state)
    if len(steps) == 1:
        return _("Training: {state} (one step, loss {loss}).").format(
            state=state, loss=words.loss(steps[0].loss)
        )
    return _("Training: {state} ({first} → {last} over {count} steps).").format(
        state=state,
        first=words.loss(steps[0].loss),
        last=words.loss(steps[-1].loss),
        count=len(steps),
    )


def optimizer(facts: OptimizerFacts) -> str:
    """Return an optimiser as "SGD, lr 0.01"."""
    rates = ", ".join(words.quantity(lr) for lr in dict.fromkeys(facts.lr))
    return _("{optimizer}, lr {rates}").format(optimizer=words.printable(facts.name), rates=rates)


def rows(one: Focus) -> list[Row]:
    """Return the rows of the table of layers at the step in focus."""
    if one.trace is None:
        return []
    trace = one.trace
    return layers.rows(trace.layers, one.diagnosis.findings, one.run.always_dead, trace.predictions)


def accounts(trace: Trace) -> list[str]:
    """Say what the signal loses on its way to the source, to which factors; the probe; theory."""
    found = []
    path, probe = trace.main_path, trace.probe
    whole = path.source_level_log10 - path.root_level_log10 if path is not None else math.nan
    if path is not None and path.edges and not math.isnan(whole):
        parts = [
            f"{words.factor_name(factor)} {words.decades(gain)}"
            for factor, gain in layers.totals(path).items()
        ]
        text = _("From the loss to `{source}`: {times} ({decades} = {parts}).").format(
            source=words.shorten_path(words.module_name(path.source_module), 30),
            times=words.times(whole),
            decades=words.decades(whole),
            parts=_(", ").join(parts),
        )
        found.append(text)
    if probe is not None and not math.isnan(probe.gain_log10):
        gain, low, high = (
            words.times(one) for one in (probe.gain_log10, probe.low_log10, probe.high_log10)
        )
        text = _("Of a random signal at the output, {gain} arrives there ({low} to {high}).")
        if low == high:
            text = _("Of a random signal at the output, {gain} arrives there.")
        found.append(text.format(gain=gain, low=low, high=high))
    return [*found, *prediction.sentences(trace)]


def ending(run: Run) -> str:
    """Return how the script ended, with its exit code or the last line of its traceback."""
    text = {
        "finished": _("finished"),
        "steps-reached": _("ended after the steps asked for"),
        "exited": _("called exit, code {code}"),
        "crashed": _("crashed: {error}"),
        "interrupted": _("interrupted"),
        "running": _("still running"),
        "killed": _("killed: it left no end"),
    }[run.ending]
    return text.format(code=run.exit_code, error=words.printable(run.error or ""))


def where(place: Where) -> str:
    """Return a place as "net.1, SigmoidBackward0, train.py:31"; "" if nothing is known."""
    parts = []
    if place.module is not None:
        name = words.module_name(place.module)
        parts.append(f"{name} #{place.call}" if place.call else name)
    if place.op is not None:
        parts.append(words.printable(place.op))
    if place.source is not None:
        parts.append(f"{words.printable(_near(place.source.file))}:{place.source.line}")
    return ", ".join(parts)


def _near(file: str) -> str:
    """Return a path as one would type it from here: relative where it lies below."""
    path, here = Path(file), Path.cwd()
    if path.parent.name.startswith("ipykernel_"):  # a file of Jupyter's own, gone tomorrow
        return _("notebook cell")
    return str(path.relative_to(here)) if path.is_relative_to(here) else file


def degradations(diagnosis: Diagnosis) -> list[str]:
    """Return what could not be measured, each note once, with the steps it concerns."""
    notes = [words.printable(note) for note in diagnosis.run.notes]
    for model in diagnosis.run.models:
        at: dict[str, list[int]] = {}
        for trace in model.traces:
            for note in trace.notes:
                at.setdefault(note, []).append(trace.step)
        for note, steps in at.items():
            text = words.printable(note).rstrip(".。")
            where = _("every sampled step") if len(steps) == len(model.traces) else _steps(steps)
            if len(diagnosis.run.models) > 1:
                where = f"{words.printable(model.name)}, {where}"
            notes.append(_("{note} ({where}).").format(note=text, where=where))
    return list(dict.fromkeys(notes))


def _steps(steps: Iterable[int], most: int = 6) -> str:
    listed = list(steps)
    text = ", ".join(str(step) for step in listed[:most]) + (", …" if len(listed) > most else "")
    return _("step {steps}").format(steps=text)
