"""What the user asked of a monitor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from unvanish.errors import UnknownNameError
from unvanish.i18n import _
from unvanish.records import Finding, Incident

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
    directory: Path = field(default_factory=Path.cwd)

    def __post_init__(self) -> None:
        """Raise UnknownNameError for a level that does not exist."""
        if self.level not in get_args(Level):
            raise UnknownNameError(
                _("level of detail"),
                str(self.level),
                get_args(Level),
                _("`standard` is the default."),
            )
