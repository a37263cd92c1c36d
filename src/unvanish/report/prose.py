"""Paragraphs in a terminal, in languages that do not put spaces between words too."""

from __future__ import annotations

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.text import Text

from unvanish import words


class Prose:
    """Text whose lines end after a space or a Chinese character, never in front of a full stop.

    Rich by itself breaks at spaces only: a Chinese sentence would start on a new line after each
    Latin word in it.
    """

    def __init__(self, text: str | Text, style: str = "") -> None:
        self.text = text if isinstance(text, Text) else Text(text, style)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.text.no_wrap or not _wide(self.text.plain):
            yield self.text
            return
        lines = [
            piece
            for line in self.text.split(allow_blank=True)
            for piece in line.divide(words.line_breaks(line.plain, options.max_width))
        ]
        for line in lines:
            line.rstrip()
        yield Text("\n", end=self.text.end).join(lines)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        whole = Measurement.get(console, options, self.text)
        longest = max(map(words.width, words.line_pieces(self.text.plain)), default=0)
        return Measurement(min(longest, whole.minimum), whole.maximum)


def prose(part: RenderableType) -> RenderableType:
    """Return `part`, as prose if it is plain or styled text, padded or not."""
    if isinstance(part, Padding):
        sides = (part.top, part.right, part.bottom, part.left)
        return Padding(prose(part.renderable), sides, style=part.style, expand=part.expand)
    return Prose(part) if isinstance(part, str | Text) else part


def _wide(text: str) -> bool:
    return words.width(text) > len(text)
