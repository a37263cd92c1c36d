"""One server and one Chromium for all tests of the page."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.report import builders, fix_builders
from unvanish import store
from unvanish.records import Readings, StepRecord
from unvanish.store import Batch

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
RUNS = ("vanishing", "healthy", "gan", "hostile", "recurrent")
PATIENCE = 60.0  # seconds; nothing takes so long unless it never comes


def run_id(name: str) -> str:
    return f"20260101-00000{RUNS.index(name)}-{name}"


@dataclass
class Server:
    """A server in a process of its own."""

    process: subprocess.Popen[str]
    address: str

    @property
    def port(self) -> int:
        return int(self.address.rstrip("/").rpartition(":")[2])

    def end(self, how: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(how)
        return self.process.wait(PATIENCE)


def serve(directory: Path, *options: str) -> Server:
    """Start `unvanish serve` on the store in `directory` and wait until it listens."""
    words = [sys.executable, "-m", "unvanish", "serve", "--no-browser", "--lang", "en"]
    process = subprocess.Popen(
        [*words, "--dir", str(directory), *(options or ("--port", "0")), "--json"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=directory.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # a job in the background of a shell ignores Ctrl-C, and its children with it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    text = ""
    while not text.endswith("}\n"):
        line = process.stdout.readline()
        assert line, "the server ended before it listened"
        text += line
    return Server(process, json.loads(text)["address"])


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with runs of several kinds and a result of fix."""
    directory = tmp_path_factory.mktemp("page") / ".unvanish"
    diagnoses = builders.every_diagnosis()
    for name in RUNS:
        store.save(replace(diagnoses[name].run, id=run_id(name)), directory)
    store.save_fix(fix_builders.every_fix()["proven"], directory)
    return directory


@pytest.fixture(scope="session")
def server(kept: Path) -> Iterator[Server]:
    started = serve(kept)
    yield started
    if started.process.poll() is None:
        started.end()


class Page:
    """A Chromium, and what tests ask of it."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, address: str, width: int = 1280, scheme: str = "light") -> None:
        self.resize(width)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.get(address)
        self.wait("document.querySelector('main h1, main h2') !== null")

    def resize(self, width: int, height: int = 900) -> None:
        metrics = {
            "width": width,
            "height": height,
            "deviceScaleFactor": 1,
            "mobile": width < 600,
        }
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def js(self, expression: str, *arguments: Any) -> Any:
        return self.driver.execute_script(f"return {expression}", *arguments)

    def wait(self, condition: str | Callable[[], Any], what: str = "") -> Any:
        """Wait until an expression in the page, or a function here, is true; return its value."""
        deadline = time.monotonic() + PATIENCE
        while True:
            found = self.js(condition) if isinstance(condition, str) else condition()
            if found:
                return found
            assert time.monotonic() < deadline, f"never came true: {what or condition}"
            time.sleep(0.05)

    def text(self, identity: str) -> str:
        return str(self.js("(document.getElementById(arguments[0]) || {}).textContent", identity))

    def set(self, identity: str, value: Any) -> None:
        """Move a slider, type into a field or choose from a list, with the browser's events."""
        self.driver.execute_script(
            """
            const [id, value] = arguments;
            const node = document.getElementById(id);
            const kind = node.tagName === "SELECT" ? HTMLSelectElement : HTMLInputElement;
            Object.getOwnPropertyDescriptor(kind.prototype, "value").set.call(node, value);
            node.dispatchEvent(new Event("input", { bubbles: true }));
            node.dispatchEvent(new Event("change", { bubbles: true }));
            """,
            identity,
            str(value),
        )

    def click(self, identity: str) -> None:
        self.driver.execute_script("document.getElementById(arguments[0]).click()", identity)

    def complaints(self) -> list[str]:
        """What the browser's console says since the last question."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def hosts(self) -> set[str]:
        """The hosts that were asked for anything since the last question."""
        found = set()
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = message["params"]["request"]["url"]
                if not url.startswith(("data:", "blob:", "about:")):
                    found.add(url.split("/")[2])
        return found

    def scroll_through(self) -> None:
        """Bring every picture into sight once, and wait until it is drawn."""
        names = self.js(
            "Array.from(document.querySelectorAll('.plot')).filter(p => p.clientWidth)"
            ".map(p => p.id)"
        )
        for name in names:
            self.driver.execute_script(
                "document.getElementById(arguments[0]).scrollIntoView({block: 'center'})", name
            )
            self.wait(lambda name=name: self.js(DRAWN, name), f"{name} is drawn")


# A picture has marks, and is as wide as its place.
DRAWN = """(name => {
  const plot = document.getElementById(name);
  const svg = plot.querySelector('.main-svg');
  const marks = plot.querySelectorAll('.points path, .lines path, .hm image, .barlayer path');
  return Boolean(svg) && marks.length > 0
    && Math.abs(svg.getBoundingClientRect().width - plot.clientWidth) < 2;
})(arguments[0])"""


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if not (CHROMIUM and DRIVER):
        pytest.skip("needs Chromium and its driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in (
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--no-first-run", f"--user-data-dir={tmp_path_factory.mktemp('profile')}"),
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=str(DRIVER))
    driver = webdriver.Chrome(options=options, service=service)
    yield Page(driver)
    driver.quit()


@pytest.fixture
def fresh(page: Page) -> Page:
    """The browser, with nothing open and nothing said."""
    page.driver.get("about:blank")
    page.complaints()
    page.hosts()
    return page


def long_run(directory: Path, identity: str, samples: int, chunk: int = 1000) -> None:
    """Record a run of `samples` sampled steps, as a monitor leaves it."""
    run = replace(builders.every_diagnosis()["vanishing"].run, id=identity)
    (model,) = run.models
    names = tuple(layer.module for layer in model.traces[0].layers[:12])
    writer = store.begin(run, directory)
    for start in range(0, samples, chunk):
        steps = tuple(
            StepRecord(step, 2.0 + 1.0 / (1 + step), sampled=True)
            for step in range(start, start + chunk)
        )
        readings = tuple(
            Readings("level", step, names, tuple(-float(k) for k in range(len(names))))
            for step in range(start, start + chunk)
        )
        facts = replace(model, traces=(), steps=()) if start == 0 else None
        writer.add(Batch(steps=steps, readings=readings, facts=facts))
    every = tuple(StepRecord(step, 2.0 + 1.0 / (1 + step), sampled=True) for step in range(samples))
    writer.finish(replace(run, models=(replace(model, steps=every),)))
    writer.close()
