"""A run of a million steps in the store: `make bench-store`.

Each step is one sample: its record, and a number for each parameter in each quantity. It is added

- `one by one`: gradients, each sample a transaction of its own, kept when `add` returns;
- `as the monitor does`: gradients and weights, through its journal, which joins the light looks of
  two seconds into one transaction.

Then it is read: the overview that a plot needs (each time by a connection of its own), and all that
is kept. Other programs slow this down; the CPU time says what it takes by itself.
"""

from __future__ import annotations

import json
import os
import platform
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TimeRemainingColumn
from rich.table import Table

from unvanish import store
from unvanish.monitor.journal import Journal
from unvanish.records import ModelRun, Readings, StepRecord
from unvanish.store import Batch
from unvanish.testing.conformance import example_run

QUANTITIES = {"one by one": ("gradient",), "as the monitor does": ("gradient", "weight")}
POINTS = 1000
_VARIANTS = 64  # different samples, made beforehand: making them is not what is timed


def samples(steps: int, parameters: int, quantities: tuple[str, ...]) -> Iterator[Batch]:
    """Yield a batch for each step, with a spike in the middle."""
    names = tuple(f"blocks.{index // 2}.linear.{index % 2}.weight" for index in range(parameters))
    generator = random.Random(0)
    drawn = [tuple(generator.gauss(-3, 0.5) for _ in names) for _ in range(_VARIANTS)]
    spike = tuple(9.0 for _ in names)
    for step in range(steps):
        values = spike if step == steps // 2 else drawn[step % _VARIANTS]
        yield Batch(
            steps=(StepRecord(step, 2.5, lr=(1e-3,), gradient_log10=values[0]),),
            readings=tuple(Readings(quantity, step, names, values) for quantity in quantities),
        )


def write(way: str, directory: Path, steps: int, parameters: int) -> dict[str, Any]:
    """Write the run in one of the two ways; return what it took."""
    run = replace(example_run(), id="long")
    if way == "one by one":
        writer = store.begin(run, directory)
        add: Callable[[Batch], object] = writer.add
    else:
        journal = Journal(run, directory, say=print)

        def add(batch: Batch) -> None:
            journal.add(batch, at_once=False)

    add(Batch(facts=ModelRun("net", "Net", ())))
    pauses, size = [0.0] * 20, 0
    bar = Progress(SpinnerColumn(), *Progress.get_default_columns()[:2], MofNCompleteColumn(),
                   TimeRemainingColumn(), console=Console(stderr=True))  # fmt: skip
    began, cpu = time.perf_counter(), time.process_time()
    with bar:
        task = bar.add_task(way, total=steps)
        for batch in samples(steps, parameters, QUANTITIES[way]):
            before = time.perf_counter()
            add(batch)
            pause = time.perf_counter() - before
            if pause > pauses[0]:
                pauses = sorted([*pauses[1:], pause])
            if batch.steps[0].step % 1000 == 999:
                bar.update(task, advance=1000)
                size = max(size, sum(file.stat().st_size for file in directory.iterdir()))
        if way != "one by one":
            journal.flush()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    (writer if way == "one by one" else journal).close()
    return {
        "samples_per_second": round(steps / seconds),
        "samples_per_second_of_cpu": round(steps / cpu),
        "longest_pause_ms": round(1e3 * pauses[-1], 1),
        "twentieth_longest_pause_ms": round(1e3 * pauses[0], 1),
        "largest_megabytes_with_log": round(size / 1e6, 1),
        "megabytes": round(sum(file.stat().st_size for file in directory.iterdir()) / 1e6, 1),
    }


def read(directory: Path, steps: int) -> dict[str, Any]:
    """Read the run in several ways; return how long each took, in milliseconds."""
    database = store.Database(directory)

    def overview(quantity: str, **part: int) -> Any:
        return database.overview("long", quantity, points=POINTS, **part)

    found = overview("gradient")
    assert found.count.sum() == steps
    assert found.high.max() == 9.0, "the spike of one step is not seen"
    ways: dict[str, Callable[[], Any]] = {
        "overview_ms": lambda: overview("gradient"),
        "overview_of_steps_ms": lambda: overview("steps"),
        "overview_of_the_last_tenth_ms": lambda: overview("gradient", first=steps * 9 // 10),
        "all_kept_samples_ms": lambda: database.series("long", "gradient"),
        "run_ms": lambda: database.load("long"),
    }
    return {
        "points": len(found.first),
        **{name: round(1e3 * _median(do), 1) for name, do in ways.items()},
        "kept_samples": len(database.series("long", "gradient")),
    }


def _median(do: Callable[[], Any], repeats: int = 7) -> float:
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        do()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _here() -> Path:
    """Return where runs of this directory are kept: the disk that is asked about."""
    place = Path(".unvanish")
    place.mkdir(exist_ok=True)
    return place


@click.command()
@click.option("--steps", default=1_000_000, show_default=True)
@click.option("--parameters", default=300, show_default=True)
@click.option("--json", "path", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--directory", type=click.Path(file_okay=False, path_type=Path),
              help="where to write; a disk, not memory")  # fmt: skip
def main(steps: int, parameters: int, path: Path | None, directory: Path | None) -> None:
    """Write and read, and print what it took; --json keeps it after each way."""
    result: dict[str, Any] = {
        "steps": steps,
        "parameters": parameters,
        "retention": store.RETENTION,
        "machine": {
            "cores": os.cpu_count(),
            "load_when_started": os.getloadavg()[0],
            "platform": platform.platform(),
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
        },
        "ways": {},
    }
    table = Table("", *QUANTITIES)
    for way in QUANTITIES:
        with tempfile.TemporaryDirectory(dir=directory or _here()) as place:
            written = write(way, Path(place), steps, parameters)
            result["ways"][way] = written | read(Path(place), steps)
        if path is not None:
            path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for name in result["ways"]["one by one"]:
        table.add_row(name.replace("_", " "), *(str(one[name]) for one in result["ways"].values()))
    Console().print(table)


if __name__ == "__main__":
    main()
