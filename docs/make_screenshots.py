"""Make pictures of the live page at both widths: `make screenshots`. Needs Chromium.

All go to the directory that is given (by default a new one, which is printed); those named in
COMMITTED also to docs/images.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from browser import chromium  # noqa: E402  # the path is known only now
from serve import serving  # noqa: E402  # likewise

EXAMPLE = ROOT / "docs/examples/train_stuck.py"
WIDTHS = {1280: 860, 390: 844}  # width: height
SCHEMES = ("light", "dark")
VIEWS = {
    "runs": "",
    "run": "run?id={run}",
    "compare": "compare?runs={run},{other}",
    "rule": "rule?code=VG101",
    "chain": "chain",
    "story-2": "chain?story=2",
    "story-5": "chain?story=5",
    "theory": "theory",
    "playground": "playground",
}
COMMITTED = {
    "chain.en.1280.light": "serve-chain.png",
    "theory.en.1280.dark": "serve-theory.png",
    "run.en.1280.light": "serve-run.png",
    "story-2.zh.390.dark": "serve-story.zh-CN.png",
}

DRAWN = """
return Array.from(document.querySelectorAll('.plot')).filter(p => p.clientWidth
  && p.getBoundingClientRect().top < innerHeight)
  .every(p => p.querySelector('.points path, .lines path, .hm image, .barlayer path'))
"""


def record(directory: Path) -> list[str]:
    """Watch the example twice, and return the ids of the runs, the stuck one first."""
    shutil.copy(EXAMPLE, directory)
    text = EXAMPLE.read_text("utf-8").replace("nn.Sigmoid()", "nn.BatchNorm1d(100), nn.ReLU()")
    (directory / "train_mended.py").write_text(text, "utf-8")
    for script in ("train_mended.py", EXAMPLE.name):
        words = [sys.executable, "-m", "unvanish", "run", "--quiet", script]
        subprocess.run(words, check=True, cwd=directory)
    from unvanish import store

    return [one.id for one in store.runs(directory / ".unvanish")]


def photograph(browser: Any, address: str, width: int, scheme: str, picture: Path) -> None:
    """Take a picture of the top of a page."""
    metrics = {
        "width": width,
        "height": WIDTHS[width],
        "deviceScaleFactor": 1,
        "mobile": width < 600,
    }
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(address)
    time.sleep(1.0)
    deadline = time.monotonic() + 30
    while not browser.execute_script(DRAWN) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1.0)
    browser.save_screenshot(str(picture))


@click.command()
@click.option("--to", "target", type=click.Path(path_type=Path), help="directory of all pictures")
@click.option("--committed", is_flag=True, help="only those that go to docs/images")
def main(target: Path | None, committed: bool) -> None:
    """Make all pictures."""
    target = target or Path(tempfile.mkdtemp(prefix="unvanish-screenshots-"))
    target.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        run, other = record(Path(folder))
        with serving(Path(folder)) as address:
            for name, language, width, scheme in product(VIEWS, ("en", "zh"), WIDTHS, SCHEMES):
                label = f"{name}.{language}.{width}.{scheme}"
                if committed and label not in COMMITTED:
                    continue
                where = f"{address}{language}/{VIEWS[name].format(run=run, other=other)}"
                photograph(browser, where, width, scheme, target / f"{label}.png")
                if label in COMMITTED:
                    shutil.copy(target / f"{label}.png", ROOT / "docs/images" / COMMITTED[label])
    print(f"Wrote {target}")


if __name__ == "__main__":
    main()
