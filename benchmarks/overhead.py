"""What monitoring costs against a bare training step: `make bench-overhead`.

Every way of watching trains a copy of the same model on the same batch in one process, and each of
its steps is paired with a bare step of a second copy, in alternating order. Printed are the median
of the ratios, and the ratio of the sums (which holds the steps that are looked at closely in the
share in which they come), each with a 95 % bootstrap interval. A further bare copy is the control.
Pairs are added until the interval is narrow enough or there are enough of them. Results are written
as they come; what is in the file is not measured again unless told.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from models import Workload, mlp, transformer, workload
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

import unvanish
from unvanish.errors import UnvanishWarning

os.environ.update(WANDB_MODE="offline", WANDB_SILENT="true")
Way = Callable[[Workload, Path], AbstractContextManager[Callable[[], None]]]


class Residual(nn.Module):
    """A layer with a skip around it, so that 1,000 of them train."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.03 * torch.tanh(self.inner(x))


def small_parameters() -> Workload:
    """1,000 residual layers of width 16: 2,000 small parameters."""
    return workload(nn.Sequential(*[Residual(16) for _ in range(1000)]), 32, 16)


WORKLOADS = {
    "MLP 20x512, batch 128": mlp,
    "transformer 6x256": transformer,
    "2,000 small parameters": small_parameters,
}


class PausedClock:
    """Seconds, without those in which the watched copy waits for the bare one."""

    def __init__(self) -> None:
        self._out = 0.0
        self._since = time.perf_counter()

    def pause(self) -> None:
        self._since = time.perf_counter()

    def resume(self) -> None:
        self._out += time.perf_counter() - self._since

    def __call__(self) -> float:
        return time.perf_counter() - self._out


@contextlib.contextmanager
def bare(work: Workload, directory: Path) -> Iterator[Callable[[], None]]:
    yield work.step


def ours(**options: Any) -> Way:
    @contextlib.contextmanager
    def way(work: Workload, directory: Path) -> Iterator[Callable[[], None]]:
        monitor = unvanish.monitor(work.model, work.optimizer, directory=directory, **options)
        # A process has one listener at work at a time, and the budget is a share of the time of
        # the watched run: both are out while the bare copy steps.
        clock = monitor._cadence._clock = PausedClock()
        monitor._cadence._began = monitor._cadence._mark = clock()
        monitor._listener.remove()
        clock.pause()

        def step() -> None:
            work.step()

        def resume() -> None:
            monitor._listener.install()
            clock.resume()

        def pause() -> None:
            clock.pause()
            monitor._listener.remove()

        step.resume, step.pause = resume, pause
        yield step
        assert not monitor.closed, monitor.notes
        resume()
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


def module_monitor(every: int) -> Way:
    """torch-module-monitor with the norms of activations, parameters and gradients."""

    @contextlib.contextmanager
    def way(work: Workload, directory: Path) -> Iterator[Callable[[], None]]:
        from torch_module_monitor import ModuleMonitor

        monitor = ModuleMonitor(monitor_step_fn=lambda step: step % every == 0)
        monitor.set_module(work.model)
        monitor.add_activation_metric("norm", lambda x: x.norm())
        monitor.add_parameter_metric("norm", lambda x: x.norm())
        monitor.add_gradient_metric("norm", lambda x: x.norm())
        count = 0

        def step() -> None:
            nonlocal count
            monitor.begin_step(count)
            work.loss().backward()
            monitor.monitor_parameters()
            monitor.monitor_gradients()
            work.optimizer.step()
            work.optimizer.zero_grad()
            monitor.end_step()
            if monitor.is_step_monitored(count):
                monitor.get_step_metrics()
            count += 1

        yield step

    return way


@contextlib.contextmanager
def monitorch(work: Workload, directory: Path) -> Iterator[Callable[[], None]]:
    """Monitorch with norms of parameters and of their gradients (its cadence is the epoch)."""
    from monitorch.inspector import PyTorchInspector
    from monitorch.lens import ParameterGradientGeometry, ParameterNorm
    from monitorch.visualizer import DummyVisualizer

    inspector = PyTorchInspector(
        lenses=[ParameterGradientGeometry(), ParameterNorm()],
        module=work.model,
        visualizer=DummyVisualizer(),
    )
    yield work.step
    inspector.tick_epoch()


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
    "torch-module-monitor, every 20 (its default)": module_monitor(20),
    "torch-module-monitor, every step": module_monitor(1),
    "monitorch (every step)": monitorch,
    "detect_anomaly (every step)": detect_anomaly,
}


_LEAST, _BLOCK = 20, 20  # pairs
_NARROW = 0.004  # half the interval of the median, and below a fortieth of what a way costs


def _timed(step: Callable[[], None]) -> float:
    resume, pause = getattr(step, "resume", None), getattr(step, "pause", None)
    if resume:
        resume()
    started = time.perf_counter()
    step()
    seconds = time.perf_counter() - started
    if pause:
        pause()
    return seconds


