"""`unvanish cure`, and the page that is written from the same catalogue."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from unvanish import i18n
from unvanish.cli import main
from unvanish.fix.catalogue import cures

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    i18n.choose("en")
    yield
    i18n.choose("en")


def run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[str, str]:
    with pytest.raises(SystemExit) as exit_:
        main(["cure", *arguments])
    assert exit_.value.code == code
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_the_list_names_every_cure(capsys: pytest.CaptureFixture[str]) -> None:
    out, _err = run(capsys)
    for cure in cures():
        assert cure.name in out


def test_one_cure_is_printed_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    out, _err = run(capsys, "relu-swap")
    assert out.startswith("relu-swap (unsafe)")
    assert "VG101 (0.8)" in out
    assert "arXiv:1502.01852" in out


def test_json_holds_every_cure(capsys: pytest.CaptureFixture[str]) -> None:
    out, _err = run(capsys, "--json")
    document = json.loads(out)
    assert document["schema"] == 1
    assert [each["name"] for each in document["cures"]] == [each.name for each in cures()]
    assert all(each["sources"] and each["documentation"] for each in document["cures"])


def test_an_unknown_name_shows_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = run(capsys, "snake-oil", code=2)
    assert out == ""
    assert "relu-swap" in err


def test_the_page_is_what_the_catalogue_says() -> None:
    spec = importlib.util.spec_from_file_location("page", DOCS / "write_cures_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (DOCS / "cures.md").read_text(encoding="utf-8") == module.page() + "\n"
