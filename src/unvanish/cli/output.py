"""Where results go: a file, written whole or not at all; or stdout, whatever it can print."""

from __future__ import annotations

import codecs
import errno
import io
import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from unvanish.errors import OutputExistsError, StorageError
from unvanish.i18n import _

if TYPE_CHECKING:
    from rich.console import RenderableType

# What stands for a character that a terminal's encoding lacks. One column each where a table may
# hold it, so that columns stay aligned.
_PLAIN = {
    **{"σ": "s", "φ": "f", "χ": "x", "∂": "d", "∏": "P", "Δ": "D", "·": "*", "×": "x", "−": "-"},
    **{"–": "-", "≥": ">=", "≤": "<=", "≈": "~", "±": "+-", "→": "->", "½": "1/2", "²": "^2"},
    **{"…": "...", "√": "sqrt", "‖": "||", "′": "'", "█": "#", "│": "|", "─": "-", "•": "*"},
    **dict(zip("▁▂▃▄▅▆▇", "_.-:=+*", strict=True)),
    **dict(zip("，。：；（）、“”", ",.:;(),\"\"", strict=True)),
}  # fmt: skip


def _degrade(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(character, "?") for character in lacking), error.end


codecs.register_error("unvanish", _degrade)


def printable(text: str) -> str:
    """Return `text` with what stdout's encoding lacks replaced by plain characters."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "unvanish").decode(encoding)


def show(*parts: RenderableType) -> None:
    """Print rich renderables on stdout, each on lines of its own; strings as they are, no markup.

    Raises StorageError when stdout is a file on a full disk.
    """
    from rich.console import Console

    from unvanish.report.prose import prose

    sheet = _Sheet()
    console = Console(file=sheet, highlight=False, markup=False, emoji=False)
    for part in parts:
        console.print(prose(part))
    lines = "".join(line.rstrip() + "\n" for line in sheet.getvalue().splitlines())
    _write_stdout(lines, sheet.encoding)


class _Sheet(io.StringIO):
    """Takes what rich would write to stdout: to rich it is the same kind of terminal."""

    @property
    def encoding(self) -> str:  # type: ignore[override] # a plain attribute in typeshed only
        return getattr(sys.stdout, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        return sys.stdout.isatty()


def check_output(path: str, force: bool = False) -> None:
    """Raise what `write_output` would raise for this `path`, before the work is done."""
    if path == "-":
        return
    target = Path(path)
    if target.is_dir():
        raise StorageError(
            _("{path} is a directory").format(path=path), _("Give the name of a file in it.")
        )
    if target.is_file() and not force:
        raise OutputExistsError(
            _("{path} exists already").format(path=path),
            _("Give another name, or --force to overwrite it."),
        )
    if not target.parent.is_dir():
        raise StorageError(
            _("the directory {path} does not exist").format(path=target.parent),
            _("Create it first, or write elsewhere."),
        )


def write_output(path: str, text: str | bytes, force: bool = False) -> None:
    """Write `text` (as UTF-8) or an image's bytes to the file `path`, or to stdout where it is `-`.

    A file appears whole or not at all: the text goes to a temporary file beside it that then takes
    its name. Devices and pipes (`/dev/null`) are written to as they are.

    Raises:
        OutputExistsError: the file exists and `force` is false.
        StorageError: its directory does not exist, the disk is full, permission is missing.
    """
    if path == "-" and isinstance(text, str):
        _write_stdout(text, "utf-8")
        return
    check_output(path, force)
    target = Path(os.path.realpath(path))  # a link stays, and what it points to is replaced
    data = text.encode("utf-8", "backslashreplace") if isinstance(text, str) else text
    try:
        if target.exists() and not target.is_file():
            target.write_bytes(data)
        else:
            _replace(target, data)
    except OSError as error:
        raise _storage_error(path, error) from error


def _replace(target: Path, data: bytes) -> None:
    temporary = target.with_name(f".unvanish-{secrets.token_hex(8)}.tmp")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            temporary.chmod(target.stat().st_mode & 0o7777)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _write_stdout(text: str, encoding: str) -> None:
    stream = sys.stdout
    binary = getattr(stream, "buffer", None)
    try:
        stream.flush()
        if binary is None:  # a StringIO, a notebook: takes any text
            stream.write(text)
        else:
            binary.write(text.encode(encoding, "unvanish"))
        stream.flush()
    except BrokenPipeError:
        raise  # the reader went away (`| head`): click ends the program quietly
    except OSError as error:
        # What is still buffered cannot go anywhere; the interpreter would fail on it again at exit.
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
        raise _storage_error("stdout", error) from error


def _storage_error(path: str, error: OSError) -> StorageError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        remedy = _("Free some space, or write elsewhere.")
    else:
        remedy = _("Check the path and its permissions, or write elsewhere.")
    reason = error.strerror or str(error)
    return StorageError(_("cannot write {path}: {reason}").format(path=path, reason=reason), remedy)
