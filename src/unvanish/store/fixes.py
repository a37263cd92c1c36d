"""Results of `unvanish fix`, one file each: `<id>.fix` beside the runs.

The line `unvanish fix`, the line `1` (the schema), then MessagePack of a `Fix`.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from unvanish import codec
from unvanish.errors import NotOurFileError
from unvanish.i18n import _
from unvanish.records import Fix
from unvanish.store.directory import make
from unvanish.store.files import write_atomically
from unvanish.store.identity import new_id
from unvanish.store.schema import storage_errors

SUFFIX = ".fix"
SCHEMA = 1
_HEAD = b"unvanish fix\n"


def save_fix(fix: Fix, directory: Path) -> Path:
    """Keep `fix` in `directory`, made if missing; return the file. Raises StorageError."""
    make(directory)
    target = directory / f"{new_id()}{SUFFIX}"
    with storage_errors(target):
        write_atomically(target, _HEAD + f"{SCHEMA}\n".encode() + msgspec.msgpack.encode(fix))
    return target


def load_fix(path: Path) -> Fix:
    """Return the result in the file `path`.

    Raises NotOurFileError if it is damaged or of a newer version, StorageError if it cannot be
    read. Reading runs no code.
    """
    with storage_errors(path):
        data = path.read_bytes()
    schema, _line, body = data.removeprefix(_HEAD).partition(b"\n")
    try:
        if not data.startswith(_HEAD) or schema != str(SCHEMA).encode():
            raise msgspec.DecodeError(_("it does not begin as schema {n}").format(n=SCHEMA))
        return codec.decode(body, Fix)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotOurFileError(
            _("{path} is no result of `unvanish fix` that can be read ({error})").format(
                path=path, error=error
            ),
            _("Upgrade unvanish, or run `unvanish fix` again."),
        ) from error


def fixes(directory: Path) -> list[tuple[str, Fix]]:
    """Return the results kept in `directory` by their ids, the newest first; damaged ones not."""
    found = []
    for path in sorted(directory.glob(f"*{SUFFIX}"), reverse=True):
        try:
            found.append((path.stem, load_fix(path)))
        except NotOurFileError:
            continue
    return found
