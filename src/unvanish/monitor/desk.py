"""Where finished steps arrive: records, incidents, alarms, the store and the sinks."""

from __future__ import annotations

import datetime
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from unvanish import store
from unvanish._version import __version__
from unvanish.diagnose import diagnose
from unvanish.diagnose.config import Config
from unvanish.i18n import _
from unvanish.measure.reduce import log10
from unvanish.monitor.alarms import Alarms
from unvanish.monitor.diary import readings_of
from unvanish.monitor.flight import Arrived
from unvanish.monitor.gauge import Levels
from unvanish.monitor.journal import Journal
from unvanish.monitor.lane import Lane, gradient_state
from unvanish.monitor.options import MonitorOptions
from unvanish.monitor.program import Outcome
from unvanish.monitor.recent import History, Recent
from unvanish.monitor.sinks import Sink, adapted
from unvanish.monitor.voice import warn
from unvanish.records import (
    Diagnosis,
    Environment,
    Finding,
    Incident,
    ModelRun,
    ParameterFacts,
    ParameterSignal,
    Readings,
    Run,
    StepRecord,
    Trace,
)
from unvanish.report.incidents import describe
from unvanish.store import Batch

_INCIDENTS_MOST = 32  # the latest are kept
_JUDGED_FIRST, _JUDGED_LAST = 2, 6  # traces that the rules are given while the run goes on
Attempt = Callable[[str, Callable[[], Any]], Any]  # a part of ours by name, and what it is to do


