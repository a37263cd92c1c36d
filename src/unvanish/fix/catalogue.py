"""The cures there are: those in `cures/`."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from unvanish.errors import UnknownNameError
from unvanish.fix import cures as builtin
from unvanish.fix.cure import Cure
from unvanish.i18n import _


@cache
def cures() -> tuple[Cure, ...]:
    """Return all cures, by name."""
    names = sorted(info.name for info in pkgutil.iter_modules(builtin.__path__))
    modules = [importlib.import_module(f"{builtin.__name__}.{name}") for name in names]
    found = [each for module in modules for each in module.CURES]
    return tuple(sorted(found, key=lambda each: each.name))


def cure(name: str) -> Cure:
    """Return the cure `name`. Raises UnknownNameError."""
    for candidate in cures():
        if candidate.name == name.lower():
            return candidate
    raise UnknownNameError(
        _("cure"), name, [each.name for each in cures()], _("Type `unvanish cure` to see them.")
    )
