"""Runs on disk, under `.unvanish` of the directory where they were started.

    contract.py   what any store promises
    schema.py     the tables of the database, and migrations
    rows.py       what stands in a row of them
    database.py   the store in use: one SQLite file, `runs.db`
    writer.py     adding to a run that goes on
    pyramid.py    many samples as one, ever coarser
    thinning.py   what is kept of a long run
    overview.py   a long run in a bounded number of points
    derived.py    numbers of a run of which only a record is there
    files.py      one run in a file of its own, `<id>.run`
    fixes.py      results of `unvanish fix`, `<id>.fix`
    directory.py  both together: saving, finding, listing
    identity.py   names of runs

A run is added to while it goes on, so that a killed process loses its last sample at most, and
others read at the same time. Whatever may have written a record, reading it runs no code (see
`codec`). The promises stand in docs/store.md.
"""

from __future__ import annotations

from unvanish.store.contract import (
    RETENTION,
    STEPS,
    Batch,
    Overview,
    Progress,
    RunStore,
    RunSummary,
    RunWriter,
)
from unvanish.store.database import NAME as DATABASE
from unvanish.store.database import Database
from unvanish.store.directory import begin, database_of, load, runs, save
from unvanish.store.files import SUFFIX
from unvanish.store.fixes import fixes, load_fix, save_fix
from unvanish.store.identity import new_id

__all__ = [
    "DATABASE",
    "RETENTION",
    "STEPS",
    "SUFFIX",
    "Batch",
    "Database",
    "Overview",
    "Progress",
    "RunStore",
    "RunSummary",
    "RunWriter",
    "begin",
    "database_of",
    "fixes",
    "load",
    "load_fix",
    "new_id",
    "runs",
    "save",
    "save_fix",
]
