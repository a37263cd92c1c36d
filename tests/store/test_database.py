"""The SQLite store: the conformance suite, and what can go wrong with a file."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from unvanish import codec, store
from unvanish.errors import NotOurFileError, StorageError
from unvanish.store import database, files, schema
from unvanish.testing.conformance import StoreConformance, example_batch, example_run

ID = example_run().id


class TestDatabase(StoreConformance):
    def make(self, directory: Path) -> store.Database:
        return store.Database(directory)


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that any user may enter: pytest's own are for one user only."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def child(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


# Root may write everywhere: be nobody then, once all is imported.
AS_READER = """
import os
from unvanish.testing.conformance import example_run
if os.geteuid() == 0:
    os.setuid(65534)
"""


# --- killed, or cut short ------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from unvanish import store
from unvanish.testing.conformance import example_batch, example_run
writer = store.begin(example_run(), Path(sys.argv[1]))
for step in range(5):
    writer.add(example_batch(step))
    print(step, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_loses_nothing_that_was_added(tmp_path: Path) -> None:
    done = child(KILLED, str(tmp_path))
    assert (done.returncode, done.stdout.split()) == (-signal.SIGKILL, list("01234"))
    (summary,) = store.runs(tmp_path)
    assert summary.state == "killed"
    run = store.load("last", tmp_path)
    assert run.ending == "killed"
    assert len(run.models[0].steps) == len(run.models[0].traces) == 5


ENDLESS = """
import sys
from pathlib import Path
from unvanish import store
from unvanish.testing.conformance import example_batch, example_run
writer = store.begin(example_run(), Path(sys.argv[1]))
for step in range(10**6):
    writer.add(example_batch(step))
    print(step, flush=True)
"""


@pytest.mark.parametrize("moment", [0.0, 0.013, 0.05])
def test_kill_9_at_any_moment_loses_at_most_the_last_sample(tmp_path: Path, moment: float) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    writer.stdout.readline()  # the first sample is in
    time.sleep(moment)
    writer.kill()
    told = writer.stdout.read().split()
    writer.wait()
    run = store.load("last", tmp_path)
    steps = [record.step for record in run.models[0].steps]
    assert steps == list(range(len(steps)))
    assert len(steps) >= int(told[-1] if told else 0) + 1


def test_a_batch_that_fails_halfway_leaves_nothing_behind(tmp_path: Path) -> None:
    writer = store.begin(example_run(), tmp_path)
    batch = example_batch(0)
    with pytest.raises(TypeError):
        writer.add(replace(batch, alarms=(object(),)))  # type: ignore[arg-type]
    assert store.load(ID, tmp_path).models == ()
    writer.add(batch)
    writer.close()
    assert len(store.load(ID, tmp_path).models[0].steps) == 1


# --- several processes ---------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from unvanish import store
from unvanish.testing.conformance import example_batch, example_run
writer = store.begin(example_run(sys.argv[2]), Path(sys.argv[1]))
for step in range(15):
    writer.add(example_batch(step))
writer.close()
"""


def test_several_processes_write_while_one_reads(tmp_path: Path) -> None:
    names = ["run-a", "run-b", "run-c"]
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name]) for name in names
    ]
    while any(writer.poll() is None for writer in writers):
        for summary in store.runs(tmp_path):
            assert summary.damaged is None
            steps = [
                step.step
                for model in store.load(summary.id, tmp_path).models
                for step in model.steps
            ]
            assert steps == list(range(len(steps)))
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    for name in names:
        assert len(store.load(name, tmp_path).models[0].steps) == 15


