"""The rules there are: those in `rules/`, one file each, and those that other packages add."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from importlib.metadata import entry_points

from unvanish.diagnose import rules as builtin
from unvanish.diagnose.rule import Rule
from unvanish.errors import UnknownNameError
from unvanish.i18n import _

GROUP = "unvanish.rules"


def rules() -> tuple[Rule, ...]:
    """Return all rules, ours first, each by code."""
    return _load()[0]


def problems() -> tuple[str, ...]:
    """Return one line for each rule of another package that could not be loaded."""
    return _load()[1]


def rule(code: str) -> Rule:
    """Return the rule `code` (any case). Raises UnknownNameError."""
    for candidate in rules():
        if candidate.code == code.upper():
            return candidate
    raise UnknownNameError(
        _("rule"), code, [each.code for each in rules()], _("Type `unvanish rule` to see them.")
    )


@cache
def _load() -> tuple[tuple[Rule, ...], tuple[str, ...]]:
    found = {each.code: each for each in _builtin()}
    notes: list[str] = []
    for entry in entry_points(group=GROUP):
        try:
            value = entry.load()
            if not isinstance(value, Rule):
                raise TypeError(f"{entry.value} is a {type(value).__name__}, not a Rule")
            if value.code in found:
                raise ValueError(f"the code {value.code} is taken")
        except Exception as error:  # whatever another package raises must not stop a diagnosis
            notes.append(
                _("the rule {name} of another package could not be loaded ({error})").format(
                    name=entry.name, error=error
                )
            )
        else:
            found[value.code] = value
    return tuple(found.values()), tuple(notes)


def _builtin() -> list[Rule]:
    names = sorted(info.name for info in pkgutil.iter_modules(builtin.__path__))
    modules = (importlib.import_module(f"{builtin.__name__}.{name}") for name in names)
    return sorted((module.RULE for module in modules), key=lambda each: each.code)
