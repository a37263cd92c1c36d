"""`unvanish serve`: where it listens, what it refuses, how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("dash")
pytest.importorskip("waitress")

from tests.web.conftest import serve
from unvanish.cli import main
from unvanish.web import server as serving


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "unvanish", "serve", "--no-browser", "--lang", "en", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        # A server that never began leaves its sockets to the end of the process.
        env={**os.environ, "PYTHONWARNINGS": ""},
    )


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        yield held.getsockname()[1]


def test_it_says_where_it_listens_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    started = serve(tmp_path / ".unvanish")
    with urllib.request.urlopen(started.address + "en/") as answer:
        assert answer.status == 200
        assert b"Unvanish" in answer.read()
    assert started.end(signal.SIGINT) == 0
    assert not (tmp_path / ".unvanish").exists()  # looking writes nothing


def test_the_json_goes_to_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    class Once(serving.Serving):
        def run(self) -> None:
            made.append(self.address)
            self.close()

    monkeypatch.setattr(serving, "Serving", Once)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--no-browser", "--port", "0", "--json", "address.json"])
    assert ended.value.code in (0, None)
    document = json.loads(Path("address.json").read_text("utf-8"))
    assert document == {"schema": 1, "address": made[0], "directory": ".unvanish"}


def test_a_port_that_is_taken_is_named_with_the_way_out(taken: int) -> None:
    done = run("--port", str(taken))
    assert done.returncode == 2
    assert done.stderr == (
        f"unvanish: error: port {taken} is taken. Give another --port, or leave it out: the next"
        " free one is found.\n"
    )


def test_without_a_port_the_next_free_one_is_found(
    taken: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "PORT", taken)
    started = serving.Serving(tmp_path, "127.0.0.1", None)
    try:
        assert taken < started.port < taken + serving.TRIED
    finally:
        started.close()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--host", "no.such.host.invalid"), "is no address of this machine"),
        (("--host", "203.0.113.7"), "Give --host 127.0.0.1"),
        (("--dir", __file__), "is no directory"),
    ],
)
def test_what_cannot_be_served_is_refused(words: tuple[str, ...], says: str) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_package_is_named_with_its_installation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "waitress", None)
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--no-browser", "--lang", "en"])
    assert ended.value.code == 2
    assert "pip install 'unvanish[web]'" in capsys.readouterr().err
