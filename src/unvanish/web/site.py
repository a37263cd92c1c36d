"""What the views share: the runs, the playground, how the server was started."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from unvanish.web.playground import Playground
from unvanish.web.runs import Runs


@dataclass(frozen=True, slots=True)
class Site:
    """One server's state."""

    directory: Path  # of the store
    runs: Runs
    playground: Playground
