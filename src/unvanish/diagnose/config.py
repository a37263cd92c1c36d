"""What a project has set in `[tool.unvanish]`: which rules run, and their thresholds.

[tool.unvanish]
select = ["VG", "EG101"]     # only these (codes or families); all when absent
ignore = ["UR101"]           # never these
preview = true               # rules that are not proven yet, too
thresholds = { vanishing-clear = 3.0 }
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unvanish.diagnose.catalogue import rules
from unvanish.diagnose.rule import Rule
from unvanish.diagnose.thresholds import THRESHOLDS
from unvanish.errors import UnknownNameError, UsageError
from unvanish.i18n import _


@dataclass(frozen=True, slots=True)
class Config:
    """Which rules run and what their thresholds are. An empty `select` means all rules."""

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    preview: bool = False
    thresholds: Mapping[str, float] = field(default_factory=dict)  # only those that differ

    def narrowed(self, select: Iterable[str] = (), ignore: Iterable[str] = ()) -> Config:
        """Return this with the command line's choice: `select` replaces, `ignore` adds.

        Items are codes or families ("VG", "EG101"), also several in one, split by commas.
        Raises UnknownNameError for one that no rule has.
        """
        chosen, left_out = _codes(select), _codes(ignore)
        return replace(self, select=chosen or self.select, ignore=self.ignore + left_out)

    def limit(self, name: str) -> float:
        """Return the threshold `name`."""
        return self.thresholds.get(name, THRESHOLDS[name].value)

    def runs(self, rule: Rule) -> bool:
        """Whether `rule` is to run: a preview rule only with `preview`, or named by its code."""
        if any(rule.code.startswith(item) for item in self.ignore):
            return False
        if rule.preview and not self.preview and rule.code not in self.select:
            return False
        return not self.select or any(rule.code.startswith(item) for item in self.select)


def load_config(directory: Path) -> Config:
    """Return `[tool.unvanish]` of the nearest pyproject.toml at or above `directory`.

    Without such a file or table: the defaults. Raises UsageError for what cannot be read, and for
    keys, codes and threshold names that do not exist.
    """
    start = directory.resolve()
    for folder in (start, *start.parents):
        file = folder / "pyproject.toml"
        if file.is_file():
            return _from_table(_table(file), file)
    return Config()


def _table(file: Path) -> Mapping[str, Any]:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(
            _("{file} cannot be read ({error})").format(file=file, error=error),
            _("Mend the file, or start from a directory that has none above it."),
        ) from error
    tool = content.get("tool", {})
    table = tool.get("unvanish", {}) if isinstance(tool, Mapping) else {}
    if not isinstance(table, Mapping):
        raise _wrong(file, "tool.unvanish", _("a table"))
    return table


def _from_table(table: Mapping[str, Any], file: Path) -> Config:
    known = ("select", "ignore", "preview", "thresholds")
    for key in table:
        if key not in known:
            raise UnknownNameError(
                _("key in [tool.unvanish]"), key, known, _("Correct it in {}.").format(file)
            )
    preview = table.get("preview", False)
    if not isinstance(preview, bool):
        raise _wrong(file, "preview", _("true or false"))
    return Config(
        select=_codes(_texts(table, "select", file)),
        ignore=_codes(_texts(table, "ignore", file)),
        preview=preview,
        thresholds=_thresholds(table.get("thresholds", {}), file),
    )


def _texts(table: Mapping[str, Any], key: str, file: Path) -> Sequence[str]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _wrong(file, key, _('a list of codes, such as ["VG", "EG101"]'))
    return value


def _thresholds(value: object, file: Path) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise _wrong(file, "thresholds", _("a table of names and numbers"))
    result: dict[str, float] = {}
    for name, number in value.items():
        if name not in THRESHOLDS:
            raise UnknownNameError(
                _("threshold"), name, THRESHOLDS, _("Correct it in {}.").format(file)
            )
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise _wrong(file, f"thresholds.{name}", _("a number"))
        result[name] = float(number)
    return result


def _codes(items: Iterable[str]) -> tuple[str, ...]:
    """Codes and families in capitals, each one that some rule has."""
    known = [rule.code for rule in rules()]
    wanted = [part.strip().upper() for item in items for part in item.split(",") if part.strip()]
    for code in wanted:
        if not any(name.startswith(code) for name in known):
            raise UnknownNameError(
                _("rule"), code, known, _("Give a code or a family, such as VG101 or VG.")
            )
    return tuple(wanted)


def _wrong(file: Path, key: str, expected: str) -> UsageError:
    return UsageError(
        _("{key} in {file} is not {expected}").format(key=key, file=file, expected=expected),
        _("Correct it there."),
    )
