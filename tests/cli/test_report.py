"""`unvanish report` and `unvanish runs`, on runs that are really saved."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from tests.report import builders
from tests.report.sarif_schema import SARIF
from unvanish import store
from unvanish.cli import main
from unvanish.records import Run
from unvanish.report.document import schema


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A directory with one saved run, to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    run = builders.vanishing().run
    store.save(run, Path(".unvanish"))
    return run


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


def test_without_files_the_report_is_printed(saved: Run, capsys: pytest.CaptureFixture) -> None:
    assert call("report", saved.id[:10]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("Vanishing gradient: ")
    assert f"unvanish report {saved.id} -o report.html" in printed.out
    assert printed.err == ""


def test_a_page_is_written_once_and_with_force_again(
    saved: Run, capsys: pytest.CaptureFixture
) -> None:
    assert call("report", "last", "-o", "x.html") == 0
    assert capsys.readouterr().err == "Wrote x.html\n"
    text = Path("x.html").read_text("utf-8")
    assert text.startswith("<!DOCTYPE html>")
    Path("x.html").write_text("mine")
    assert call("report", "last", "-o", "x.html") == 2
    assert "x.html exists already" in capsys.readouterr().err
    assert Path("x.html").read_text() == "mine"
    assert call("report", "last", "-o", "x.html", "--force") == 0
    assert Path("x.html").read_text("utf-8") == text


def test_json_goes_to_a_file_or_alone_to_stdout(saved: Run, capsys: pytest.CaptureFixture) -> None:
    assert call("report", saved.id, "--json", "x.json") == 0
    assert capsys.readouterr().err == "Wrote x.json\n"
    assert call("report", f".unvanish/{saved.id}.run", "--json", "-") == 0
    printed = capsys.readouterr()
    assert printed.out == Path("x.json").read_text("utf-8")
    plain = json.loads(printed.out)
    jsonschema.validate(plain, schema())
    assert (plain["verdict"], plain["exit_code"], plain["run"]["id"]) == ("vanishing", 0, saved.id)
    assert plain["findings"][0]["code"] == "VG101"


def test_both_at_once_need_two_names(saved: Run, capsys: pytest.CaptureFixture) -> None:
    assert call("report", "last", "-o", "x", "--json", "x") == 2
    assert "the same file. Give each a name of its own." in capsys.readouterr().err
    assert not Path("x").exists()
    assert call("report", "last", "-o", "x.html", "--json", "x.json") == 0
    assert Path("x.html").exists()
    assert Path("x.json").exists()


@pytest.mark.parametrize("reference", ["1999", "nothere.run", "damaged"])
def test_what_cannot_be_read_is_said_in_one_line(
    saved: Run, reference: str, capsys: pytest.CaptureFixture
) -> None:
    Path(".unvanish/damaged.run").write_bytes(b"\x00")
    assert call("report", reference) == 2
    error = capsys.readouterr().err
    assert error.startswith("unvanish: error: ")
    assert error.count("\n") == 1


def test_the_settings_of_the_directory_count(saved: Run, capsys: pytest.CaptureFixture) -> None:
    Path("pyproject.toml").write_text('[tool.unvanish]\nignore = ["VG"]\n')
    assert call("report", "last", "--json", "-") == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["verdict"] == "healthy"


def test_a_run_from_elsewhere_is_not_called_saved_here(
    saved: Run, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    other = replace(saved, id="other")
    path = store.save(other, tmp_path / "elsewhere")
    assert call("report", str(path)) == 0
    assert "unvanish report" not in capsys.readouterr().out


def test_runs_are_listed_with_their_verdicts(
    saved: Run, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    store.save(replace(builders.healthy().run, id="20270101-x"), Path(".unvanish"))
    store.save(replace(builders.nothing_measured().run, id="20260101-x"), Path(".unvanish"))
    Path(".unvanish/20250101-x.run").write_bytes(b"junk")
    assert call("runs") == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "id command steps verdict training",
        "20270101-x train.py --epochs 3 200 Healthy falling",
        f"{saved.id} train.py --epochs 3 200 Vanishing gradient stuck",
        "20260101-x train.py --epochs 3 1 – –",
        "20250101-x damaged: this is not a run saved by unvanish",
    ]
    assert call("runs", "--limit", "1") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "… and 3 older (--limit)"


def test_runs_as_json(saved: Run, capsys: pytest.CaptureFixture) -> None:
    Path(".unvanish/20250101-x.run").write_bytes(b"junk")
    assert call("runs", "--json", "-") == 0
    plain = json.loads(capsys.readouterr().out)
    first, second = plain["runs"]
    assert (plain["schema"], plain["total"]) == (1, 2)
    assert (first["id"], first["verdict"], first["models"][0]["steps"]) == (
        saved.id,
        "vanishing",
        200,
    )
    assert second["damaged"] == "this is not a run saved by unvanish"
    assert call("runs", "--json", "runs.json") == 0
    assert json.loads(Path("runs.json").read_text()) == plain


def test_without_runs_the_way_to_record_one_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("runs") == 0
    assert "unvanish run train.py" in capsys.readouterr().out
    assert call("report", "last") == 2
    assert "unvanish run train.py" in capsys.readouterr().err
    assert not Path(".unvanish").exists()


def test_reports_are_made_without_torch(saved: Run) -> None:
    code = (
        "import sys; from unvanish.cli import main\n"
        "try: main(['report', 'last', '-o', 'x.html'])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_on_a_terminal_without_unicode(saved: Run) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "unvanish", "report", "last"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "80"},
        check=True,
    )
    assert b"x0.14 a layer" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_findings_go_to_a_sarif_file_and_to_annotations(
    saved: Run, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_WORKSPACE", "/home/ada")
    assert call("report", "last", "--sarif", "x.sarif", "--github") == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    wrote, *annotations = printed.err.splitlines()
    assert wrote == "Wrote x.sarif"
    log = json.loads(Path("x.sarif").read_text("utf-8"))
    jsonschema.Draft202012Validator(SARIF).validate(log)
    results = log["runs"][0]["results"]
    assert results[0]["ruleId"] == "VG101"
    assert len(annotations) == len(results)
    assert annotations[0].startswith("::error file=train.py,line=31,title=VG101%3A")
    assert call("report", "last", "--sarif", "x.sarif") == 2
    assert "x.sarif exists already" in capsys.readouterr().err
    assert call("report", "last", "--sarif", "-") == 0
    assert json.loads(capsys.readouterr().out) == log


def test_two_results_cannot_both_go_to_stdout(saved: Run, capsys: pytest.CaptureFixture) -> None:
    assert call("report", "last", "--json", "-", "--sarif", "-") == 2
    assert "the same file" in capsys.readouterr().err
