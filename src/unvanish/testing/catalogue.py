"""The cases there are: those of the files in `corpus/`."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from unvanish.errors import UnknownNameError
from unvanish.i18n import _
from unvanish.testing import corpus
from unvanish.testing.experiment import Case


@cache
def _all() -> dict[str, Case]:
    found: dict[str, Case] = {}
    for info in pkgutil.iter_modules(corpus.__path__):
        module = importlib.import_module(f"{corpus.__name__}.{info.name}")
        for one in getattr(module, "CASES", ()):
            if one.name in found:
                raise ValueError(f"two cases are called {one.name}")
            found[one.name] = one
    return found


def cases(group: str | None = None) -> tuple[Case, ...]:
    """Return all cases, or those of a group: "public" (reported by others) or "own"."""
    return tuple(one for one in _all().values() if group in (None, one.group))


def case(name: str) -> Case:
    """Return the case of that name. Raises UnknownNameError."""
    try:
        return _all()[name]
    except KeyError:
        remedy = _("Type `python -m unvanish.testing` to see them.")
        raise UnknownNameError(_("case"), name, list(_all()), remedy) from None
