"""Click's help pages, in the chosen language, and printable on any terminal."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import click

from unvanish.cli.click_words import click_is_silent
from unvanish.cli.output import printable
from unvanish.i18n import _


class HelpFormatter(click.HelpFormatter):
    """Translates the words that click itself writes, and wraps Chinese by its width in columns."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """Write the usage line, which starts with a translated "Usage:"."""
        args = args.replace("[OPTIONS]", _("[OPTIONS]")).replace("COMMAND", _("COMMAND"))
        args = args.replace("[ARGS]", _("[ARGS]"))
        super().write_usage(prog, args, _("Usage:") + " " if prefix is None else prefix)

    def write_heading(self, heading: str) -> None:
        """Write the heading of a section."""
        super().write_heading(
            {"Options": _("Options"), "Commands": _("Commands")}.get(heading, heading)
        )

    def write_text(self, text: str) -> None:
        """Write paragraphs."""
        super().write_text(_fold(text, self.width - self.current_indent))

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        """Write options, or commands, with their help beside them."""
        known = {
            "Show this message and exit.": _("show this message and exit"),
            "Show the version and exit.": _("show the version and exit"),
        }
        rows = [(first, known.get(second, second)) for first, second in rows]
        column = min(max(len(first) for first, _second in rows), col_max) + col_spacing
        folded = [(first, _fold(second, self.width - column - 2)) for first, second in rows]
        super().write_dl(folded, col_max, col_spacing)

    def getvalue(self) -> str:
        """Return the page."""
        return printable(super().getvalue())


class HelpContext(click.Context):
    """A context whose pages are written by HelpFormatter."""

    formatter_class = HelpFormatter

    def invoke(self, callback: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Run a command, which may run a script of the user: without click's text domain."""
        with click_is_silent():
            return super().invoke(callback, *args, **kwargs)


def _fold(text: str, columns: int) -> str:
    """Break paragraphs that hold wide characters into lines, and tell click to keep these.

    Click counts characters, and a Chinese one takes two columns.
    """
    if text.isascii():
        return text
    from unvanish import words

    paragraphs = []
    for paragraph in text.split("\n\n"):
        ends = [0, *words.line_breaks(paragraph, columns), len(paragraph)]
        lines = [paragraph[start:end].rstrip() for start, end in pairwise(ends)]
        paragraphs.append("\b\n" + "\n".join(lines))
    return "\n\n".join(paragraphs)
