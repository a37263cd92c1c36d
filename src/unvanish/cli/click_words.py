"""What click says by itself, such as its usage errors, in the chosen language.

Click looks its words up through the standard library's gettext, in the current text domain and in
the language that LANGUAGE names. Both belong to the whole process, so they are set only while click
is at work, and given back while a command runs: it may run a script of the user.
"""

from __future__ import annotations

import gettext
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from unvanish.i18n import DIRECTORY, current

_DOMAIN = "click"
_outside = (gettext.textdomain(), os.environ.get("LANGUAGE"))


@contextmanager
def click_speaks() -> Iterator[None]:
    """Have click speak the chosen language inside the block."""
    global _outside
    gettext.bindtextdomain(_DOMAIN, str(DIRECTORY))
    with _lookup(_DOMAIN, current()) as _outside:
        yield


def click_is_silent() -> AbstractContextManager[object]:
    """Give domain and language back inside the block, as they were outside of `click_speaks`."""
    return _lookup(*_outside)


@contextmanager
def _lookup(domain: str, language: str | None) -> Iterator[tuple[str, str | None]]:
    """Set where the standard library looks words up, and yield what held before."""
    before = (gettext.textdomain(), os.environ.get("LANGUAGE"))
    _set(domain, language)
    try:
        yield before
    finally:
        _set(*before)


def _set(domain: str, language: str | None) -> None:
    gettext.textdomain(domain)
    if language is None:
        os.environ.pop("LANGUAGE", None)
    else:
        os.environ["LANGUAGE"] = language
