"""How fast the live page answers: `make bench-serve`. Needs Chromium.

Sliders: from the input event to the redrawn figure, in a real browser, one move after the other.
Live: from the end of a training step, as the script itself noted it, to its sample on the page.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from browser import chromium

LIMIT_MS = 150.0  # median of a slider's moves
LIMIT_S = 2.0  # of a sample

# Moves a slider through values, each once the figure that the last one changed was drawn.
MOVE = """
const [slider, picture, values, done] = arguments;
const plot = document.querySelector(`#${picture}-plot .js-plotly-plot`);
const input = document.getElementById(slider);
const set = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set;
const times = [];
function next() {
  if (times.length === values.length) { done(times); return; }
  const start = performance.now();
  const drawn = () => {
    plot.removeListener("plotly_afterplot", drawn);
    times.push(performance.now() - start);
    setTimeout(next, 300);
  };
  plot.on("plotly_afterplot", drawn);
  set.call(input, values[times.length]);
  input.dispatchEvent(new Event("input", { bubbles: true }));
}
next();
"""

MOVES: tuple[tuple[str, str, str, Sequence[float]], ...] = (
    ("en/chain", "chain-weight-slider", "chain-factors", [0.3 * i for i in range(4, 24)]),
    ("en/chain", "chain-bias-slider", "chain-factors", [0.2 * i for i in range(1, 21)]),
    ("en/chain", "chain-input-slider", "chain-factors", [0.2 * i for i in range(6, 25)]),
    ("en/chain", "chain-depth-slider", "chain-factors", list(range(11, 31))),
    ("en/chain?story=4", "chain-step-slider", "chain-training", list(range(10, 400, 20))),
    ("en/theory", "theory-sigma-w-slider", "theory-phase", [0.5 + 0.15 * i for i in range(20)]),
    ("en/theory", "theory-sigma-b-slider", "theory-phase", [0.15 + 0.1 * i for i in range(20)]),
    (
        "en/theory?formula=z*sigmoid(1.7*z)",
        "theory-sigma-w-slider",
        "theory-phase",
        [0.5 + 0.15 * i for i in range(20)],
    ),
)

SCRIPT = """
import time, torch
net = torch.nn.Sequential(*[m for _ in range(10)
                            for m in (torch.nn.Linear(64, 64), torch.nn.Tanh())])
opt = torch.optim.SGD(net.parameters(), lr=0.01)
with open("steps.txt", "w") as out:
    for step in range(121):
        loss = net(torch.randn(64, 64)).square().mean()
        opt.zero_grad(); loss.backward(); opt.step()
        print(step, time.time(), file=out, flush=True)
        time.sleep(0.25)
"""


@contextmanager
def serving(directory: Path) -> Iterator[str]:
    """Yield the address of a server on the runs of `directory`."""
    words = [sys.executable, "-m", "unvanish", "serve", "--no-browser", "--port", "0", "--json"]
    process = subprocess.Popen(words, cwd=directory, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    text = ""
    while not text.endswith("}\n"):
        text += process.stdout.readline()
    try:
        yield json.loads(text)["address"]
    finally:
        process.terminate()
        process.wait()


def sliders(browser: Any, address: str) -> list[dict[str, Any]]:
    """Return the times of every slider's moves."""
    found = []
    for path, slider, picture, values in MOVES:
        browser.get(address + path)
        drawn = f"return document.querySelector('#{picture}-plot .js-plotly-plot .xtick') !== null"
        while not browser.execute_script(drawn):
            time.sleep(0.1)
        time.sleep(1.5)  # what is drawn after the first picture
        times = browser.execute_async_script(MOVE, slider, picture, values)
        found.append(
            {
                "page": path,
                "slider": slider,
                "moves": len(times),
                "median_ms": round(statistics.median(times), 1),
                "worst_ms": round(max(times), 1),
            }
        )
        print(f"{found[-1]['median_ms']:7.0f} ms  {slider} ({path})", flush=True)
    return found


def live(browser: Any, address: str, directory: Path, every: int) -> dict[str, Any]:
    """Return how long samples take from their step to the page."""
    (directory / "train.py").write_text(SCRIPT, "utf-8")
    words = [sys.executable, "-m", "unvanish", "run", "--quiet", "--every", str(every), "train.py"]
    script = subprocess.Popen(words, cwd=directory)
    seen: dict[int, float] = {}
    try:
        browser.get(address)
        link = None
        while link is None:
            link = browser.execute_script(
                "return (document.querySelector('#runs-list tbody a') || {}).href || null"
            )
            time.sleep(0.1)
        browser.get(link)
        while script.poll() is None:
            shown = browser.execute_script(
                "return (document.getElementById('live-sampled') || {}).textContent || ''"
            )
            if shown.isdigit():
                seen.setdefault(int(shown), time.time())
            time.sleep(0.01)
    finally:
        script.wait()
    done = dict(line.split() for line in (directory / "steps.txt").read_text("utf-8").splitlines())
    first = min(seen)  # what was there before the page was open
    waits = [at - float(done[str(step)]) for step, at in seen.items() if step != first]
    return {
        "samples": len(waits),
        "median_s": round(statistics.median(waits), 2),
        "worst_s": round(max(waits), 2),
    }


@click.command()
@click.option("--json", "path", type=click.Path(path_type=Path))
def main(path: Path | None) -> None:
    """Measure, print, and leave with 1 where a limit is passed."""
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        directory = Path(folder)
        with serving(directory) as address:
            moved = sliders(browser, address)
            waited = live(browser, address, directory, every=10)
    print(f"a sample is shown {waited['median_s']} s after its step (worst {waited['worst_s']} s)")
    result = {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "sliders": moved,
        "live": waited,
    }
    if path is not None:
        path.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    slow = [one["slider"] for one in moved if one["median_ms"] > LIMIT_MS]
    if slow or waited["worst_s"] > LIMIT_S:
        raise SystemExit(f"slower than allowed: {', '.join(slow) or 'live samples'}")


if __name__ == "__main__":
    main()
