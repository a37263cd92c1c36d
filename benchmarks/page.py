"""How long the report of a large run takes to open: `make bench-page`.

A 500-layer network is trained for a few steps under watch; its traces, repeated with other steps,
make a run of 1,000 samples. The page is opened from its file in Chromium until the last picture is
drawn.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch
from browser import chromium
from torch import nn

import unvanish
from unvanish.diagnose import diagnose
from unvanish.records import Run, StepRecord
from unvanish.report.page import render_page

DRAWN = """
const done = arguments[0];
const look = () => document.documentElement.dataset.drawn === 'true'
  ? done(performance.now()) : setTimeout(look, 10);
look();
"""


def large_run(layers: int, samples: int) -> Run:
    """Return a run of `samples` traces of a network of `layers` layers."""
    torch.manual_seed(0)
    body = [part for _ in range(layers // 2) for part in (nn.Linear(16, 16), nn.ReLU())]
    model = nn.Sequential(*body, nn.Linear(16, 10))
    batch = torch.randn(32, 16), torch.randint(10, (32,))

    def loss_fn(model: nn.Module, batch: Any) -> torch.Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    run = unvanish.check(model, batch, loss_fn).run
    (one,) = run.models
    traces = tuple(replace(one.traces[0], step=10 * index) for index in range(samples))
    steps = tuple(StepRecord(step, 2.3, sampled=step % 10 == 0) for step in range(10 * samples))
    return replace(run, models=(replace(one, traces=traces, steps=steps),))


@click.command()
@click.option("--layers", default=500, show_default=True)
@click.option("--samples", default=1000, show_default=True)
@click.option("--repeats", default=5, show_default=True)
def main(layers: int, samples: int, repeats: int) -> None:
    """Print the size of the page, the time to write it, and the time to open it."""
    diagnosis = diagnose(large_run(layers, samples))
    started = time.perf_counter()
    text = render_page(diagnosis)
    written = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        path = Path(folder, "report.html")
        path.write_text(text, encoding="utf-8")
        opened = []
        for _repeat in range(repeats):
            browser.get("about:blank")
            browser.get(path.as_uri())
            opened.append(browser.execute_async_script(DRAWN) / 1000)
    print(
        f"{layers} layers, {samples} samples: {len(text) / 1e6:.1f} MB, written in {written:.1f} s"
    )
    print(f"opened and drawn in {statistics.median(opened):.2f} s (median of {repeats})")


if __name__ == "__main__":
    main()
