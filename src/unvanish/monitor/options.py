"""What the user asked of a monitor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from unvanish.errors import UnknownNameError, UsageError
from unvanish.i18n import _
from unvanish.monitor.schedule import Schedule
from unvanish.records import Finding, Incident
from unvanish.store import RETENTION
from unvanish.store.thinning import check_retention

Level = Literal["cheap", "standard", "full"]


@dataclass(frozen=True, slots=True)
class MonitorOptions:
    """See `unvanish.monitor`."""

    every: int | None = None
    level: Level = "standard"
    overhead: float | None = 0.01
    sinks: tuple[Any, ...] = ()
    on_alarm: Callable[[Finding], object] | None = None
    on_incident: Callable[[Incident], object] | None = None
    at: frozenset[int] = frozenset()
    save: bool = True
    retention: int | None = RETENTION
    directory: Path = field(default_factory=Path.cwd)
    timeout: float = 60.0  # seconds that a rank waits for another one
    # What `unvanish run` says of itself when it watches by monitors:
    kind: Literal["monitor", "run"] = "monitor"
    id: str | None = None  # of the run; None: a new one
    command: tuple[str, ...] | None = None
    schedule: Schedule | None = None  # in place of a cadence with a budget
    say: Callable[[str], None] | None = None  # in place of Python warnings

    def __post_init__(self) -> None:
        """Raise UnknownNameError for a level that does not exist, UsageError for a number."""
        check_retention(self.retention)
        if self.level not in get_args(Level):
            raise UnknownNameError(
                _("level of detail"),
                str(self.level),
                get_args(Level),
                _("`standard` is the default."),
            )
        if not self.timeout > 0:
            raise UsageError(
                _("timeout must be above 0, and is {timeout}").format(timeout=self.timeout),
                _("Give the seconds that a rank may wait for another one, such as 60."),
            )