@contextlib.contextmanager
def held(directory: Path) -> Iterator[None]:
    """Another connection in the middle of a transaction."""
    other = sqlite3.connect(directory / database.NAME, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def test_a_locked_database_is_said_and_can_be_written_later(tmp_path: Path) -> None:
    writer = store.begin(example_run(), tmp_path, patience=0.05)
    writer.add(example_batch(0))
    with held(tmp_path):
        with pytest.raises(StorageError, match=r"locked.*Another process holds it"):
            writer.add(example_batch(1))
        assert len(store.load(ID, tmp_path).models[0].steps) == 1  # readers are let in
    writer.add(example_batch(1))
    writer.close()
    assert len(store.load(ID, tmp_path).models[0].steps) == 2


def test_a_finished_run_goes_to_a_file_when_the_database_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(example_run("first"), tmp_path)
    monkeypatch.setattr(database.Database.__init__, "__defaults__", (0.05,))
    with held(tmp_path):
        path = store.save(example_run("second"), tmp_path)
    assert path == tmp_path / "second.run"
    assert store.load("last", tmp_path).id == "second"
    assert [summary.id for summary in store.runs(tmp_path)] == ["second", "first"]


# --- disks ---------------------------------------------------------------------------------------

FULL = """
import resource, signal, sys
from pathlib import Path
from unvanish import store
from unvanish.errors import StorageError
from unvanish.testing.conformance import example_batch, example_run
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit then fails, as on a disk
directory = Path(sys.argv[1])
writer = store.begin(example_run(), directory)
writer.add(example_batch(0))
size = max(path.stat().st_size for path in directory.iterdir())
resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
try:
    for step in range(1, 1000):
        writer.add(example_batch(step))
except StorageError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
writer.add(example_batch(step))
print(step)
"""


def test_a_full_disk_is_said_and_what_was_there_stays(tmp_path: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    assert hard == resource.RLIM_INFINITY, "needs to raise the limit again"
    done = child(FULL, str(tmp_path))
    error, last = done.stdout.splitlines()
    assert "Free some space" in error, done
    steps = [record.step for record in store.load(ID, tmp_path).models[0].steps]
    assert steps == list(range(int(last) + 1))


READ = """
import sys
from pathlib import Path
from unvanish import store
directory = Path(sys.argv[1])
print([(one.id, one.damaged) for one in store.runs(directory)])
print(len(store.load("last", directory).models[0].steps))
"""
WRITE = """
import sys
from pathlib import Path
from unvanish import store
from unvanish.errors import StorageError
from unvanish.testing.conformance import example_run
for attempt in (store.begin, store.save):
    try:
        attempt(example_run("x"), Path(sys.argv[1]))
    except StorageError as error:
        print(error)
"""


def test_a_read_only_directory_is_read_and_writing_is_refused(open_directory: Path) -> None:
    writer = store.begin(example_run(), open_directory)
    writer.add(example_batch(0))
    writer.close()
    os.chmod(open_directory, 0o555)
    read = child(AS_READER + READ, str(open_directory))
    assert read.stdout.splitlines() == [f"[({ID!r}, None)]", "1"], read.stderr
    refused = child(AS_READER + WRITE, str(open_directory))
    assert refused.stdout.count("Check its permissions") == 2, refused


# --- other files, other versions -----------------------------------------------------------------


def test_a_damaged_database_is_said_and_a_run_goes_to_a_file(tmp_path: Path) -> None:
    (tmp_path / database.NAME).write_bytes(b"this is no database" * 100)
    with pytest.raises(NotOurFileError, match="Move it away"):
        store.runs(tmp_path)
    assert store.save(example_run(), tmp_path).suffix == ".run"


def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / database.NAME)
    other.execute("CREATE TABLE theirs (x)")
    other.commit()
    other.close()
    before = (tmp_path / database.NAME).read_bytes()
    with pytest.raises(NotOurFileError, match="not one of unvanish"):
        store.begin(example_run(), tmp_path)
    # WAL is a property of the file that we had set by then; the content is theirs.
    assert sqlite3.connect(tmp_path / database.NAME).execute(
        "SELECT name FROM sqlite_master"
    ).fetchall() == [("theirs",)]
    assert len(before) > 0


def test_a_damaged_record_does_not_hide_the_others(tmp_path: Path) -> None:
    for name in ("a", "b"):
        store.save(example_run(name), tmp_path)
    connection = sqlite3.connect(tmp_path / database.NAME)
    connection.execute("UPDATE runs SET record = x'00' WHERE id = 'a'")
    connection.commit()
    connection.close()
    newer, older = store.runs(tmp_path)
    assert (newer.damaged, older.head) == (None, None)
    assert older.damaged
    with pytest.raises(NotOurFileError):
        store.load("a", tmp_path)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    store.save(example_run(), tmp_path)
    connection = sqlite3.connect(tmp_path / database.NAME)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(NotOurFileError, match=r"schema 99.*Upgrade unvanish"):
        store.load("last", tmp_path)


def test_an_older_schema_is_migrated_with_its_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(example_run(), tmp_path)
    later = (*schema.MIGRATIONS, ("ALTER TABLE runs ADD COLUMN note TEXT",))
    monkeypatch.setattr(schema, "MIGRATIONS", later)
    assert store.load("last", tmp_path).id == ID
    connection = sqlite3.connect(tmp_path / database.NAME)
    assert connection.execute("PRAGMA user_version").fetchone() == (len(later),)
    assert connection.execute("SELECT note FROM runs").fetchone() == (None,)
    connection.close()


def test_a_migration_that_fails_leaves_the_database_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(example_run(), tmp_path)
    with monkeypatch.context() as patch:
        faulty = ("ALTER TABLE runs ADD COLUMN note TEXT", "nonsense")
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, faulty))
        with pytest.raises(StorageError):
            store.load("last", tmp_path)
    assert store.load("last", tmp_path).id == ID


def test_files_of_an_older_version_are_listed_and_read(tmp_path: Path) -> None:
    files.write(example_run("20250101-old"), tmp_path)
    store.save(example_run("20260101-new"), tmp_path)
    assert [summary.id for summary in store.runs(tmp_path)] == ["20260101-new", "20250101-old"]
    assert store.load("2025", tmp_path).id == "20250101-old"
    assert store.load(str(tmp_path / "20260101-new.run"), tmp_path).id == "20260101-new"


def test_a_database_given_by_name_is_its_newest_run(tmp_path: Path) -> None:
    for name in ("a", "b"):
        path = store.save(example_run(name), tmp_path)
    assert store.load(str(path), Path("/nowhere")).id == "b"


def test_blobs_are_as_documented(tmp_path: Path) -> None:
    writer = store.begin(example_run(), tmp_path)
    writer.add(example_batch(0))
    writer.close()
    connection = sqlite3.connect(tmp_path / database.NAME)
    ((mode,),) = connection.execute("PRAGMA journal_mode").fetchall()
    ((blob,),) = connection.execute('SELECT "values" FROM readings').fetchall()
    connection.close()
    assert mode == "wal"
    assert blob == b"\x00\x00\x50\xc0\x00\x00\x80\xff"  # -3.25 and -inf, little-endian float32


def test_the_record_is_what_a_run_file_holds(tmp_path: Path) -> None:
    run = example_run()
    store.save(run, tmp_path)
    connection = sqlite3.connect(tmp_path / database.NAME)
    ((record,),) = connection.execute("SELECT record FROM runs").fetchall()
    connection.close()
    assert record == codec.encode_run(run) == files.write(run, tmp_path).read_bytes()
