"""Rich output on terminals whose encoding lacks some characters."""

from __future__ import annotations

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment

from unvanish import words

# One column for one, so that tables stay aligned.
_PLAIN = dict(zip("×−–…→←│─━·∞≥≤‖∂₁₀█▉▊▋▌▍▎▏", "x--~><|--*i><|d10####|   ", strict=True))


class Encodable:
    """Renders `inner` with every character that the console cannot encode replaced, width kept."""

    def __init__(self, inner: RenderableType) -> None:
        self.inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.inner, options):
            yield (
                segment
                if segment.control
                else Segment(encodable(segment.text, console.encoding), segment.style)
            )


def encodable(text: str, encoding: str) -> str:
    """Return `text` with what `encoding` lacks as plain characters, or "?" for each column."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return "".join(_plain(character, encoding) for character in text)
    return text


def _plain(character: str, encoding: str) -> str:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return _PLAIN.get(character, "?" * words.width(character))
    return character
