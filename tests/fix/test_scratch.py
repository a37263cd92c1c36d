"""The scratch copy of a directory: what is in it, and that nothing in it is the user's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unvanish.errors import StorageError
from unvanish.fix import scratch as module
from unvanish.fix.scratch import leads_out, room_needed, scratch, survey


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "work"
    (made / "data").mkdir(parents=True)
    (made / "data" / "small.txt").write_text("small")
    return made


def test_it_leaves_out_what_is_not_needed_and_empties_what_earlier_runs_left(
    directory: Path,
) -> None:
    for name in (".git", "runs", "data/__pycache__"):
        (directory / name).mkdir()
        (directory / name / "old").write_text("old")
    with scratch(directory) as copy:
        assert sorted(path.name for path in copy.iterdir()) == ["data", "runs"]
        assert list((copy / "runs").iterdir()) == []
        (copy / "data" / "small.txt").write_text("changed")
    assert not copy.exists()
    assert (directory / "data" / "small.txt").read_text() == "small"


def test_a_checkpoint_is_copied_so_that_a_trial_cannot_overwrite_it(directory: Path) -> None:
    with (directory / "model.pt").open("wb") as file:
        file.truncate(40 * 2**20)
    with scratch(directory) as copy:
        (copy / "model.pt").write_bytes(b"of a trial")
    assert (directory / "model.pt").stat().st_size == 40 * 2**20


def test_the_largest_files_are_linked_and_named(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / "large.bin").write_bytes(b"0" * 100)
    monkeypatch.setattr(module, "COPIED", 50)
    taken = survey(directory)
    assert (taken.copied, taken.linked) == ((Path("data/small.txt"),), (Path("large.bin"),))
    assert taken.size == 5
    with scratch(directory) as copy:
        assert (copy / "large.bin").is_symlink()
        assert (copy / "large.bin").read_bytes() == b"0" * 100


def test_links_within_lead_into_the_copy_and_links_without_lead_where_they_led(
    directory: Path,
) -> None:
    (directory.parent / "shared").mkdir()
    (directory.parent / "shared" / "set.txt").write_text("shared")
    (directory / "outward").symlink_to("../shared")
    (directory / "inward").symlink_to(directory / "data")  # absolute: would lead to the user's
    assert leads_out(directory, Path("outward"))
    assert not leads_out(directory, Path("inward"))
    with scratch(directory) as copy:
        assert (copy / "outward" / "set.txt").read_text() == "shared"
        (copy / "inward" / "small.txt").write_text("changed")
        assert (copy / "data" / "small.txt").read_text() == "changed"
    assert (directory / "data" / "small.txt").read_text() == "small"


def test_what_cannot_be_copied_is_passed_over(directory: Path) -> None:
    os.mkfifo(directory / "pipe")
    (directory / "broken").symlink_to("nowhere")
    (directory / "loop").symlink_to("loop")
    (directory / "unvanish-fix-other").mkdir()
    with scratch(directory) as copy:
        assert sorted(path.name for path in copy.iterdir()) == ["broken", "data", "loop"]


def test_a_full_disk_is_told_with_what_helps(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copy2", full)
    told = r"No space left on device\. Make room in .* TMPDIR"
    with pytest.raises(StorageError, match=told), room_needed(), scratch(directory):
        pass
