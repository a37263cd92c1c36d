"""Trials of an unchanged script: each in a child process, in a scratch copy of the directory."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

import msgspec

from unvanish import codec
from unvanish.diagnose import diagnose
from unvanish.diagnose.config import Config
from unvanish.errors import NoSignalError, UserCodeError
from unvanish.fix.child import Order
from unvanish.fix.scratch import EMPTIED, QUIET, leads_out, room_needed, scratch, survey
from unvanish.fix.trial import UNTREATED, Candidate, OneByOne, Outcome, Treatment
from unvanish.i18n import _, current
from unvanish.records import Diagnosis, Edited, ModelRun, Run

_LAST_WORDS = 2**16  # bytes of stderr that are read
_LAST_BREATH = 1.0  # seconds: the killed die when they are next scheduled, zombies stay
_TAIL = 10  # the yardstick is the mean loss of the last tenth of the steps


@dataclass(frozen=True, slots=True)
class Target:
    """The script, as `unvanish run` takes it."""

    script: str
    is_module: bool
    arguments: tuple[str, ...]

    @property
    def command(self) -> tuple[str, ...]:
        """Return the words that name it."""
        return (*(("-m",) if self.is_module else ()), self.script, *self.arguments)

    def seen_from(self, directory: Path) -> Target:
        """Return it with a path that also leads to the script in a copy of `directory`."""
        if self.is_module:
            return self
        path = Path(os.path.abspath(directory / self.script))
        root = Path(os.path.abspath(directory))
        inside = path.is_relative_to(root)
        return replace(self, script=str(path.relative_to(root) if inside else path))


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a child left behind."""

    said: dict[str, Any]
    run: Run | None
    exit_code: int
    stderr: str


class ScriptTrainer(OneByOne):
    """A `trial.Trainer` for a script that is run as it is."""

    def __init__(
        self, target: Target, directory: Path, *, steps: int | None, config: Config | None = None
    ) -> None:
        """`steps` ends every training; None: it lasts as long as the script's own."""
        self.steps = steps or 0  # known after the first training
        self.varies: bool | None = None
        self.notes: list[str] = []
        self.yardstick = _("the script's own training loss, over the last tenth of the steps")
        self._limit = steps
        self._target = target.seen_from(directory)
        self._directory = directory
        self._config = config
        with room_needed():
            self._folder = TemporaryDirectory(prefix="unvanish-orders-")
        self._model = ""  # name of the model that has the finding
        self._baseline: Path | None = None
        self._number = 0

    def close(self) -> None:
        """Remove what the children left."""
        self._folder.cleanup()

    def plan(self) -> list[str]:
        """Say, before anything starts, what a trial does and what it cannot guard."""
        taken = survey(self._directory)
        lines = [
            _(
                "each trial runs the script in a scratch copy of this directory ({files} files,"
                " {size:.0f} MB), trackers off, hubs offline"
            ).format(files=len(taken.copied) + len(taken.linked), size=taken.size / 2**20),
            _("what the script writes to absolute paths is written as ever"),
        ]
        if Path(self._target.script).is_absolute():
            lines.append(
                _(
                    "so is what it writes beside itself: {script} lies outside this directory"
                ).format(script=self._target.script)
            )
        outward = [path for path in taken.links if leads_out(self._directory, path)]
        if outward:
            lines.append(
                _("and through links that lead out of this directory: {names}").format(
                    names=_named(outward)
                )
            )
        if taken.linked:
            lines.append(
                _(
                    "and to the largest files, which are linked, not copied: {names}; a script that"
                    " overwrites them overwrites yours"
                ).format(names=_named(taken.linked))
            )
        return lines

    # --- a Trainer -----------------------------------------------------------------------------

    def propose(self, baseline: Outcome) -> list[Candidate]:
        """See `trial.Trainer`."""
        answer = self._ask(UNTREATED, 0, 1, propose=True)
        if "candidates" not in answer.said:
            reason = _reason(answer)
            if not answer.exit_code and not answer.stderr:
                reason = _("no optimiser took a step, before which a cure could be applied")
            self.notes.append(_("no cure could be proposed: {reason}").format(reason=reason))
            return []
        return msgspec.convert(answer.said["candidates"], list[Candidate])

    def train(self, treatment: Treatment, seed: int, steps: int) -> Outcome:
        """See `trial.Trainer`.

        Raises UserCodeError where the untreated script fails, NoSignalError where it never trains.
        """
        first = treatment == UNTREATED and seed == 0 and self._baseline is None
        answer = self._ask(treatment, seed, self._limit if first else steps)
        if "refused" in answer.said:
            return Outcome(refused=answer.said["refused"])
        if answer.run is None or not answer.run.models:
            return self._without_record(treatment, answer)
        if first:
            self._begin_with(answer.run)
        model = self._own(answer.run)
        losses = tuple(step.loss for step in model.steps)
        cost = len(losses) / max(1, self.steps)
        if answer.run.ending == "crashed" and treatment != UNTREATED:
            return Outcome(losses=losses, error=_reason(answer), cost=cost)
        return Outcome(
            losses=losses,
            score=_tail_mean(losses),
            diagnosis=self._diagnosed(answer.run),
            edits=tuple(msgspec.convert(answer.said.get("edits", []), list[Edited])),
            note=answer.said.get("note", ""),
            code=answer.said.get("code", ""),
            cost=cost,
        )

    # --- the first training --------------------------------------------------------------------

    def _begin_with(self, run: Run) -> None:
        diagnosis = diagnose(run, self._config)
        sick = next(
            (one.name for one in diagnosis.models if one.verdict == diagnosis.verdict),
            run.models[0].name,
        )
        self._model = sick
        own = self._own(run)
        self.steps = len(own.steps)
        self._baseline = Path(self._folder.name, "baseline.run")
        others = [one for one in run.models if one is not own]
        self._baseline.write_bytes(codec.encode_run(replace(run, models=(own, *others))))

    def _own(self, run: Run) -> ModelRun:
        return next((one for one in run.models if one.name == self._model), run.models[0])

    def _diagnosed(self, run: Run) -> Diagnosis:
        return diagnose(run, self._config)

    def _without_record(self, treatment: Treatment, answer: _Answer) -> Outcome:
        if treatment != UNTREATED:
            return Outcome(error=_reason(answer))
        if answer.said.get("error") or answer.exit_code:
            reason = _reason(answer)
            remedy = _(
                "Make `python {script}` work first; a script must not ask for input."
            ).format(script=" ".join(self._target.command))
            if "No such file" in reason:
                remedy = _(
                    "It ran in a copy of this directory, with {emptied} empty: start in the"
                    " directory that holds all that it reads."
                ).format(emptied=", ".join(EMPTIED))
            raise UserCodeError(
                _("the untreated script failed: {reason}").format(reason=reason), remedy
            )
        raise NoSignalError(
            _("the script trained nothing that could be measured: {reason}").format(
                reason=_reason(answer)
            ),
            _("Give the script that trains, with the arguments that make it train."),
        )

    # --- the child -----------------------------------------------------------------------------

    def _ask(
        self, treatment: Treatment, seed: int, steps: int | None, *, propose: bool = False
    ) -> _Answer:
        with room_needed():
            return self._asked(treatment, seed, steps, propose)

    def _asked(self, treatment: Treatment, seed: int, steps: int | None, propose: bool) -> _Answer:
        self._number += 1
        folder = Path(self._folder.name, str(self._number))
        folder.mkdir()
        order = Order(
            script=self._target.script,
            is_module=self._target.is_module,
            arguments=self._target.arguments,
            steps=steps,
            seed=seed,
            cures=treatment.cures,
            lr_factor=treatment.lr_factor,
            propose=propose,
            baseline=str(self._baseline) if self._baseline is not None else None,
            outcome=str(folder / "outcome.json"),
            record=str(folder / "record.run"),
        )
        (folder / "order.json").write_text(json.dumps(asdict(order)), "utf-8")
        with scratch(self._directory) as copy:
            exit_code, stderr = _run_child(folder / "order.json", copy)
        said = Path(order.outcome)
        record = Path(order.record)
        return _Answer(
            said=json.loads(said.read_text("utf-8")) if said.exists() else {},
            run=codec.decode_run(record.read_bytes()) if record.exists() else None,
            exit_code=exit_code,
            stderr=stderr,
        )


