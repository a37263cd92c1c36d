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
# A model whose step is due, and does not come, keeps us alert only for so many passes of others.
_PATIENCE = 64
# The same where its places are used by others (a training function, called for model after model).
_PASSED_OVER = 16


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
        if not self._lanes or self._curious or (newcomers and passes <= _PATIENCE):
            return True
        return any(self._expected(lane, passes) for lane in self._lanes)

    def wants(self, site: int, passes: int, *, recorded: bool) -> bool:
        """Whether to trace the pass that begins at `site`; `recorded`: its forward was seen."""
        owners = self._owners.get(site)
        if owners is None and len(self._owners) >= _MOST:
            return False
        if not recorded:
            self._curious = self._curious or owners is None
            return False
        return owners is None or any(self._expected(lane, passes) for lane in owners)

    def named(self, site: int) -> bool:
        """Whether the pass that begins at `site` is of a step that was asked for by its number.

        Where none was, that is the first.
        """
        steps = {lane.step for lane in self.owners(site)} or {0}
        return not steps.isdisjoint(self._schedule.at or {0})

    def traced(self, site: int) -> None:
        """Remember that a pass from `site` was traced, whoever will claim it."""
        self._curious = False
        self._owners.setdefault(site, set())

    def claimed(self, site: int, lane: Lane) -> None:
        """Remember that a traced pass from `site` was one of `lane`."""
        owners = self._owners.setdefault(site, set())
        for other in owners:
            other.passed_over += 1
        owners.add(lane)
        lane.passed_over = 0

    def _expected(self, lane: Lane, passes: int) -> bool:
        """Whether a sampled step of `lane` is due, and likely to come."""
        return (
            self.due(lane)
            and passes - lane.last_seen <= _PATIENCE
            and lane.passed_over < _PASSED_OVER
        )
