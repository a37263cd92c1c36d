"""Who may ask the server: hostile Host headers, other sites' pages, paths outside the store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("dash")
pytest.importorskip("waitress")

from flask import Flask

from tests.report import builders
from unvanish import store
from unvanish.web import guard
from unvanish.web.server import make


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    directory = tmp_path_factory.mktemp("store") / ".unvanish"
    store.save(builders.every_diagnosis()["vanishing"].run, directory)
    application, site = make(directory, instance="here")
    yield application
    site.playground.close()


@pytest.mark.parametrize("host", ["127.0.0.1:8350", "localhost:1", "[::1]:8350", "LOCALHOST"])
def test_its_own_names_are_answered(server: Flask, host: str) -> None:
    answer = server.test_client().get("/alive", headers={"Host": host})
    assert (answer.status_code, answer.text) == (200, "here")


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8350", "127.0.0.1.evil.example", "10.0.0.7:8350", "[::2]"],
)
def test_other_names_are_refused(server: Flask, host: str) -> None:
    answer = server.test_client().get("/en/", headers={"Host": host})
    assert answer.status_code == 403
    assert host in answer.text
    assert "unvanish serve" in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_other_pages_are_refused(server: Flask, headers: dict[str, str], method: str) -> None:
    answer = server.test_client().open(
        "/en/_dash-update-component", method=method, headers={"Host": "127.0.0.1:8350", **headers}
    )
    assert answer.status_code == 403


def test_a_link_from_another_page_is_followed(server: Flask) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    answer = server.test_client().get("/en/", headers={"Host": "127.0.0.1:8350", **headers})
    assert answer.status_code == 200


def test_every_answer_has_a_policy_that_names_no_other_host(server: Flask) -> None:
    for path in ("/en/", "/zh/", "/alive", "/fit.js", "/report.css", "/en/_dash-layout"):
        answer = server.test_client().get(path, headers={"Host": "localhost"})
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "http" not in policy
        assert "unsafe-eval" not in policy
        assert "script-src 'self' 'sha256-" in policy
        assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize(
    "identity",
    ["../../etc/passwd", "/etc/passwd", "..", "runs.db", ".unvanish/runs.db", "last", "2026", ""],
)
def test_a_report_of_anything_but_a_run_is_refused(
    server: Flask, identity: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs.db").write_bytes(b"not ours")
    answer = server.test_client().get(
        "/en/report", query_string={"id": identity}, headers={"Host": "localhost"}
    )
    assert answer.status_code == 404
    assert answer.text.startswith("unknown run")


@pytest.mark.parametrize("path", ["/en/assets/../server.py", "/en/assets/..%2fserver.py", "/en/.."])
def test_no_file_beside_the_assets_is_served(server: Flask, path: str) -> None:
    answer = server.test_client().get(path, headers={"Host": "localhost"})
    assert "create_server" not in answer.text


def test_a_large_request_is_refused(server: Flask) -> None:
    answer = server.test_client().post(
        "/en/_dash-update-component",
        data=b"x" * (guard.LARGEST + 1),
        content_type="application/json",
        headers={"Host": "localhost"},
    )
    assert answer.status_code == 413


def test_names_are_refused_where_all_machines_may_ask() -> None:
    assert guard.host_allowed("192.168.1.5:8350", "0.0.0.0")
    assert guard.host_allowed("box.lan:8350", "box.lan")
    assert not guard.host_allowed("evil.example:8350", "0.0.0.0")
    assert not guard.host_allowed("192.168.1.5:8350", "127.0.0.1")
