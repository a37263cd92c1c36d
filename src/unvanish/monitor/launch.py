"""One watched program, from its first line to its record.

Nothing here imports torch: the script does, and then we begin to listen.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from unvanish.i18n import _
from unvanish.monitor.arrival import TorchArrival
from unvanish.monitor.children import Children
from unvanish.monitor.program import Outcome, Program
from unvanish.monitor.schedule import WatchOptions
from unvanish.monitor.silence import NothingSeen
from unvanish.monitor.spawned import Spawned
from unvanish.records import Diagnosis, Run

if TYPE_CHECKING:
    from unvanish.monitor.ranked import RankedSession
    from unvanish.monitor.session import Session


@dataclass(frozen=True, slots=True)
class Launched:
    """How the program ended, and its record or why there is none; rank and ranks of torchrun."""

    outcome: Outcome
    record: Run | Exception
    rank: int
    ranks: int


def launch(
    program: Program,
    options: WatchOptions,
    *,
    directory: str,
    say: Callable[[str], None],
    diagnose: Callable[[Run], Diagnosis] | None = None,
    begun: Callable[[Session], None] | None = None,
) -> Launched:
    """Run `program` watched; `say` prints lines of ours while it runs.

    `begun` is told of the session when it begins to listen.

    The program's own output, traceback and exit status are as without us. Raises UsageError where
    there is nothing to run. In a forked child that comes back from the program, exits.
    """
    return _Launch(program, options, directory, say, diagnose, begun).go()


class _Launch:
    def __init__(
        self,
        program: Program,
        options: WatchOptions,
        directory: str,
        say: Callable[[str], None],
        diagnose: Callable[[Run], Diagnosis] | None,
        begun: Callable[[Session], None] | None,
    ) -> None:
        self._program = program
        self._options = options
        self._directory = directory
        self._say = say
        self._diagnose = diagnose
        self._begun = begun
        self._pid = os.getpid()
        self._rank, self._ranks = _ranks()
        self._session: Session | RankedSession | None = None
        self._spawned = Spawned(options, program.command, directory)

    def go(self) -> Launched:
        arrival, children = TorchArrival(self._begin), Children(self._spawned.adopt)
        leave = self._warn_on_exit()
        children.install()
        arrival.wait()
        try:
            outcome = self._program.execute()
        finally:
            arrival.cancel()
            children.remove()
            leave()
        if os.getpid() != self._pid:  # a child that the script forked: it is not watched
            sys.exit(outcome.exit_code)
        try:
            record: Run | Exception = self._record(outcome, children.notes())
        except Exception as error:  # the program's outcome is worth more than our record
            record = error
        self._spawned.close()
        return Launched(outcome, record, self._rank, self._ranks)

    def _begin(self) -> None:
        """Listen from here on: torch has just been imported."""
        if os.getpid() != self._pid:
            return
        try:
            self._session = self._begun_session()
        except Exception as error:  # a failure of ours must not stop the script
            self._say(
                _("cannot watch this script ({error}); it runs on unwatched").format(
                    error=f"{type(error).__name__}: {error}"
                )
            )

    def _begun_session(self) -> Session | RankedSession:
        if self._ranks > 1:
            from unvanish.monitor.ranked import RankedSession

            ranked = RankedSession(
                self._options,
                command=self._program.command,
                directory=self._directory,
                say=self._say,
            )
            ranked.begin()
            return ranked
        from unvanish.monitor.session import Session

        session = Session(
            self._options,
            kind="run",
            command=self._program.command,
            directory=self._directory,
            say=self._say,
            diagnose=self._diagnose,
        )
        session.begin()
        if self._begun is not None:
            self._begun(session)
        return session

    def _record(self, outcome: Outcome, notes: tuple[str, ...]) -> Run:
        """Raises NoSignalError if nothing was traced."""
        session = self._session
        if session is None:
            raise NothingSeen(torch_imported="torch" in sys.modules).error(outcome.error)
        session.end()
        run = session.run(outcome, notes)
        if not run.models:
            workers = self._spawned.run()
            if workers is not None:
                return self._of_workers(workers, outcome, notes)
            raise session.nothing_seen().error(outcome.error)
        return run

    def _of_workers(self, workers: Run, outcome: Outcome, notes: tuple[str, ...]) -> Run:
        """Return the record of spawned workers, ended as the script ended."""
        return replace(
            workers,
            ending=outcome.ending,
            exit_code=outcome.exit_code,
            error=outcome.error,
            notes=(*workers.notes, *notes),
        )

    def _warn_on_exit(self) -> Callable[[], None]:
        """Say what `os._exit` means for us: it ends the process at once, and nothing is saved."""
        original = os._exit

        @functools.wraps(original)
        def warn_and_exit(status: int) -> None:
            if os.getpid() == self._pid and self._rank == 0:
                self._say(_("the script ended itself with os._exit; use sys.exit to get a verdict"))
            original(status)

        os._exit = warn_and_exit  # type: ignore[assignment]

        def restore() -> None:
            os._exit = original

        return restore


def _ranks() -> tuple[int, int]:
    """Return this process's rank and the number of ranks, as torchrun tells them."""
    try:
        return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    except ValueError:
        return 0, 1
