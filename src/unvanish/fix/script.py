"""Trials of an unchanged script: each in a child process, in a scratch copy of the directory."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from unvanish import codec
from unvanish.diagnose import diagnose
from unvanish.diagnose.config import Config
from unvanish.errors import NoSignalError, UserCodeError
from unvanish.fix.child import Order
from unvanish.fix.scratch import LINKED_ABOVE, QUIET, scratch, survey
from unvanish.fix.trial import UNTREATED, Candidate, OneByOne, Outcome, Treatment
from unvanish.i18n import _, current
from unvanish.records import Diagnosis, Edited, ModelRun, Run

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
        self._target = target
        self._directory = directory
        self._config = config
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
            ).format(files=taken.files, size=taken.copied / 2**20),
            _("what the script writes to absolute paths is written as ever"),
        ]
        if taken.linked:
            lines.append(
                _("files above {size:.0f} MB are linked, not copied: {names}").format(
                    size=LINKED_ABOVE / 2**20, names=", ".join(taken.linked[:5])
                )
            )
        return lines

    # --- a Trainer -----------------------------------------------------------------------------

    def propose(self, baseline: Outcome) -> list[Candidate]:
        """See `trial.Trainer`."""
        answer = self._ask(UNTREATED, 0, 1, propose=True)
        if "candidates" not in answer.said:
            self.notes.append(
                _("no cure could be proposed: {reason}").format(reason=_reason(answer))
            )
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
            raise UserCodeError(
                _("the untreated script failed: {reason}").format(reason=_reason(answer)),
                _("Make `python {script}` work first; a script must not ask for input.").format(
                    script=" ".join(self._target.command)
                ),
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
    """Run one child to its end; Ctrl-C ends it first."""
    environment = {**os.environ, **QUIET, "UNVANISH_LANG": current()}  # it names what it did
    package = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, (package, os.environ.get("PYTHONPATH")))
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "unvanish.fix.child", str(order)],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    try:
        _stdout, stderr = process.communicate()
    except BaseException:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    return process.returncode, stderr


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
