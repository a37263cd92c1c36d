"""What a traced step costs against a bare one: `make bench-check`.

Bare and watched steps alternate in one process, and the ratio is formed pair by pair, so that a
machine whose speed drifts drifts for both. Peak memory is that of a process of its own for each
kind of step, with the C library told to give freed blocks back (MALLOC_MMAP_THRESHOLD_), for
otherwise its pools are measured.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import torch
from models import WORKLOADS, Workload
from rich.console import Console
from rich.progress import track
from rich.table import Table

from unvanish.measure import BackwardTracer, CallLog, NameBook, TraceOptions
from unvanish.monitor.schedule import Schedule, WatchOptions
from unvanish.monitor.session import Session

KINDS = {
    "traced, loss signal": 2.0,
    "traced, with a probe": 3.0,
    "watched, not sampled": 1.02,
    "bare again (control)": None,
}
MEMORY_LIMIT = 1.5


class Traced:
    """A step with every op measured."""

    def __init__(self, work: Workload, *, probe: bool) -> None:
        self.work, self.probe = work, probe
        self.log, self.names = CallLog(), NameBook()

    def step(self) -> None:
        self.log.install()
        self.log.active = True
        try:
            loss = self.work.loss()
            options = TraceOptions(probes=1 if self.probe else 0)
            tracer = BackwardTracer([loss], self.log, self.names, options)
            with tracer:
                loss.backward()
            pending = tracer.pending(step=0)
            if self.probe:
                pending.replay()
            pending.resolve()
        finally:
            self.log.remove()
        self.work.optimizer.step()
        self.work.optimizer.zero_grad()


class OnlyTheFirst(Schedule):
    """Samples step 0 and no other."""

    def samples(self, step: int) -> bool:
        return step == 0


class Unsampled:
    """A step under `unvanish run` that is not sampled."""

    def __init__(self, work: Workload) -> None:
        self.work = work
        self.session = Session(
            WatchOptions(OnlyTheFirst(), probe=False),
            kind="watch",
            command=(),
            directory=".",
            say=lambda _line: None,
        )
        self.session.begin()
        for _ in range(3):
            work.step()
        self.session.pause()

    def step(self) -> None:
        self.work.step()


def seconds(step: Callable[[], None]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def ratios(build: Callable[[], Workload], rounds: int) -> dict[str, tuple[float, float, float]]:
    """Return lower quartile, median and upper quartile of the ratio to a bare step, by kind."""
    torch.manual_seed(0)
    work = build()
    traced, probed = Traced(work, probe=False), Traced(work, probe=True)
    unsampled = Unsampled(work)
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for step in (work.step, traced.step, probed.step):
        step()
    for _ in range(rounds):
        for kind, step in zip(KINDS, (traced.step, probed.step, None, work.step), strict=True):
            bare = taken = 0.0
            # Where a difference of a percent counts, more steps make up one pair.
            for _ in range(6 if step in (None, work.step) else 1):
                bare += seconds(work.step)
                if step is None:
                    unsampled.session.resume()
                    taken += seconds(unsampled.step)
                    unsampled.session.pause()
                else:
                    taken += seconds(step)
            found[kind].append(taken / bare)
    unsampled.session.end()
    return {kind: tuple(statistics.quantiles(values, n=4)) for kind, values in found.items()}


def peak_memory(name: str, kind: str) -> int:
    """Return the peak resident size in bytes of a process that runs a few steps of one kind."""
    command = [sys.executable, __file__, "--memory-of", name, "--kind", kind]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(result.stdout.split()[-1])


def _measure_memory(name: str, kind: str) -> None:
    torch.manual_seed(0)
    work = WORKLOADS[name]()
    step = work.step if kind == "bare" else Traced(work, probe=False).step
    for _ in range(4):
        step()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


@click.command()
@click.option("--rounds", default=15, show_default=True, help="pairs of steps for each ratio")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="also write the figures")
@click.option("--memory-of", hidden=True)
@click.option("--kind", hidden=True)
def main(rounds: int, json_path: Path | None, memory_of: str | None, kind: str | None) -> None:
    """Print the cost of a traced step as a ratio to a bare one."""
    if memory_of is not None:
        _measure_memory(memory_of, kind or "bare")
        return
    console = Console()
    table = Table(title=f"median ratio to a bare step (quartiles), {rounds} pairs each")
    for column in ("", *KINDS, "peak memory"):
        table.add_column(column)
    table.add_row(
        "at most", *[f"{limit}" if limit else "" for limit in KINDS.values()], f"{MEMORY_LIMIT}"
    )
    figures: dict[str, dict[str, object]] = {}
    for name, build in track(WORKLOADS.items(), "measuring", console=Console(stderr=True)):
        measured = ratios(build, rounds)
        memory = peak_memory(name, "traced") / peak_memory(name, "bare")
        figures[name] = {**measured, "peak memory": memory}
        cells = [
            f"{median:.3f} ({low:.2f} to {high:.2f})" for low, median, high in measured.values()
        ]
        table.add_row(name, *cells, f"{memory:.2f}")
    console.print(table)
    if json_path is not None:
        json_path.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
