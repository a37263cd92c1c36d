"""Which backward passes to trace.

That must be known before a pass runs, and whose pass it was only shows at the next optimiser step.
So the places in the script that call backward are remembered with the models whose steps claimed
what came from there: a pass is traced when one of these models has a sampled step next.
"""

from __future__ import annotations

from collections.abc import Sequence

from unvanish.monitor.lane import Lane
from unvanish.monitor.schedule import Schedule

_MOST = 256  # places; a script with more (code made on the fly) is sampled by those known
_QUIET_AFTER = 64  # backward passes of others after which a model no longer keeps us alert


class Sites:
    """The places that call backward, and the lanes they belong to."""

    def __init__(self, schedule: Schedule, lanes: Sequence[Lane]) -> None:
        """`lanes` is the watcher's own list, which grows."""
        self._schedule = schedule
        self._lanes = lanes
        self._owners: dict[int, set[Lane]] = {}
        self._curious = False  # a new place called backward while nobody looked

    def owners(self, site: int) -> set[Lane]:
        """Return the lanes whose passes came from `site`; none for a place not known."""
        return self._owners.get(site, set())

    def due(self, lane: Lane) -> bool:
        """Whether the next step of `lane` is a sampled one."""
        return self._schedule.samples(lane.step)

    def alert(self, passes: int, *, newcomers: bool) -> bool:
        """Whether the next forward should be recorded, after `passes` backward passes in all.

        `newcomers`: there are optimisers that have not stepped yet.
        """
        if not self._lanes or self._curious or (newcomers and passes <= _QUIET_AFTER):
            return True
        return any(
            self.due(lane) and passes - lane.last_seen <= _QUIET_AFTER for lane in self._lanes
        )

    def wants(self, site: int, passes: int, *, recorded: bool) -> bool:
        """Whether to trace the pass that begins at `site`; `recorded`: its forward was seen."""
        owners = self._owners.get(site)
        for lane in owners or ():
            lane.last_seen = passes
        if owners is None and len(self._owners) >= _MOST:
            return False
        if not recorded:
            self._curious = self._curious or owners is None
            return False
        return owners is None or any(self.due(lane) for lane in owners)

    def traced(self, site: int) -> None:
        """Remember that a pass from `site` was traced, whoever will claim it."""
        self._curious = False
        self._owners.setdefault(site, set())

    def claimed(self, site: int, lane: Lane) -> None:
        """Remember that a traced pass from `site` was one of `lane`."""
        self._owners.setdefault(site, set()).add(lane)
