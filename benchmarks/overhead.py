"""What monitoring costs against a bare training step: `make bench-overhead`.

Every way of watching trains a copy of the same model on the same batch in one process; rounds of
steps alternate with rounds of bare steps, and the ratio is formed round by round. A further bare
copy is the control. Results are written after each workload, so that a run can be cut short.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import click
import torch
from models import Workload, _workload, mlp, transformer
from rich.console import Console
from rich.table import Table
from torch import nn

import unvanish

os.environ.update(WANDB_MODE="offline", WANDB_SILENT="true")
Way = Callable[[Workload, Path], AbstractContextManager[Callable[[], None]]]


def small_parameters() -> Workload:
    """1,000 layers of width 16: 2,000 small parameters."""
    return _workload(nn.Sequential(*[nn.Linear(16, 16) for _ in range(1000)]), 32, 16)


WORKLOADS = {
    "MLP 20x512, batch 128": mlp,
    "transformer 6x256": transformer,
    "2,000 small parameters": small_parameters,
}


@contextlib.contextmanager
def bare(work: Workload, directory: Path) -> Iterator[Callable[[], None]]:
    yield work.step


def ours(**options: Any) -> Way:
    @contextlib.contextmanager
    def way(work: Workload, directory: Path) -> Iterator[Callable[[], None]]:
        monitor = unvanish.monitor(work.model, work.optimizer, directory=directory, **options)
        # A process has one listener at work at a time: the others are out of torch meanwhile.
        monitor._listener.remove()

        def step() -> None:
            work.step()

        step.resume, step.pause = monitor._listener.install, monitor._listener.remove
        yield step
        monitor.close()

    return way


def wandb_watch(log_freq: int) -> Way:
    @contextlib.contextmanager
    def way(work: Workload, directory: Path) -> Iterator[Callable[[], None]]:
        import wandb

        # `watch` logs to the run that is current in the process.
        with wandb.init(dir=str(directory), project="bench", reinit=True) as run:
            wandb.watch(work.model, log_freq=log_freq)

            def step() -> None:
                work.step()
                run.log({"step": 1})

            yield step

    return way


def histograms(every: int) -> Way:
    @contextlib.contextmanager
    def way(work: Workload, directory: Path) -> Iterator[Callable[[], None]]:
        from torch.utils.tensorboard import SummaryWriter

        count = 0
        with SummaryWriter(str(directory / f"tb{every}")) as writer:

            def step() -> None:
                nonlocal count
                work.loss().backward()
                if count % every == 0:
                    for name, parameter in work.model.named_parameters():
                        writer.add_histogram(name, parameter, count)
                        writer.add_histogram(f"{name}.grad", parameter.grad, count)
                count += 1
                work.optimizer.step()
                work.optimizer.zero_grad()

            yield step

    return way


@contextlib.contextmanager
def grad_norm(work: Workload, directory: Path) -> Iterator[Callable[[], None]]:
    """Lightning's grad_norm, logged each step: one number read for each parameter."""
    from pytorch_lightning.utilities import grad_norm as of

    def step() -> None:
        work.loss().backward()
        {name: float(value) for name, value in of(work.model, 2).items()}
        work.optimizer.step()
        work.optimizer.zero_grad()

    yield step


@contextlib.contextmanager
def detect_anomaly(work: Workload, directory: Path) -> Iterator[Callable[[], None]]:
    def step() -> None:
        with torch.autograd.detect_anomaly(check_nan=True):
            work.step()

    yield step


WAYS: dict[str, Way] = {
    "bare again (control)": bare,
    "unvanish cheap, default": ours(level="cheap"),
    "unvanish standard, default": ours(level="standard"),
    "unvanish full, default": ours(level="full"),
    "unvanish cheap, every step": ours(level="cheap", every=1),
    "wandb.watch, default": wandb_watch(1000),
    "wandb.watch, every step": wandb_watch(1),
    "TensorBoard histograms, every 100": histograms(100),
    "TensorBoard histograms, every 10": histograms(10),
    "TensorBoard histograms, every step": histograms(1),
    "Lightning grad_norm, every step": grad_norm,
    "detect_anomaly": detect_anomaly,
}


def _timed(step: Callable[[], None], steps: int) -> float:
    resume, pause = getattr(step, "resume", None), getattr(step, "pause", None)
    if resume:
        resume()
    started = time.perf_counter()
    for _ in range(steps):
        step()
    seconds = time.perf_counter() - started
    if pause:
        pause()
    return seconds


def measure(
    build: Callable[[], Workload], way: Way, steps: int, rounds: int, warm: int
) -> tuple[float, float, float]:
    """Return lower quartile, median and upper quartile of the ratio to bare rounds."""
    torch.manual_seed(0)
    reference, work = build(), build()
    ratios = []
    with tempfile.TemporaryDirectory() as name, way(work, Path(name)) as step:
        _timed(reference.step, 3)
        _timed(step, warm)  # the dense looks at the start of a run are over then
        for number in range(rounds):
            order = [(reference.step, 0), (step, 1)]
            taken = [0.0, 0.0]
            for one, place in order if number % 2 else reversed(order):
                taken[place] = _timed(one, steps)
            ratios.append(taken[1] / taken[0])
    low, middle, high = statistics.quantiles(ratios, n=4)
    return low, middle, high


@click.command()
@click.option("--rounds", default=8, show_default=True)
@click.option("--steps", default=25, show_default=True, help="steps in a round")
@click.option("--warm", default=17, show_default=True, help="steps before the first round")
@click.option("--only", help="ways whose name holds this")
@click.option("--workload", default="", help="workloads whose name holds this")
@click.option("--json", "json_path", type=click.Path(path_type=Path))
def main(
    rounds: int, steps: int, warm: int, only: str | None, workload: str, json_path: Path | None
) -> None:
    """Print the ratio of a watched step to a bare one."""
    figures: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} used",
        "torch": str(torch.__version__),
        "rounds": rounds,
        "steps in a round": steps,
        "ratios (quartiles)": {},
    }
    found = figures["ratios (quartiles)"]
    chosen = {name: build for name, build in WORKLOADS.items() if workload in name}
    table = Table("", *chosen, title="median ratio to a bare step (quartiles)")
    for name, way in WAYS.items():
        if only and only not in name:
            continue
        cells = []
        for place, build in chosen.items():
            low, middle, high = measure(build, way, steps, rounds, warm)
            found.setdefault(place, {})[name] = [round(x, 4) for x in (low, middle, high)]
            cells.append(f"{middle:.3f} ({low:.3f} to {high:.3f})")
            if json_path is not None:
                json_path.write_text(json.dumps(figures, indent=2) + "\n")
        table.add_row(name, *cells)
        Console(stderr=True).print(name, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
