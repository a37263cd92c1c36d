"""Runs on disk: one file a run, `<id>.run`, in the `.unvanish` directory.

A file is written under a temporary name, flushed to the disk and renamed, so that a reader never
sees half a run, and two writers cannot disturb each other: their ids differ. Whatever may have
written a file, reading it runs no code (see `codec`).
"""

from __future__ import annotations

from unvanish.store.files import SUFFIX, RunSummary, load, runs, save
from unvanish.store.identity import new_id

__all__ = ["SUFFIX", "RunSummary", "load", "new_id", "runs", "save"]
