"""The runs of one directory, as the page shows them. Each is judged once, in the background."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from unvanish import i18n, store, words
from unvanish.diagnose import diagnose
from unvanish.diagnose.config import Config, load_config
from unvanish.errors import NoSignalError, UnknownNameError, UnvanishError, UsageError
from unvanish.figures.history import MOST_STRETCHES, History, history
from unvanish.i18n import _
from unvanish.records import Diagnosis, Fix, Training, Verdict
from unvanish.store import RunSummary

_KEPT = 6  # diagnosed runs that are kept in memory
_PAUSE, _RARELY = 2.0, 20.0  # a run that goes on is judged anew after so long, in seconds and costs


@dataclass(frozen=True, slots=True)
class Judged:
    """What a list says of a run; None where nothing could be concluded."""

    verdict: Verdict | None
    training: Training | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One run in the list; `judged` is None until its verdict is known."""

    summary: RunSummary
    judged: Judged | None


class Runs:
    """Reads the store in `directory`; used by many threads at once."""

    def __init__(self, directory: Path) -> None:
        """Nothing is read yet; the directory need not exist."""
        self.directory = directory
        self._lock = threading.Lock()
        self._listing: tuple[object, list[RunSummary]] | None = None
        self._verdicts: dict[tuple[str, int], Judged] = {}
        self._diagnoses: OrderedDict[tuple[str, object, str], Diagnosis] = OrderedDict()
        self._recent: dict[tuple[str, str], tuple[float, Diagnosis]] = {}
        self._waiting: queue.SimpleQueue[RunSummary] = queue.SimpleQueue()
        self._asked: set[tuple[str, int]] = set()
        self._worker: threading.Thread | None = None

    def entries(self) -> list[Entry]:
        """Return all runs, the newest first; those not judged yet are given to be judged."""
        entries = []
        for summary in self._summaries():
            key = (summary.id, summary.bytes)
            judged = self._verdicts.get(key)
            if judged is None and summary.head is not None and summary.state != "running":
                self._ask(key, summary)
            entries.append(Entry(summary, judged))
        return entries

    def diagnosis(self, identity: str) -> Diagnosis:
        """Return a run with what is concluded from it, in the language of this thread.

        Raises UnknownNameError for what is no run of this directory (a path, a name of another
        place), NoSignalError for a run without a trace, and as `store.load`.
        """
        self.check(identity)
        key = (identity, self._mark(), i18n.current())
        with self._lock:
            known = self._diagnoses.get(key)
            if known is not None:
                self._diagnoses.move_to_end(key)
                return known
        run = store.load(identity, self.directory)
        if not any(model.traces for model in run.models):
            raise NoSignalError(
                _("this run has no sampled step yet"),
                _("Come back when it has; this page goes on by itself while the run does.")
                if run.ending == "running"
                else _("It ended before its first backward pass was over."),
            )
        made = diagnose(run, self.config())
        with self._lock:
            self._diagnoses[key] = made
            while len(self._diagnoses) > _KEPT:
                self._diagnoses.popitem(last=False)
        return made

    def recent(self, identity: str) -> Diagnosis:
        """Return what is concluded from a run that goes on, a moment ago at most.

        To load and judge a long run takes a while: that is done anew only after many times as long.
        Raises as `diagnosis`.
        """
        key = (identity, i18n.current())
        known = self._recent.get(key)
        if known is not None and time.monotonic() < known[0]:
            return known[1]
        started = time.monotonic()
        made = self.diagnosis(identity)
        ended = time.monotonic()
        self._recent = {key: (ended + max(_PAUSE, _RARELY * (ended - started)), made)}
        return made

    def check(self, identity: str) -> None:
        """Raise UnknownNameError unless `identity` is the id of a run in this directory."""
        ids = self.ids()
        # What ends so the store takes for the name of a file, wherever that is.
        if identity not in ids or identity.endswith((store.SUFFIX, ".db")):
            raise UnknownNameError(
                _("run"),
                words.shorten(words.printable(identity), 80),
                ids[:5],
                _("Choose one from the list of runs."),
            )

    def ids(self) -> list[str]:
        """Return the ids of all runs, the newest first."""
        return [summary.id for summary in self._summaries()]

    def state(self, identity: str) -> str | None:
        """Return "running", "finished" or "killed"; None for a run that is not here."""
        return next((one.state for one in self._summaries() if one.id == identity), None)

    def history(self, identity: str) -> History | None:
        """Return the levels of a run's first model over all its samples; None without samples.

        Raises as `check`.
        """
        self.check(identity)
        try:
            database, name = store.database_of(identity, self.directory)
        except UsageError:  # in a file of its own: the end of a run only
            return None
        for quantity in ("level", "gradient"):
            found = history(database.overview(name, quantity, points=MOST_STRETCHES))
            if found is not None:
                return found
        return None

    def config(self) -> Config:
        """Return the settings that hold where the server was started."""
        return load_config(Path.cwd())

    def fixes(self) -> list[tuple[str, Fix]]:
        """Return what `unvanish fix` has kept in this directory, the newest first."""
        return store.fixes(self.directory)

    def fix(self, identity: str) -> Fix:
        """Return one of `fixes`. Raises UnknownNameError for any other name."""
        known = dict(self.fixes())
        if identity not in known:
            raise UnknownNameError(
                _("result of `unvanish fix`"),
                words.shorten(words.printable(identity), 80),
                list(known)[:5],
                _("Choose one from the list of runs."),
            )
        return known[identity]

    def _summaries(self) -> list[RunSummary]:
        """Return the summaries of all runs, read again only where a file has changed."""
        mark = self._mark()
        with self._lock:
            if self._listing is not None and self._listing[0] == mark and self._settled():
                return self._listing[1]
        found = store.runs(self.directory)
        with self._lock:
            self._listing = (mark, found)
        return found

    def _settled(self) -> bool:
        """Whether no run goes on: the death of a process changes no file."""
        assert self._listing is not None
        return all(one.state != "running" for one in self._listing[1])

    def _mark(self) -> object:
        """Return what changes whenever a file of the store does."""
        names = (store.DATABASE, f"{store.DATABASE}-wal")
        paths = [self.directory / name for name in names]
        paths += sorted(self.directory.glob(f"*{store.SUFFIX}"))
        return tuple(filter(None, map(_stamp, paths)))

    def _ask(self, key: tuple[str, int], summary: RunSummary) -> None:
        with self._lock:
            if key in self._asked:
                return
            self._asked.add(key)
            if self._worker is None:
                self._worker = threading.Thread(target=self._judge, daemon=True)
                self._worker.start()
        self._waiting.put(summary)

    def _judge(self) -> None:
        while True:
            summary = self._waiting.get()
            try:
                made = diagnose(store.load(summary.id, self.directory), self.config())
                judged = Judged(made.verdict, made.training)
            except UnvanishError:  # nothing was traced, or the record is damaged further on
                judged = Judged(None, None)
            self._verdicts[summary.id, summary.bytes] = judged


def _stamp(path: Path) -> tuple[str, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return path.name, found.st_mtime_ns, found.st_size
