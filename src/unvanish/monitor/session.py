"""A watched stretch of a process: everything of ours that is in torch, from start to `Run`."""

from __future__ import annotations

import datetime
import os
import platform
import time
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from unvanish import store
from unvanish._version import __version__
from unvanish.i18n import _
from unvanish.measure.dynamo import uncompiled
from unvanish.monitor.diary import Diary
from unvanish.monitor.journal import Journal
from unvanish.monitor.listener import Listener
from unvanish.monitor.naming import named_apart
from unvanish.monitor.program import Outcome, StepsReached
from unvanish.monitor.schedule import WatchOptions
from unvanish.monitor.silence import NothingSeen
from unvanish.monitor.watcher import Watcher
from unvanish.records import Diagnosis, Environment, ModelRun, Run


class Session:
    """Listens from `begin` to `end`, then gives the record."""

    def __init__(
        self,
        options: WatchOptions,
        *,
        kind: Literal["run", "watch"],
        command: tuple[str, ...],
        directory: str,
        say: Callable[[str], None],
        diagnose: Callable[[Run], Diagnosis] | None = None,
    ) -> None:
        """`say` prints a line of ours; `diagnose`, if given, is asked at sampled steps.

        Its first finding of severity "error" is said at once.
        """
        self.id = store.new_id()
        self._kind = kind
        self._command = command
        self._directory = directory
        self._say = say
        self._diagnose = diagnose
        self._created = datetime.datetime.now(datetime.UTC)
        self._started = time.monotonic()
        self._limit = StepLimit(options.steps)
        self.watcher = Watcher(
            options.schedule,
            probe=options.probe,
            spectrum=options.spectrum,
            limit=options.steps,
            say=say,
            sampled=self._sampled,
        )
        self._listener = Listener(self.watcher)
        journal = Journal(self.run(Outcome("finished", 0)), options.store, say)
        self._diary: Diary | None = Diary(journal)

    def begin(self) -> None:
        """Start to listen."""
        _quiet_in_children(self)
        self.watcher.start()
        self._listener.install()
        self._limit.install()  # after the listener, so that the last step is seen

    def know(self, optimizer: Optimizer) -> None:
        """Heed `optimizer`, and no other that happens to be in this process."""
        self.watcher.ledger.know(optimizer)

    def end(self) -> None:
        """Stop listening; nothing of ours is left in torch."""
        self._listener.remove()
        self._limit.remove()
        self.watcher.stop()
        if self._diary is not None:
            self._diary.close()

    def pause(self) -> None:
        """Take everything of ours out of torch for a while; what is known stays known."""
        self._listener.remove()
        self.watcher.log.remove()

    def resume(self) -> None:
        """Listen again after a pause."""
        self._listener.install()
        self.watcher.log.install()
        self.watcher.tune()

    def told(self, loss: float) -> None:
        """Take note of a step that was made during a pause: one backward, of this loss."""
        self.watcher.step_told(loss)

    def begin_anew(self) -> None:
        """Forget what was seen so far: from here on it is another network that trains."""
        self.watcher.begin_anew()

    def quiet(self) -> None:
        """Stop recording, as in a forked child, which is not watched; all hooks stay."""
        self._listener.on = False
        self.watcher.log.active = False

    def heed(self) -> None:
        """Record again after `quiet`."""
        self._listener.on = True
        self.watcher.log.active = True

    def run(self, outcome: Outcome, notes: tuple[str, ...] = ()) -> Run:
        """Return what is known so far as a record."""
        return Run(
            id=self.id,
            kind=self._kind,
            created=self._created.isoformat(timespec="seconds"),
            command=self._command,
            directory=self._directory,
            tool_version=__version__,
            environment=Environment(
                python=platform.python_version(),
                torch=str(torch.__version__),
                platform=platform.platform(),
                device=self.watcher.device or "cpu",
            ),
            models=self.run_models(),
            ending=outcome.ending,
            exit_code=outcome.exit_code,
            error=outcome.error,
            notes=(*self.watcher.notes, *notes),
            seconds=time.monotonic() - self._started,
        )

    def run_models(self) -> tuple[ModelRun, ...]:
        """Return the models that were traced so far."""
        return named_apart([lane.model_run() for lane in self.watcher.lanes if lane.traces])

    def nothing_seen(self) -> NothingSeen:
        """Return what there is to say when no pass was traced."""
        watcher = self.watcher
        return NothingSeen(
            torch_imported=True,
            backwards=watcher.ledger.passes,
            steps=watcher.ledger.steps,
            without_graph=watcher.without_graph,
            not_scalar=watcher.not_scalar,
        )

    def _sampled(self) -> None:
        """Take note that a sampled step is complete."""
        self._write()
        self._announce()

    def _write(self) -> None:
        """Add what is new to the store, so that a killed script leaves what it has shown."""
        if self._diary is None:
            return
        try:
            self._diary.write(self.watcher.lanes, self.run_models())
        except Exception as error:  # the measuring goes on, and the end is saved as a whole
            self._diary = None
            self._say(_("nothing is saved while the script runs ({error})").format(error=error))

    def _announce(self) -> None:
        """Say the first certain finding as soon as it is known."""
        if self._diagnose is None:
            return
        try:
            diagnosis = self._diagnose(self.run(Outcome("finished", 0)))
        except Exception as error:  # the measuring goes on; the end will show what is wrong
            self._diagnose = None
            self._say(_("no findings while the script runs ({error})").format(error=error))
            return
        first = next((one for one in diagnosis.findings if one.severity == "error"), None)
        if first is not None:
            self._diagnose = None
            self._say(
                _("step {step}: {code}: {title} The script goes on.").format(
                    step=first.step or 0, code=first.code, title=first.title
                )
            )


class StepLimit:
    """Ends the script once one optimiser has made so many steps."""

    def __init__(self, steps: int | None) -> None:
        self._steps = steps
        self._counts: Counter[int] = Counter()
        self._handle: Any = None

    def install(self) -> None:
        """Begin to count, if there is a limit."""
        if self._steps is not None and self._handle is None:
            self._handle = register_optimizer_step_post_hook(self._count)

    def remove(self) -> None:
        """Stop counting."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    @uncompiled
    def _count(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if torch.compiler.is_compiling() or self._steps is None:
            return
        self._counts[id(optimizer)] += 1
        if self._counts[id(optimizer)] >= self._steps:
            raise StepsReached


_living: weakref.WeakSet[Session] = weakref.WeakSet()
_registered = False


def _quiet_in_children(session: Session) -> None:
    """Have forked children record nothing. (What is registered at fork cannot be taken back.)"""
    global _registered
    _living.add(session)
    if not _registered and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_quiet_all)
        _registered = True


def _quiet_all() -> None:
    for session in list(_living):
        session.quiet()
