"""Translation: every text a person sees passes through `_`, documentation through `translate_text`.

The language is chosen once, before any text is made: `--lang`, then UNVANISH_LANG, then the
locale; from Python, when this module is imported, and later with `choose`. Catalogues live in
`locale/`, in gettext's own form: the domain `unvanish` holds what the program says, `click` what
click says by itself, and a domain of its own each larger body of documentation (`rules`, `cures`).
A server that answers several readers at once chooses for each answer (`speaking`).
"""

from __future__ import annotations

import gettext
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

LANGUAGES = ("en", "zh")
DIRECTORY = Path(__file__).with_name("locale")
_translations: gettext.NullTranslations = gettext.NullTranslations()
_language = "en"
_spoken: ContextVar[tuple[str, gettext.NullTranslations] | None] = ContextVar(
    "spoken", default=None
)
_HEADING = re.compile(r"#+ ")
_BIBLIOGRAPHY = "References"  # the heading under which list items are titles of works


def choose(language: str | None = None) -> str:
    """Set the language ("en", "zh"; None: from the environment) and return what was set."""
    global _translations, _language
    _language = language if language in LANGUAGES else _from_environment()
    _translations = _catalogue("unvanish", _language)
    return _language


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """Use `language` inside the block, in this thread only."""
    token = _spoken.set((language, _catalogue("unvanish", language)))
    try:
        yield
    finally:
        _spoken.reset(token)


def current() -> str:
    """Return the language in use."""
    spoken = _spoken.get()
    return _language if spoken is None else spoken[0]


def language_option(arguments: Sequence[str]) -> str | None:
    """Return the value of `--lang` among command-line arguments, before they are parsed."""
    for position, argument in enumerate(arguments):
        if argument.startswith("--lang="):
            return argument.partition("=")[2]
        if argument == "--lang" and position + 1 < len(arguments):
            return arguments[position + 1]
    return None


def _(message: str) -> str:
    """Translate `message`."""
    spoken = _spoken.get()
    return (_translations if spoken is None else spoken[1]).gettext(message)


def _catalogue(domain: str, language: str) -> gettext.NullTranslations:
    return gettext.translation(domain, DIRECTORY, [language], fallback=True)


def translate_text(text: str, domain: str) -> str:
    """Translate a documentation text (Markdown, as a cleaned docstring) block by block.

    A message is a heading, a paragraph or one item of a list, with its lines joined to one. Code
    (indented by four) and the list of references stay as they are, and so does what the catalogue
    of `domain` lacks, such as the rule of another package.
    """
    catalogue = _catalogue(domain, current())
    return _with_messages(text, catalogue.gettext)


def text_messages(text: str) -> list[str]:
    """Return the messages that `translate_text` looks up for `text`, in order."""
    found: list[str] = []

    def keep(message: str) -> str:
        found.append(message)
        return message

    _with_messages(text, keep)
    return found


def _with_messages(text: str, translate: Callable[[str], str]) -> str:
    """Return `text` with each of its messages translated."""
    pieces = re.split(r"(\n{2,})", text)  # blocks, and the blank lines between them
    cited = False
    for position, block in enumerate(pieces):
        if not block.strip() or block.startswith("    "):
            continue
        if heading := _HEADING.match(block):
            cited = block[heading.end() :] == _BIBLIOGRAPHY
        lines = re.split(r"\n(?=- )", block)
        pieces[position] = "\n".join(
            line if cited and line.startswith("- ") else _with_message(line, translate)
            for line in lines
        )
    return "".join(pieces)


def _with_message(block: str, translate: Callable[[str], str]) -> str:
    """Translate one heading, paragraph or list item; what has no translation keeps its lines."""
    mark = re.match(r"#+ |- |", block)
    lead = mark[0] if mark else ""
    message = " ".join(block[len(lead) :].split())
    translated = translate(message)
    return block if translated == message else lead + translated


def _from_environment() -> str:
    for name in ("UNVANISH_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        value = os.environ.get(name, "")
        if value:
            return "zh" if value.lower().startswith("zh") else "en"
    return "en"


choose()
