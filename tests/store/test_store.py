"""Runs on disk: what is saved is what is read, whoever writes at the same time, whatever fails."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from tests.report import builders
from unvanish import codec, store
from unvanish.errors import NotOurFileError, StorageError, UnknownNameError, UsageError
from unvanish.records import Run
from unvanish.store import files


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / ".unvanish"


def named(identity: str, run: Run | None = None) -> Run:
    return replace(run or builders.healthy().run, id=identity)


def same(one: Run, other: Run) -> bool:
    # NaN differs from itself, so records are compared as the bytes they are saved as.
    return codec.encode_run(one) == codec.encode_run(other)


@pytest.mark.parametrize("name", ["vanishing", "nonfinite", "gan", "hostile", "empty"])
def test_what_is_saved_is_what_is_loaded(name: str, directory: Path) -> None:
    run = builders.every_diagnosis()[name].run
    path = store.save(run, directory)
    assert path == directory / "runs.db"
    assert same(store.load(run.id, directory), run)
    assert same(store.load(str(path), Path("/nowhere")), run)
    assert same(store.load(str(files.write(run, directory)), Path("/nowhere")), run)


def test_a_run_saved_before_there_were_graphs_spectra_and_inputs_is_read() -> None:
    run = builders.vanishing().run
    head, _newline, body = codec.encode_run(run).partition(b"\n1\n")
    plain = msgspec.msgpack.decode(body)
    for trace in plain["models"][0]["traces"]:
        for name in ("graph", "spectrum", "inputs"):
            del trace[name]
    old = codec.decode_run(head + _newline + msgspec.msgpack.encode(plain))
    trace, whole = old.models[0].traces[0], run.models[0].traces[0]
    assert (trace.graph, trace.spectrum, trace.inputs) == (None, None, ())
    assert trace.layers == whole.layers


def test_saving_leaves_the_database_and_a_gitignore_only(directory: Path) -> None:
    store.save(named("a"), directory)
    store.save(named("a"), directory)
    assert sorted(path.name for path in directory.iterdir()) == [".gitignore", "runs.db"]
    assert (directory / ".gitignore").read_text() == "*\n"


def test_a_prefix_is_enough_if_it_is_unique(directory: Path) -> None:
    for identity in ("20260101-a1", "20260101-a2", "20260102-b1"):
        store.save(named(identity), directory)
    assert store.load("20260102", directory).id == "20260102-b1"
    assert store.load("last", directory).id == "20260102-b1"
    with pytest.raises(UsageError, match=r"begins the ids of 2 runs .*a1, 20260101-a2.*Type more"):
        store.load("20260101", directory)
    with pytest.raises(UnknownNameError, match="known: 20260102-b1, 20260101-a2"):
        store.load("1999", directory)
    with pytest.raises(UnknownNameError):
        store.load("", directory)


def test_a_whole_id_wins_over_longer_ids_that_it_begins(directory: Path) -> None:
    store.save(named("a"), directory)
    store.save(named("ab"), directory)
    assert store.load("a", directory).id == "a"


@pytest.mark.parametrize("made", [True, False])
def test_without_runs_the_error_says_how_to_record_one(directory: Path, made: bool) -> None:
    if made:
        directory.mkdir()
    assert store.runs(directory) == []
    with pytest.raises(UsageError, match=r"no runs are saved in .*unvanish run train.py"):
        store.load("last", directory)


def test_a_file_of_any_name_in_the_current_directory_will_do(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(named("a"), directory)
    files.write(named("b"), directory).rename(tmp_path / "stuck")
    monkeypatch.chdir(tmp_path)
    assert store.load("stuck", directory).id == "b"


def test_a_missing_file_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"No such file.*unvanish runs"):
        store.load(str(tmp_path / "x.run"), tmp_path)


def test_runs_lists_the_newest_first_and_damaged_files_as_damaged(directory: Path) -> None:
    directory.mkdir()
    whole = files.write(named("2026-a", builders.gan().run), directory)
    (directory / "2026-b.run").write_bytes(whole.read_bytes()[:-100])
    (directory / "2026-c.run").write_bytes(b"not a run")
    newer = whole.read_bytes().replace(b"\n1\n", b"\n999\n", 1)
    (directory / "2026-d.run").write_bytes(newer)
    (directory / "2026-e.run").mkdir()
    listed = store.runs(directory)
    assert [entry.id for entry in listed] == ["2026-e", "2026-d", "2026-c", "2026-b", "2026-a"]
    head = listed[-1].head
    assert head is not None
    assert listed[-1].damaged is None
    assert [(model.name, len(model.steps)) for model in head.models] == [
        ("generator", 200),
        ("discriminator", 200),
    ]
    assert "schema 999" in str(listed[1].damaged)
    assert all(entry.head is None and entry.damaged for entry in listed[:-1])
    with pytest.raises(NotOurFileError, match=r"2026-b\.run: this run is damaged"):
        store.load("2026-b", directory)


def test_a_header_of_ten_thousand_digits_is_damage_and_no_crash(directory: Path) -> None:
    directory.mkdir()
    (directory / "x.run").write_bytes(codec.MAGIC + b"9" * 10_000 + b"\n")
    assert "damaged" in str(store.runs(directory)[0].damaged)


@pytest.mark.parametrize("identity", ["../x", "", ".hidden", "a/b", "a\0b", "x" * 101])
def test_an_id_cannot_lead_out_of_the_directory(identity: str, directory: Path) -> None:
    with pytest.raises(UsageError):
        store.save(named(identity), directory)
    assert not directory.exists()


def test_a_full_disk_leaves_the_old_run_whole_and_no_temporary_file(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = named("a")
    directory.mkdir()
    files.write(old, directory)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"No space left on device. Free some space"):
        files.write(named("a", builders.gan().run), directory)
    assert sorted(path.name for path in directory.iterdir()) == ["a.run"]
    assert same(store.load("a", directory), old)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_really_full_device(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fdopen

    def on_full(handle: int, mode: str) -> object:
        os.dup2(os.open("/dev/full", os.O_WRONLY), handle)
        return real(handle, mode)

    directory.mkdir()
    monkeypatch.setattr(os, "fdopen", on_full)
    with pytest.raises(StorageError, match="Free some space"):
        files.write(named("a"), directory)
    assert not list(directory.iterdir())


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="Check its permissions"):
        store.save(named("a"), tmp_path / "file")


def test_ids_sort_as_they_were_made_and_do_not_repeat() -> None:
    ids = [store.new_id() for _ in range(5000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)


WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from tests.report import builders
from unvanish import store
run = builders.healthy().run
for _ in range(20):
    run = replace(run, id=store.new_id())
    store.save(run, Path(sys.argv[1]))
    print(run.id)
"""


def test_two_processes_write_side_by_side(directory: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(directory)]
    writers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    written = [writer.communicate(timeout=60)[0].split() for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0]
    ids = [*written[0], *written[1]]
    assert len(set(ids)) == 40
    listed = store.runs(directory)
    assert {entry.id for entry in listed} == set(ids)
    assert all(entry.damaged is None for entry in listed)
