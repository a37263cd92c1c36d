"""One trial of an unchanged script, in a process of its own: `python -m unvanish.fix.child ORDER`.

The order is a JSON file; the outcome goes to the file that it names. What the script prints goes
where the parent sends it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unvanish import codec
from unvanish.fix import reseed
from unvanish.monitor.arrival import TorchArrival
from unvanish.monitor.launch import launch
from unvanish.monitor.program import Module, Program, Script
from unvanish.monitor.schedule import Schedule, WatchOptions

if TYPE_CHECKING:
    from unvanish.fix.cure import Live
    from unvanish.fix.trial import Candidate
    from unvanish.records import ModelRun, Run


@dataclass(frozen=True)
class Order:
    """What the child is to do."""

    script: str  # path, or the name of a module
    is_module: bool
    arguments: tuple[str, ...]
    steps: int | None
    seed: int  # 0: the script's own seeds
    cures: tuple[str, ...]
    lr_factor: float
    propose: bool  # only say which cures fit, at the first step
    baseline: str | None  # the untreated run, as a saved file
    outcome: str  # where the answer goes
    record: str  # where the run goes

    def program(self) -> Program:
        """Return the program to run."""
        if self.is_module:
            return Module(self.script, self.arguments)
        return Script(Path(self.script), self.arguments)


def main(path: str) -> int:
    """Run the trial of the order in the file `path`; return the script's exit status."""
    given = json.loads(Path(path).read_text("utf-8"))
    order = Order(**{**given, **{k: tuple(given[k]) for k in ("arguments", "cures")}})
    return _Trial(order).run()


class _Trial:
    def __init__(self, order: Order) -> None:
        self._order = order
        self._answer: dict[str, Any] = {}
        self._run = _model_run(order.baseline)
        self._restart: list[Any] = []

    def run(self) -> int:
        order = self._order
        reseed.offset_python(order.seed)
        _import_numpy()
        reseed.offset_numpy(order.seed)
        arrival = TorchArrival(self._torch_is_here)
        arrival.wait()
        launched = launch(
            order.program(),
            WatchOptions(Schedule(), probe=True, steps=order.steps),
            directory=str(Path.cwd()),
            say=lambda line: print(line, file=sys.stderr),
            begun=self._restart.append,
        )
        outcome = launched.outcome
        self._answer["exit_code"] = outcome.exit_code
        self._answer["error"] = outcome.error
        if isinstance(launched.record, Exception):
            self._answer["no_record"] = str(launched.record)
        else:
            self._keep(launched.record)
        Path(order.outcome).write_text(json.dumps(self._answer), "utf-8")
        return outcome.exit_code

    def _keep(self, run: Run) -> None:
        Path(self._order.record).write_bytes(codec.encode_run(run))

    # --- in the script -------------------------------------------------------------------------

    def _torch_is_here(self) -> None:
        reseed.offset_torch(self._order.seed)
        if not (self._order.cures or self._order.propose or self._order.lr_factor != 1.0):
            return
        from unvanish.fix.surgery import Surgeon
        from unvanish.fix.treat import generator

        Surgeon(self._operate, generator(self._order.seed), self._run).install()

    def _operate(self, live: Live) -> None:
        # What cures measure is none of the script's own passes, and no step of its either.
        for session in self._restart:
            session.quiet()
        try:
            self._treat(live)
        finally:
            for session in self._restart:
                session.heed()
        for session in self._restart:
            session.begin_anew()

    def _treat(self, live: Live) -> None:
        from unvanish.fix.cure import NotApplicable
        from unvanish.fix.treat import treat
        from unvanish.fix.trial import Treatment
        from unvanish.monitor.program import StepsReached

        if self._order.propose:
            self._answer["candidates"] = [asdict(one) for one in self._candidates(live)]
            raise StepsReached
        try:
            treated = treat(live, Treatment(self._order.cures, self._order.lr_factor))
        except NotApplicable as reason:
            self._answer["refused"] = str(reason) or "+".join(self._order.cures)
            raise StepsReached from reason
        self._answer["edits"] = [asdict(row) for row in treated.edits]
        self._answer["note"], self._answer["code"] = treated.note, treated.code

    def _candidates(self, live: Live) -> list[Candidate]:
        from unvanish.diagnose import diagnose
        from unvanish.fix.treat import candidates

        run = codec.decode_run(Path(self._order.baseline or "").read_bytes())
        return candidates(diagnose(run), live, lambda: _copy(live))


def _copy(live: Live) -> Live:
    """Return a copy of a live training: model and optimiser belong to each other as before."""
    import copy

    model, optimizer = copy.deepcopy((live.model, live.optimizer))
    return replace(live, model=model, optimizer=optimizer, settings=type(live.settings)())


def _model_run(path: str | None) -> ModelRun | None:
    if path is None:
        return None
    run = codec.decode_run(Path(path).read_bytes())
    return run.models[0] if run.models else None


def _import_numpy() -> None:
    """Import numpy before the script does, if it is there: its seeds are to be offset."""
    try:
        import numpy  # noqa: F401
    except ImportError:
        return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