def _run_child(order: Path, directory: Path) -> tuple[int, str]:
    """Run one child to its end, and end what it started; Ctrl-C ends both first."""
    environment = {**os.environ, **QUIET, "UNVANISH_LANG": current()}  # it names what it did
    package = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, (package, os.environ.get("PYTHONPATH")))
    )
    # A file, no pipe: a process that the script leaves behind would hold a pipe open for ever.
    with TemporaryFile() as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "unvanish.fix.child", str(order)],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,  # so that all that it starts can be ended with it
        )
        try:
            process.wait()
        finally:
            _end(process)
        length = stderr.seek(0, os.SEEK_END)
        stderr.seek(max(0, length - _LAST_WORDS))
        return process.returncode, stderr.read().decode("utf-8", "replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process, if it runs, and all of its session."""
    _tell(process, signal.SIGTERM)
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
    finally:  # also at a second Ctrl-C
        _tell(process, getattr(signal, "SIGKILL", signal.SIGTERM))
        process.wait()
        until = time.monotonic() + _LAST_BREATH
        while _tell(process, 0) and time.monotonic() < until:
            time.sleep(0.005)


def _tell(process: subprocess.Popen[bytes], number: int) -> bool:
    """Send a signal to all of its session, 0 for none; return whether somebody is there."""
    if not hasattr(os, "killpg"):
        process.terminate()
        return False
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _named(paths: Sequence[Path]) -> str:
    names = [str(path) for path in paths[:5]]
    return ", ".join(names if len(paths) <= 5 else [*names, "…"])


def _tail_mean(losses: Sequence[float]) -> float:
    """Return the mean of the last tenth of the losses; +inf where one of them is not finite."""
    if not losses:
        return math.inf
    tail = losses[-max(1, len(losses) // _TAIL) :]
    mean = sum(tail) / len(tail)
    return mean if math.isfinite(mean) else math.inf


def _reason(answer: _Answer) -> str:
    """Return why there is no result: the script's own last line, or what the child said."""
    lines = [line for line in answer.stderr.strip().splitlines() if line.strip()]
    for found in (answer.said.get("error"), answer.said.get("no_record"), *lines[-1:]):
        if found:
            return str(found)
    return _("exit status {code}").format(code=answer.exit_code)
