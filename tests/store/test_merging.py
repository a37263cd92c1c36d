"""Merging runs copied from other machines: nothing twice, nothing lost, sources untouched."""

from __future__ import annotations

import json
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from unvanish import codec, store
from unvanish.cli import main
from unvanish.errors import NotOurFileError, StorageError, UsageError
from unvanish.records import Incident, ModelRun, Readings, StepRecord
from unvanish.store import Batch, Database, files, merging
from unvanish.store.merging import merge
from unvanish.testing.conformance import example_batch, example_run

from .test_length import ID, write_first_schema

FACTS = ModelRun("net", "Net", ())


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path / "here" / ".unvanish"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    (tmp_path / "there").mkdir()
    return tmp_path / "there"


def record(directory: Path, identity: str, steps: int, *, finished: bool = False) -> None:
    writer = store.begin(example_run(identity), directory, retention=64)
    incident = Incident(step=1, seen_at=1, kind="spike", quantity="loss", value=9.0)
    writer.add(Batch(facts=FACTS, incidents=(incident,)))
    for step in range(steps):
        names = ("a", "b") if step < 50 else ("a", "b", "c")
        reading = Readings("gradient", step, names, (float(step),) * len(names))
        writer.add(Batch(steps=(StepRecord(step, 1.0),), readings=(reading,)))
    if finished:
        writer.finish(replace(example_run(identity), seconds=float(steps)))
    writer.close()


def outcomes(source: Path, here: Path) -> list[tuple[str, str]]:
    return [(one.id, one.outcome) for one in merge(source, here)]


def everything(directory: Path, identity: str) -> tuple[object, ...]:
    found = Database(directory)
    overview = found.overview(identity, "gradient", points=30)
    return (
        found.series(identity, "gradient"),
        found.progress(identity),
        codec.encode_run(found.load(identity)),
        overview.names,
        [column.tobytes() for column in (overview.first, overview.count, overview.high)],
    )


def test_a_run_is_here_as_it_was_there(here: Path, there: Path) -> None:
    record(here, "run-0", 10)  # numbers of rows differ
    record(there, "run-a", 400)
    record(there, "run-b", 20, finished=True)
    before = {path.name: path.read_bytes() for path in there.iterdir()}
    assert outcomes(there / "runs.db", here) == [("run-a", "added"), ("run-b", "added")]
    assert {path.name: path.read_bytes() for path in there.iterdir()} == before
    for name in ("run-a", "run-b"):
        assert everything(here, name) == everything(there, name)
    assert len(Database(here).series("run-0", "gradient")) == 10
    assert not [path for path in here.iterdir() if path.name.startswith(".merge")]


def test_twice_is_once(here: Path, there: Path) -> None:
    record(there, "run-a", 100)
    record(there, "run-b", 20, finished=True)
    assert outcomes(there, here) == [("run-a", "added"), ("run-b", "added")]
    first = everything(here, "run-a")
    assert outcomes(there, here) == [("run-a", "unchanged"), ("run-b", "unchanged")]
    assert everything(here, "run-a") == first
    assert [one.id for one in store.runs(here)] == ["run-b", "run-a"]


def test_the_copy_that_came_further_wins(here: Path, there: Path, tmp_path: Path) -> None:
    record(there, "run-a", 60)
    early = tmp_path / "early"
    shutil.copytree(there, early)
    shutil.rmtree(there)
    record(there, "run-a", 150, finished=True)
    assert outcomes(early, here) == [("run-a", "added")]
    assert outcomes(there, here) == [("run-a", "updated")]
    assert everything(here, "run-a") == everything(there, "run-a")
    assert outcomes(early, here) == [("run-a", "unchanged")]
    assert everything(here, "run-a") == everything(there, "run-a")


def test_a_record_and_the_samples_come_together(here: Path, there: Path, tmp_path: Path) -> None:
    finished = replace(example_run("run-a"), seconds=5.0)
    file = files.write(finished, there)
    record(tmp_path / "killed", "run-a", 40)
    assert outcomes(file, here) == [("run-a", "added")]
    assert outcomes(tmp_path / "killed", here) == [("run-a", "updated")]
    assert codec.encode_run(store.load("run-a", here)) == codec.encode_run(finished)
    assert len(Database(here).series("run-a", "gradient")) == 40
    assert outcomes(file, here) == [("run-a", "unchanged")]
    # ... and in the other order
    other = tmp_path / "other"
    assert outcomes(tmp_path / "killed", other) == [("run-a", "added")]
    assert outcomes(file, other) == [("run-a", "updated")]
    assert everything(other, "run-a")[:1] == everything(here, "run-a")[:1]


def test_what_a_killed_process_left_in_its_log_comes_along(here: Path, there: Path) -> None:
    writer = store.begin(example_run(), there)
    for step in range(5):
        writer.add(example_batch(step))
    copy = there.parent / "copy"
    copy.mkdir()
    for name in ("runs.db", "runs.db-wal"):  # a copy of a run that has not closed its file
        shutil.copyfile(there / name, copy / name)
    writer.close()
    assert outcomes(copy, here) == [(ID, "added")]
    assert len(store.load(ID, here).models[0].steps) == 5


