"""The records of the zoo: a small file each, so that rules of a later day judge them again."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

from unvanish import codec
from unvanish.records import Run


def keep(run: Run, directory: Path) -> str:
    """Write `run` into `directory`, and return the name of its file.

    Without the single ops of its traces, which are most of a record: only FS102 reads them, of
    graph convolutions, which are not in the zoo.
    """
    models = tuple(
        replace(model, traces=tuple(replace(trace, ops=()) for trace in model.traces))
        for model in run.models
    )
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"{run.id}.run.gz"
    file.write_bytes(gzip.compress(codec.encode_run(replace(run, models=models)), 5))
    return file.name


def read(name: str, directory: Path) -> Run:
    """Return the record in the file `name`. Raises OSError where there is none."""
    return codec.decode_run(gzip.decompress((directory / name).read_bytes()))
