"""`with unvanish.watch():` does in a notebook cell what `unvanish run` does for a script."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from unvanish import store
from unvanish.diagnose import diagnose
from unvanish.diagnose.config import load_config
from unvanish.errors import StorageError
from unvanish.i18n import _
from unvanish.monitor.program import outcome_of
from unvanish.monitor.schedule import DEFAULT_EVERY, Schedule, WatchOptions
from unvanish.monitor.session import Session
from unvanish.monitor.voice import stderr_lines
from unvanish.records import Diagnosis
from unvanish.report.terminal import render
from unvanish.shown import Shown


class watch(Shown):  # noqa: N801  # used like a function, as contextlib's are
    """Watch the training inside a `with` block, then show the verdict.

        with unvanish.watch() as watched:
            trainer.fit(model)
        watched.diagnosis

    Nothing of the training is changed. Blocks may be nested and run again. An exception in the
    block goes on after the verdict.
    """

    def __init__(
        self,
        *,
        every: int = DEFAULT_EVERY,
        probe: bool = True,
        save: bool = True,
        quiet: bool = False,
    ) -> None:
        """Trace steps 0, 1, 2, 4, 8, … and each multiple of `every`.

        `probe` also sends random signals backward, on a replay of the sampled batches; `save`
        keeps the run under .unvanish/ of the current directory; `quiet` prints nothing.
        Raises UsageError for a negative `every`, or a faulty [tool.unvanish].
        """
        self.diagnosis: Diagnosis | None = None
        self.saved: Path | None = None
        self._start = Path.cwd()
        kept = self._start / ".unvanish" if save else None
        self._options = WatchOptions(Schedule(every), probe, store=kept)
        self._config = load_config(self._start)
        self._save = save
        self._quiet = quiet
        self._session: Session | None = None

    def __enter__(self) -> watch:
        self.diagnosis, self.saved = None, None
        self._session = Session(
            self._options,
            kind="watch",
            command=tuple(sys.argv),
            directory=str(self._start),
            say=(lambda line: None) if self._quiet else stderr_lines(),
        )
        self._session.begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Show the verdict.

        Raises NoSignalError if the block finished and no backward pass could be traced.
        """
        session, self._session = self._session, None
        assert session is not None
        session.end()
        run = session.run(outcome_of(error))
        if not run.models:
            if error is None:
                raise session.nothing_seen().error()
            return
        self.diagnosis = diagnose(run, self._config)
        if self._save:
            try:
                self.saved = store.save(run, self._start / ".unvanish")
            except StorageError as failure:  # the verdict is worth having all the same
                stderr_lines()(_("error: {message}").format(message=failure))
        if not self._quiet:
            self._tell()

    def __repr__(self) -> str:
        told = "no verdict yet" if self.diagnosis is None else repr(self.diagnosis)[1:-1]
        return f"<unvanish.watch: {told}>"

    def __str__(self) -> str:
        if self.diagnosis is None:
            return repr(self)
        stream = io.StringIO()
        self._print(file=stream, width=100)
        return stream.getvalue()

    def _print(self, **console: Any) -> None:
        from rich.console import Console  # behind `report`, which puts back what rich draws

        assert self.diagnosis is not None
        render(self.diagnosis, Console(**console), saved=self.saved)

    def _fragment(self) -> str:
        from unvanish.report.fragments import fragment
        from unvanish.report.rich_html import to_html

        if self.diagnosis is None:
            return to_html([_("No verdict yet: it comes when the block ends.")])
        kept = [_("Saved as {path}").format(path=self.saved)] if self.saved is not None else []
        return fragment(self.diagnosis) + to_html(kept)

    def _tell(self) -> None:
        """Show the verdict: in a notebook as it shows itself there, else on stderr."""
        shell = sys.modules.get("IPython")
        session = shell.get_ipython() if shell is not None else None
        if hasattr(session, "kernel"):
            from IPython.display import display

            display(self)
        else:
            self._print(stderr=True)
