"""Documentation in a terminal."""

from __future__ import annotations

from rich import markdown
from rich.console import Console, ConsoleOptions, RenderResult

from unvanish.report.prose import Prose


class Paragraph(markdown.Paragraph):
    """A paragraph of a page."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Prose(self.text)


class Page(markdown.Markdown):
    """Markdown whose paragraphs and list items are folded as prose."""

    elements = markdown.Markdown.elements | {"paragraph_open": Paragraph}