def _interval(
    pairs: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]
) -> tuple[float, float, float]:
    """Return a statistic of the pairs (bare, watched) with its 95 % bootstrap interval."""
    drawn = np.random.default_rng(0).integers(len(pairs), size=(1000, len(pairs)))
    low, high = np.quantile(statistic(pairs[drawn]), (0.025, 0.975))
    return float(statistic(pairs[None])[0]), float(low), float(high)


def _median(pairs: np.ndarray) -> np.ndarray:
    return np.median(pairs[..., 1] / pairs[..., 0], axis=-1)


def _amortised(pairs: np.ndarray) -> np.ndarray:
    return pairs[..., 1].sum(-1) / pairs[..., 0].sum(-1)


def measure(
    build: Callable[[], Workload], way: Way, most: int, warm: int, seconds: float
) -> dict[str, Any]:
    """Return the ratios of a watched step to a bare one, from at most `seconds` of pairs.

    In one half of them the bare copy was made first, in the other the watched one: which of two
    copies lies better in memory can be worth several hundredths.
    """
    found = [
        pair
        for bare_first in (True, False)
        for pair in _pairs(build, way, bare_first, most // 2, warm, seconds / 2)
    ]
    array = np.array(found)
    return {
        "median ratio": [round(x, 4) for x in _interval(array, _median)],
        "amortised ratio": [round(x, 4) for x in _interval(array, _amortised)],
        "bare step, ms": round(float(np.median(array[:, 0])) * 1e3, 2),
        "pairs": len(found),
    }


def _pairs(
    build: Callable[[], Workload],
    way: Way,
    bare_first: bool,
    most: int,
    warm: int,
    seconds: float,
) -> list[tuple[float, float]]:
    """Return seconds of bare and watched steps, pair by pair."""
    made = []
    for _ in range(2):
        torch.manual_seed(0)
        made.append(build())
    reference, work = made if bare_first else reversed(made)
    pairs: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as name, way(work, Path(name)) as step:
        began = time.perf_counter()
        for _ in range(5):
            reference.step()
        for number in range(warm):
            _timed(step)
            if number >= _LEAST and time.perf_counter() - began > seconds:
                break
        began = time.perf_counter()
        while len(pairs) < _LEAST or (len(pairs) < most and time.perf_counter() - began < seconds):
            for number in range(_BLOCK):
                if number % 2:
                    bare_seconds = _timed(reference.step)
                    watched = _timed(step)
                else:
                    watched = _timed(step)
                    bare_seconds = _timed(reference.step)
                pairs.append((bare_seconds, watched))
            middle, low, high = _interval(np.array(pairs), _median)
            narrow = high - low < 2 * max(_NARROW, (middle - 1) / 40)
            # A cheap way is followed to the end: its closer looks are rare.
            if len(pairs) >= _LEAST and narrow and middle > 1.1:
                break
    return pairs


@click.command()
@click.option("--pairs", default=400, show_default=True, help="the most pairs of steps")
@click.option("--warm", default=130, show_default=True, help="steps of ours before the first pair")
@click.option("--seconds", default=30, show_default=True, help="the most time that a way takes")
@click.option("--only", default="", help="ways whose name holds this")
@click.option("--workload", default="", help="workloads whose name holds this")
@click.option("--again", is_flag=True, help="measure also what the file has")
@click.option("--json", "json_path", type=click.Path(path_type=Path))
def main(
    pairs: int,
    warm: int,
    seconds: int,
    only: str,
    workload: str,
    again: bool,
    json_path: Path | None,
) -> None:
    """Print the ratio of a watched step to a bare one."""
    warnings.simplefilter("ignore", UnvanishWarning)
    figures: dict[str, Any] = {"ratios": {}}
    if json_path is not None and json_path.exists():
        figures = json.loads(json_path.read_text())
    figures["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, 1 used"
    figures["torch"] = str(torch.__version__)
    torch.set_num_threads(1)
    wanted = [
        (place, name)
        for place in WORKLOADS
        for name in WAYS
        if workload in place
        and only in name
        and (again or name not in figures["ratios"].get(place, {}))
    ]
    console = Console(stderr=True)
    for place, name in track(wanted, "measuring", console=console):
        # The dense looks at the start of a run of ours are over after `warm` steps.
        before = warm if name.startswith("unvanish") else 5
        found = measure(WORKLOADS[place], WAYS[name], pairs, before, seconds)
        known = figures["ratios"].get(place, {}) | {name: found}
        figures["ratios"][place] = {name: known[name] for name in WAYS if name in known}
        console.print(place, "|", name, "|", *found["median ratio"], "|", *found["amortised ratio"])
        if json_path is not None:
            json_path.write_text(json.dumps(figures, indent=2) + "\n")
    table = Table("", *WORKLOADS, title="median ratio to a bare step (amortised)")
    for name in WAYS:
        cells = [figures["ratios"].get(place, {}).get(name) for place in WORKLOADS]
        if any(cells):
            table.add_row(name, *(_cell(cell) for cell in cells))
    Console().print(table)


def _cell(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    middle, low, high = found["median ratio"]
    return f"{middle:.3f} ±{(high - low) / 2:.3f} ({found['amortised ratio'][0]:.3f})"


if __name__ == "__main__":
    main()