class Desk:
    """Keeps what a monitor has seen, and tells whoever wants to know."""

    def __init__(
        self, lane: Lane, options: MonitorOptions, config: Config, attempt: Attempt, rank: int
    ) -> None:
        """`attempt` runs one of our parts, and switches it off if it fails."""
        self.alarms: list[Finding] = []
        self.incidents: list[Incident] = []
        self.notes: list[str] = []
        self.saved: Any = None
        self._lane = lane
        self._options = options
        self._config = config
        self._attempt = attempt
        self._rank = rank
        self._history = History()
        self._recent = Recent()
        self._alarms = Alarms()
        self._dead: Mapping[str, float] = {}
        self._sinks: list[Sink] = adapted(options.sinks)
        self._created = datetime.datetime.now(datetime.UTC)
        self._started = time.monotonic()
        self._device = "cpu"
        self.id = store.new_id()
        directory = options.directory / ".unvanish" if options.save and rank == 0 else None
        self._journal = Journal(self.run(), directory, self.say)

    def say(self, text: str) -> None:
        """Tell the user something about the monitor itself."""
        self.notes.append(text)
        warn(_("unvanish: {text}").format(text=text))

    # --- what arrives --------------------------------------------------------------------------

    def receive(self, arrived: Arrived, model: nn.Module | None, seen_at: int) -> bool:
        """Take in a step whose numbers are here; return whether it gave an alarm."""
        step, record, trace = arrived.step, arrived.record, arrived.trace
        levels = step.levels
        sampled = step.kind == "sampled" and levels is not None
        if sampled and trace is None and levels is not None:
            trace = _bare_trace(record, levels)
            self._lane.keep(trace)
            self._note_parameters(levels, trace, model)
        self._dead = arrived.always_dead or self._dead
        readings = _readings(record.step, levels, trace)
        self._recent.saw(readings, () if trace is None else (trace,))
        incident = self._add(record, levels, seen_at) if step.losses else None
        raised = self._attempt("alarms", self._judge) if sampled else None
        if incident is not None:
            self._report(incident)
        batch = Batch(
            steps=(record,) if step.losses else (),
            readings=readings,
            traces=() if trace is None else (trace,),
            facts=self._model(()) if sampled else None,
            alarms=tuple(raised or ()),
            incidents=() if incident is None else (incident,),
        )
        at_once = sampled or incident is not None
        self._attempt("saving", lambda: self._journal.add(batch, at_once=at_once))
        self._write(record, readings, sampled=sampled)
        for finding in raised or ():
            self._raise(record.step, finding)
        return bool(raised) or incident is not None

    def _add(self, record: StepRecord, levels: Levels | None, seen_at: int) -> Incident | None:
        self._history.add(record)
        bad = levels.first_nonfinite() if levels is not None else None
        incident = self._recent.add(record, bad, seen_at)
        return None if incident is None else replace(incident, model=self._lane.name)

    def _note_parameters(self, levels: Levels, trace: Trace, model: nn.Module | None) -> None:
        """Keep what is known of the parameters where no trace tells it."""
        shapes = {} if model is None else dict(model.named_parameters())
        held = self._lane.held()
        for signal in trace.parameters:
            parameter = shapes.get(signal.name)
            owner = signal.name.rpartition(".")[0]
            known = self._lane.parameters.get(signal.name)
            state = gradient_state(signal)
            if known is not None and known.gradient == "some":
                state = "some"
            self._lane.parameters[signal.name] = ParameterFacts(
                name=signal.name,
                module=owner,
                type="" if parameter is None or model is None else _type_of(model, owner),
                numel=0 if parameter is None else parameter.numel(),
                requires_grad=True,
                registered=parameter is not None,
                in_optimizer=parameter is None or id(parameter) in held,
                called=True,
                gradient=state,
                weight_log10=signal.weight_log10,
            )

    # --- who is told ---------------------------------------------------------------------------

    def _judge(self) -> list[Finding]:
        traces = self._lane.traces
        middle = traces[_JUDGED_FIRST:-_JUDGED_LAST]
        if middle:
            broken = [trace for trace in middle if trace.nonfinite is not None]
            traces = [*traces[:_JUDGED_FIRST], *broken[:1], *traces[-_JUDGED_LAST:]]
        run = replace(self.run(), models=(self._model(tuple(traces), self._history.steps()),))
        raised = self._alarms.judge(diagnose(run, self._config))
        self.alarms += raised
        return raised

    def _raise(self, step: int, finding: Finding) -> None:
        """Tell of an alarm: as a warning, in the log, to the sinks, to the user's function."""
        warn(
            _("unvanish: step {step}: {code}: {title} {remedy}").format(
                step=step, code=finding.code, title=finding.title, remedy=finding.remedy
            )
        )
        for sink in [*self._sinks]:
            self._hand(sink, lambda sink=sink: sink.alarm(step, finding))  # type: ignore[misc]
        tell = self._options.on_alarm
        if tell is not None:
            self._attempt("on_alarm", lambda: tell(finding))

    def _report(self, incident: Incident) -> None:
        self.incidents.append(incident)
        del self.incidents[:-_INCIDENTS_MOST]
        warn(_("unvanish: {text}").format(text=describe(incident)))
        tell = self._options.on_incident
        if tell is not None:
            self._attempt("on_incident", lambda: tell(incident))

    def _write(self, record: StepRecord, readings: tuple[Readings, ...], *, sampled: bool) -> None:
        if not self._sinks or not readings:
            return
        numbers = _numbers(record)
        if sampled:
            numbers |= {
                f"unvanish/{one.quantity}/{name}": value
                for one in readings
                for name, value in zip(one.names, one.values, strict=True)
            }
        for sink in [*self._sinks]:
            self._hand(sink, lambda sink=sink: sink.write(record.step, numbers))  # type: ignore[misc]

    def _hand(self, sink: Sink, do: Callable[[], None]) -> None:
        """Hand something to a sink; one that fails gets no more."""
        try:
            do()
        except Exception as error:
            self._sinks.remove(sink)
            self.say(
                _("{sink} gets no more ({error})").format(
                    sink=type(sink).__name__, error=f"{type(error).__name__}: {error}"
                )
            )

    # --- the record ----------------------------------------------------------------------------

    def seen_on(self, device: torch.device) -> None:
        """Note where the model runs."""
        self._device = str(device)

    def run(self, outcome: Outcome | None = None) -> Run:
        """Return what is known so far as a record."""
        ended = outcome or Outcome("finished", 0)
        lane = self._lane
        models = (self._model(tuple(lane.traces), self._history.steps()),) if lane.traces else ()
        return Run(
            id=self.id,
            kind="monitor",
            created=self._created.isoformat(timespec="seconds"),
            command=tuple(sys.argv),
            directory=str(self._options.directory),
            tool_version=__version__,
            environment=Environment(
                python=platform.python_version(),
                torch=str(torch.__version__),
                platform=platform.platform(),
                device=self._device,
                distributed=_distributed(self._rank),
            ),
            models=models,
            ending=ended.ending,
            exit_code=ended.exit_code,
            error=ended.error,
            notes=tuple(self.notes),
            seconds=time.monotonic() - self._started,
            alarms=tuple(self.alarms),
            incidents=tuple(self.incidents),
        )

    def diagnosis(self) -> Diagnosis:
        """Return the verdict on what is known so far. Raises NoSignalError if nothing is."""
        return diagnose(self.run(), self._config)

    def finish(self, outcome: Outcome) -> None:
        """Save the finished record, and let the sinks finish."""
        run = self.run(outcome)
        self.saved = self._attempt("saving", lambda: self._journal.finish(run))
        for sink in [*self._sinks]:
            self._hand(sink, sink.close)

    def drop(self) -> None:
        """Let go of the store without a record: a run that is not finished counts as killed."""
        self._journal.close()

    def _model(self, traces: tuple[Trace, ...], steps: tuple[StepRecord, ...] = ()) -> ModelRun:
        return replace(self._lane.model_run(self._dead), traces=traces, steps=steps)


