"""Translation: every text a person sees passes through `_`.

The language is that of `--lang` or `choose`; where neither was, the first text takes it from
UNVANISH_LANG or the locale. Catalogues live in `locale/`, in gettext's own form.
"""

from __future__ import annotations

import gettext
import os
from collections.abc import Sequence
from pathlib import Path

LANGUAGES = ("en", "zh")
_DIRECTORY = Path(__file__).with_name("locale")
_translations: gettext.NullTranslations | None = None
_language = "en"


def choose(language: str | None = None) -> str:
    """Set the language ("en", "zh"; None: from the environment) and return what was set."""
    global _translations, _language
    _language = language if language in LANGUAGES else _from_environment()
    _translations = gettext.translation("unvanish", _DIRECTORY, [_language], fallback=True)
    return _language


def current() -> str:
    """Return the language in use."""
    if _translations is None:
        choose()
    return _language


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
    if _translations is None:
        choose()
    assert _translations is not None
    return _translations.gettext(message)


def _from_environment() -> str:
    for name in ("UNVANISH_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        value = os.environ.get(name, "")
        if value:
            return "zh" if value.lower().startswith("zh") else "en"
    return "en"
