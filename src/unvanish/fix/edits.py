"""Source edits, shown: the user's line, and what it should become."""

from __future__ import annotations

import linecache
import re
from collections.abc import Iterable
from pathlib import Path

from unvanish.i18n import _
from unvanish.records import SourceLine


def edit(place: SourceLine | None, pattern: str, replacement: str, otherwise: str) -> str:
    """Return a commented edit of the line at `place`: `pattern` becomes `replacement`.

    Where the line cannot be read, or the pattern is not on it, `otherwise` says it in words.
    """
    where = _("# {file}, line {line}:").format(
        file=Path(place.file).name if place else "?", line=place.line if place else "?"
    )
    old = linecache.getline(place.file, place.line).strip() if place else ""
    new, count = re.subn(pattern, replacement, old)
    if not old or not count or new == old:
        return f"{where}\n#   {otherwise}" if place else f"# {otherwise}"
    return f"{where}\n# - {old}\n# + {new}"


def edits(
    places: Iterable[SourceLine | None], pattern: str, replacement: str, otherwise: str
) -> str:
    """Return the edits of several places, each once."""
    shown = dict.fromkeys(edit(place, pattern, replacement, otherwise) for place in places)
    return "\n".join(shown)
