"""Runs that go on, runs that are long, and a server that comes and goes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("dash")
pytest.importorskip("selenium")

from tests.web.conftest import PATIENCE, Page, Server, long_run, serve

pytestmark = pytest.mark.browser

SCRIPT = """
import pathlib, time, torch
torch.manual_seed(0)
net = torch.nn.Sequential(*[m for _ in range(6) for m in (torch.nn.Linear(8, 8), torch.nn.Tanh())])
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(12):
    loss = net(torch.randn(16, 8)).square().mean()
    opt.zero_grad(); loss.backward(); opt.step()
    if step == 9:
        while not pathlib.Path("go").exists():
            time.sleep(0.02)
"""


def test_a_run_is_followed_while_it_trains(fresh: Page, tmp_path: Path) -> None:
    """The script waits in its tenth step until the page has shown its newest sample."""
    (tmp_path / "train.py").write_text(SCRIPT, "utf-8")
    server = serve(tmp_path / ".unvanish")
    words = [sys.executable, "-m", "unvanish", "run", "--quiet", "--every", "4", "train.py"]
    script = subprocess.Popen(words, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        fresh.open(server.address)
        link = fresh.wait("(document.querySelector('#runs-list tbody a') || {}).href")
        assert "running" in fresh.text("runs-list")
        fresh.open(link)
        fresh.wait("(document.getElementById('live-sampled') || {}).textContent === '8'")
        fresh.wait("document.querySelector('#live-sample-plot .lines path') !== null")
        fresh.wait("document.querySelector('#run-verdict .verdict') !== null")
        fresh.wait("document.querySelectorAll('#run-content .plot').length > 0")
        assert script.poll() is None
        (tmp_path / "go").touch()
        fresh.wait("document.getElementById('live').hidden")
        assert "finished" in fresh.wait("document.querySelector('.facts:last-child').textContent")
        fresh.scroll_through()
        assert fresh.complaints() == []
    finally:
        (tmp_path / "go").touch()
        script.wait(PATIENCE)
        assert server.end() == 0


def test_long_runs_are_thinned(fresh: Page, tmp_path: Path) -> None:
    directory = tmp_path / ".unvanish"
    names = [f"20260101-000000-0000000{n}" for n in range(10)]
    for name in names:
        long_run(directory, name, 10_000)
    server = serve(directory)
    try:
        fresh.open(server.address)
        fresh.wait("document.querySelectorAll('#runs-list tbody tr').length === 10")
        fresh.wait("!document.getElementById('runs-list').textContent.includes('…')")
        fresh.open(server.address + f"en/run?id={names[0]}")
        fresh.wait("document.getElementById('loss-0-plot') !== null")
        fresh.wait("!document.getElementById('run-history').hidden")
        fresh.scroll_through()
        told = re.fullmatch(
            r"Steps (\d+) to 9999, in (\d+) stretches\.", fresh.text("run-history-says")
        )
        assert told is not None
        assert int(told[1]) < 100
        assert 50 < int(told[2]) <= 200
        fresh.open(server.address + f"en/compare?runs={','.join(names[:6])}")
        fresh.wait("document.getElementById('compare-losses-plot') !== null")
        fresh.scroll_through()
        points = fresh.js(
            "document.querySelector('#compare-losses-plot .js-plotly-plot').data"
            ".map(t => t.x.length)"
        )
        assert len(points) == 6
        assert all(2 < count <= 1000 for count in points)
        assert fresh.complaints() == []
    finally:
        server.end()


def test_a_server_that_comes_back_is_found_again(fresh: Page, kept: Path) -> None:
    server = serve(kept)
    fresh.open(server.address + "en/chain")
    fresh.wait("document.getElementById('chain-headline').textContent")
    server.end(signal.SIGKILL)
    fresh.wait("document.getElementById('connection').className === 'lost'")
    assert "does not answer" in fresh.text("connection")
    before = fresh.text("chain-headline")
    fresh.set("chain-weight-slider", 3)  # not answered
    again: Server | None = None
    deadline = time.monotonic() + PATIENCE
    while again is None:
        try:
            again = serve(kept, "--port", str(server.port))
        except AssertionError:  # the port is not free yet
            assert time.monotonic() < deadline
    try:
        fresh.wait("document.getElementById('connection').className === 'back'")
        fresh.wait(lambda: fresh.text("chain-headline") != before, "what was missed is made up for")
        fresh.wait("location.href.includes('w=3')")
        fresh.complaints()  # what failed meanwhile
        fresh.set("chain-weight-slider", 5)
        fresh.wait("location.href.includes('w=5')")
        fresh.wait("document.getElementById('connection').className === ''")
        assert fresh.complaints() == []
    finally:
        again.end()
