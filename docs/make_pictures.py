"""Make the pictures of the README from a real run: `make pictures`. Needs Chromium."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "docs/examples/train_stuck.py"
PICTURES = {"report.png": "en", "report.zh-CN.png": "zh"}


def report(language: str, directory: Path) -> Path:
    """Watch the example and return its HTML report, which names it as a reader would type it."""
    page = directory / f"report.{language}.html"
    command = [sys.executable, "-m", "unvanish", "run", "--lang", language, "--no-save"]
    shutil.copy(SCRIPT, directory)
    subprocess.run([*command, "--quiet", "-o", str(page), SCRIPT.name], check=True, cwd=directory)
    return page


def photograph(page: Path, picture: Path, width: int = 1280, height: int = 860) -> None:
    """Take a picture of the top of a page."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        raise SystemExit("chromium is missing. Install it: apt-get install chromium")
    subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--disable-background-networking",
            f"--window-size={width},{height}",
            "--virtual-time-budget=8000",
            f"--screenshot={picture}",
            page.as_uri(),
        ],
        check=True,
        capture_output=True,
    )


def main() -> None:
    """Make all pictures."""
    target = ROOT / "docs/images"
    target.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        for name, language in PICTURES.items():
            photograph(report(language, Path(directory)), target / name)
            print(f"Wrote docs/images/{name}")


if __name__ == "__main__":
    main()
