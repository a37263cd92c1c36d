"""Translation: every text a person sees passes through `_`.

The language is chosen once, before any text is made: `--lang`, then UNVANISH_LANG, then the
locale. Catalogues live in `locale/`, in gettext's own form. A server that answers several readers
at once chooses for each answer (`speaking`).
"""

from __future__ import annotations

import gettext
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

LANGUAGES = ("en", "zh")
_DIRECTORY = Path(__file__).with_name("locale")
_translations: gettext.NullTranslations = gettext.NullTranslations()
_language = "en"
_spoken: ContextVar[tuple[str, gettext.NullTranslations] | None] = ContextVar(
    "spoken", default=None
)


def choose(language: str | None = None) -> str:
    """Set the language ("en", "zh"; None: from the environment) and return what was set."""
    global _translations, _language
    _language = language if language in LANGUAGES else _from_environment()
    _translations = _catalogue(_language)
    return _language


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """Use `language` inside the block, in this thread only."""
    token = _spoken.set((language, _catalogue(language)))
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


def _catalogue(language: str) -> gettext.NullTranslations:
    return gettext.translation("unvanish", _DIRECTORY, [language], fallback=True)


def _from_environment() -> str:
    for name in ("UNVANISH_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        value = os.environ.get(name, "")
        if value:
            return "zh" if value.lower().startswith("zh") else "en"
    return "en"