def _bare_trace(record: StepRecord, levels: Levels) -> Trace:
    """Return what is known of a sampled step without its ops: the parameters."""
    gradient = dict(zip(levels.with_gradient, levels.gradient, strict=True))
    counts = [
        dict(zip(levels.with_gradient, values, strict=False))
        for values in (levels.zeros, levels.subnormals, levels.nonfinite)
    ]
    update = dict(zip(levels.names, levels.update, strict=False))
    return Trace(
        step=record.step,
        loss=record.loss,
        layers=(),
        main_path=None,
        output_level_log10=None,
        phase="scaled" if record.phase == "scaled" else "unscaled",
        loss_scale=record.loss_scale,
        parameters=tuple(
            ParameterSignal(
                name=name,
                grad_log10=gradient.get(name),
                weight_log10=weight,
                zeros=_count(counts[0].get(name)),
                subnormals=_count(counts[1].get(name)),
                nonfinite=_count(counts[2].get(name)) or 0,
                update_ratio_log10=update.get(name),
            )
            for name, weight in zip(levels.names, levels.weight, strict=True)
        ),
    )


def _count(log: float | None) -> int | None:
    return None if log is None else round(10.0**log)


def _readings(step: int, levels: Levels | None, trace: Trace | None) -> tuple[Readings, ...]:
    """Return what was read: of parameters by the gauge, of layers by the trace."""
    found = () if levels is None else levels.readings(step)
    layers = () if trace is None else readings_of(trace)
    return (*found, *(one for one in layers if one.quantity == "level"))


def _numbers(record: StepRecord) -> dict[str, float]:
    numbers = {"unvanish/loss": record.loss, "unvanish/loss_scale": log10(record.loss_scale)}
    if record.gradient_log10 is not None:
        numbers["unvanish/gradient"] = record.gradient_log10
    if record.clip_log10 is not None:
        numbers["unvanish/clip"] = record.clip_log10
    return numbers | {f"unvanish/lr/{i}": rate for i, rate in enumerate(record.lr)}


def _type_of(model: nn.Module, path: str) -> str:
    try:
        return type(model.get_submodule(path)).__name__
    except AttributeError:
        return ""


def _distributed(rank: int) -> str | None:
    ranks = os.environ.get("WORLD_SIZE", "1")
    return f"rank {rank} of {ranks}" if ranks != "1" else None