def test_an_older_schema_is_brought_up_to_date_in_the_copy(here: Path, there: Path) -> None:
    file = write_first_schema(there)
    before = file.read_bytes()
    assert outcomes(file, here) == [(ID, "added")]
    assert file.read_bytes() == before
    assert len(store.load(ID, here).models[0].steps) == 6
    assert len(Database(here).series(ID, "gradient")) == 6


def execute(file: Path, statement: str) -> None:
    connection = sqlite3.connect(file)
    connection.execute(statement)
    connection.commit()
    connection.close()


def test_what_is_not_ours_is_refused(here: Path, there: Path) -> None:
    record(here, "run-0", 3)
    before = everything(here, "run-0")
    (there / "text.db").write_text("this is no database " * 100)
    (there / "empty.db").touch()
    execute(there / "theirs.db", "CREATE TABLE runs (x)")
    record(there, "run-a", 200)
    broken = bytearray((there / "runs.db").read_bytes())
    broken[4096 * 2 : -4096] = b"\xff" * (len(broken) - 4096 * 3)
    (there / "broken.db").write_bytes(broken)
    shutil.copyfile(there / "runs.db", there / "newer.db")
    execute(there / "newer.db", "PRAGMA user_version=99")
    (there / "cut.run").write_bytes(codec.encode_run(example_run())[:60])
    for name, why in (
        ("text.db", "not a database"),
        ("empty.db", "of another program"),
        ("theirs.db", "of another program"),
        ("broken.db", "no sound database|damaged"),
        ("newer.db", "schema 99"),
        ("cut.run", "damaged"),
    ):
        with pytest.raises(NotOurFileError, match=why) as raised:
            outcomes(there / name, here)
        assert name in str(raised.value)
    with pytest.raises(StorageError):
        outcomes(there / "nothing.db", here)
    assert [one.id for one in store.runs(here)] == ["run-0"]
    assert everything(here, "run-0") == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE runs SET head = x'00' WHERE id = 'run-a'",
        "UPDATE readings SET \"values\" = x'0000' WHERE step = 3 AND run = 1",
        "UPDATE steps SET record = x'00' WHERE step = 3 AND run = 1",
        "UPDATE layouts SET names = x'00' WHERE number = 1",
        "UPDATE additions SET kind = 'else' WHERE run = 1",
        "UPDATE runs SET id = '../run-a' WHERE id = 'run-a'",
    ],
)
def test_a_damaged_run_does_not_keep_the_others_out(
    here: Path, there: Path, statement: str
) -> None:
    record(there, "run-a", 20)
    record(there, "run-b", 20)
    execute(there / "runs.db", statement)
    assert [outcome for _id, outcome in outcomes(there, here)] == ["damaged", "added"]
    assert [one.id for one in store.runs(here)] == ["run-b"]


def test_a_sound_copy_takes_the_place_of_a_damaged_record(here: Path, there: Path) -> None:
    record(there, "run-a", 20, finished=True)
    assert outcomes(there, here) == [("run-a", "added")]
    execute(here / "runs.db", "UPDATE runs SET record = x'00'")
    assert outcomes(there, here) == [("run-a", "updated")]
    assert everything(here, "run-a") == everything(there, "run-a")


def test_the_store_itself_is_no_source(here: Path) -> None:
    record(here, "run-a", 3)
    with pytest.raises(UsageError, match="the store of this directory"):
        outcomes(here, here)
    with pytest.raises(UsageError, match="no runs are saved"):
        outcomes(here.parent.parent, here)


def test_a_file_that_changes_while_it_is_copied_is_refused(
    here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(there, "run-a", 3)
    plain = shutil.copyfile

    def meanwhile(source: Path, target: Path) -> None:
        plain(source, target)
        with (there / "runs.db").open("ab") as file:
            file.write(b"x")

    monkeypatch.setattr(merging.shutil, "copyfile", meanwhile)
    with pytest.raises(StorageError, match="is being written to"):
        outcomes(there, here)


def test_the_command(
    here: Path, there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record(there, "run-a", 3)
    (there / "bad.db").write_text("no")
    here.parent.mkdir()
    monkeypatch.chdir(here.parent)
    with pytest.raises(SystemExit) as ended:
        main(["merge", str(there / "bad.db"), str(there), "--json"])
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert "bad.db" in said.err
    plain = json.loads(said.out)
    assert [(one["id"], one["outcome"]) for one in plain["runs"]] == [("run-a", "added")]
    assert list(plain["refused"]) == [str(there / "bad.db")]
    with pytest.raises(SystemExit) as ended:
        main(["merge", str(there)])
    assert ended.value.code == 0
    assert "here already" in capsys.readouterr().out
