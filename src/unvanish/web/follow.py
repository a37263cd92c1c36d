"""A run that goes on: what it has added so far, thinned, and the newest sample.

One follower serves every tab that shows the run; each asks the store only for what is new.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

from unvanish import store
from unvanish.figures.time import thin
from unvanish.records import Finding, Incident, Readings, StepRecord
from unvanish.store import Database
from unvanish.store.contract import State

_KEPT = 16  # runs followed at once
_FRESH = 0.2  # seconds for which an answer of the store is good
_MOST = 2000  # steps of the line of losses
_SHOWN = 200  # alarms and incidents


@dataclass(slots=True)
class Follower:
    """What is known of one run by now."""

    database: Database
    identity: str
    mark: int = 0
    state: State = "running"
    last: StepRecord | None = None
    sampled: StepRecord | None = None  # the newest sample
    steps: list[StepRecord] = field(default_factory=list)  # of the first model
    total: int = 0
    readings: dict[tuple[int, str], Readings] = field(default_factory=dict)
    alarms: list[Finding] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    asked: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self) -> None:
        """Take in what is new. Raises as the store does."""
        with self.lock:
            if time.monotonic() - self.asked < _FRESH:
                return
            found = self.database.progress(self.identity, self.mark)
            self.asked, self.mark, self.state = time.monotonic(), found.mark, found.state
            new = [step for model, step in found.steps if model == 0]
            self.steps += new
            self.total += len(new)
            if new:
                self.last = new[-1]
                self.sampled = next((s for s in reversed(new) if s.sampled), self.sampled)
            if len(self.steps) > 2 * _MOST:
                self.steps = thin(self.steps, _MOST)
            self.readings |= {(model, one.quantity): one for model, one in found.readings}
            self.alarms = [*self.alarms, *found.alarms][-_SHOWN:]
            self.incidents = [*self.incidents, *found.incidents][-_SHOWN:]


class Followers:
    """The followers of one directory's runs."""

    def __init__(self, directory: Path) -> None:
        """Nothing is followed yet."""
        self._directory = directory
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Follower] = OrderedDict()

    def of(self, identity: str) -> Follower:
        """Return the follower of a run that is known to be in this directory."""
        with self._lock:
            follower = self._known.get(identity)
            if follower is None:
                database, name = store.database_of(identity, self._directory)
                follower = self._known[identity] = Follower(database, name)
                while len(self._known) > _KEPT:
                    self._known.popitem(last=False)
            self._known.move_to_end(identity)
        follower.look()
        return follower
