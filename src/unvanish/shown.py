"""Values that show themselves: HTML in a notebook, a short line in a terminal."""

from __future__ import annotations

import html
import importlib


class Shown:
    """Base class of values with a fragment of HTML for a notebook's output.

    The fragments of records are made by `unvanish.report.fragments`, which lies above them and is
    looked up only when something is shown. A value of a higher layer makes its own.
    """

    __slots__ = ()

    def _fragment(self) -> str:
        """Return a fragment of HTML: no script, loads nothing."""
        made: str = importlib.import_module("unvanish.report.fragments").fragment(self)
        return made

    def _repr_html_(self) -> str:
        """Return the fragment; what fails there is told in the cell, and does not break it."""
        try:
            return self._fragment()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            return f"<pre>{html.escape(repr(self))}\n{html.escape(reason)}</pre>"
