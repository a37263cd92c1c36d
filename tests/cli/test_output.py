"""Where results go: files whole or not at all, and stdout whatever its encoding."""

import io
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from unvanish.cli.output import check_output, printable, show, write_output
from unvanish.errors import OutputExistsError, StorageError


def test_writes_utf8_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    write_output(str(target), "σ 消失\n")
    assert target.read_bytes() == "σ 消失\n".encode()
    assert os.listdir(tmp_path) == ["x.json"]


def test_mode_follows_the_umask_and_survives_overwriting(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    old = os.umask(0o027)
    try:
        write_output(str(target), "1")
    finally:
        os.umask(old)
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    target.chmod(0o604)
    write_output(str(target), "2", force=True)
    assert stat.S_IMODE(target.stat().st_mode) == 0o604


def test_refuses_to_overwrite_without_force(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    target.write_text("old")
    with pytest.raises(OutputExistsError, match="--force"):
        check_output(str(target))
    with pytest.raises(OutputExistsError, match="--force"):
        write_output(str(target), "new")
    assert target.read_text() == "old"
    write_output(str(target), "new", force=True)
    assert target.read_text() == "new"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    link.symlink_to(real)
    write_output(str(link), "new", force=True)
    assert link.is_symlink()
    assert real.read_text() == "new"


def test_a_device_is_written_to_and_not_replaced() -> None:
    write_output(os.devnull, "gone")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


@pytest.mark.parametrize("name", ["missing/x.json", "."])
def test_bad_places_have_a_remedy(tmp_path: Path, name: str) -> None:
    with pytest.raises(StorageError, match=r"Create it first|name of a file"):
        write_output(str(tmp_path / name), "x")


def test_a_full_device_is_a_storage_error() -> None:
    with pytest.raises(StorageError, match="Free some space"):
        write_output("/dev/full", "x")


# A limit on the size of files makes the write fail halfway, as a full disk does.
HALFWAY = """
import resource, sys
from unvanish.cli.output import write_output
from unvanish.errors import StorageError
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_output(sys.argv[1], "x" * 5000, force=True)
except StorageError as error:
    print(error)
"""


def test_a_write_that_fails_halfway_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    target.write_text("old")
    result = subprocess.run(
        [sys.executable, "-c", HALFWAY, str(target)], capture_output=True, text=True, check=True
    )
    assert "Free some space" in result.stdout
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.json"]


class Stream(io.TextIOWrapper):
    """A stdout of a chosen encoding."""

    def __init__(self, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding)

    def text(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode(self.encoding)  # type: ignore[attr-defined]


def test_degrades_what_the_encoding_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Stream("ascii"))
    assert printable("σ'(z)·w − 1 消") == "s'(z)*w - 1 ?"
    monkeypatch.setattr(sys, "stdout", Stream("gbk"))
    assert printable("σ 消失 ▁█") == "σ 消失 ▁█"
    monkeypatch.setattr(sys, "stdout", Stream("latin-1"))
    assert printable("σ·z²") == "s·z²"  # only what is lacking


def test_show_prints_rich_on_any_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.table import Table

    for encoding in ("ascii", "utf-8"):
        stream = Stream(encoding)
        monkeypatch.setattr(sys, "stdout", stream)
        table = Table("σ'(z)")
        table.add_row("0.25")
        show(table, "∂C/∂w")
        assert "0.25" in stream.text()
        assert ("dC/dw" if encoding == "ascii" else "∂C/∂w") in stream.text()


def test_names_are_not_taken_for_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream("utf-8")
    monkeypatch.setattr(sys, "stdout", stream)
    show("layer [bold]1[/bold] :smile: [/nonsense]")
    assert stream.text() == "layer [bold]1[/bold] :smile: [/nonsense]\n"


def test_json_on_stdout_is_utf8_whatever_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream("ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    write_output("-", '"σ"\n')
    stream.flush()
    assert json.loads(stream.buffer.getvalue().decode("utf-8")) == "σ"  # type: ignore[attr-defined]


def test_a_stream_without_bytes_takes_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    write_output("-", "σ")
    show("∂")
    assert stream.getvalue() == "σ∂\n"
