"""Watching a training loop in this process, without a verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from unvanish.monitor.program import Outcome
from unvanish.monitor.schedule import Schedule, WatchOptions
from unvanish.monitor.session import Session
from unvanish.records import Run


class Watched:
    """A session, the lines it said, and its record once the block is over."""

    def __init__(self, session: Session, lines: list[str]) -> None:
        self.session = session
        self.lines = lines
        self.run: Run


@contextmanager
def watching(
    *,
    every: int = 1,
    probe: bool = True,
    steps: int | None = None,
    at: frozenset[int] = frozenset(),
    spectrum: bool = False,
) -> Iterator[Watched]:
    lines: list[str] = []
    session = Session(
        WatchOptions(Schedule(every, at), probe, steps, spectrum=spectrum),
        kind="watch",
        command=(),
        directory=".",
        say=lines.append,
    )
    watched = Watched(session, lines)
    session.begin()
    try:
        yield watched
    finally:
        session.end()
        watched.run = session.run(Outcome("finished", 0))


@pytest.fixture
def watch_loop() -> Callable[..., Run]:
    """Return the record of a loop; fails if measuring failed."""

    def watch(loop: Callable[[], object], *, every: int = 1, probe: bool = True) -> Run:
        with watching(every=every, probe=probe) as watched:
            loop()
        assert watched.lines == []
        return watched.run

    return watch
