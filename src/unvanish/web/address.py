"""A view's state and its address: `?depth=10&activation=sigmoid` and back.

Whoever typed the address may have typed anything. What is not a number, out of bounds or unknown is
refused in one sentence, and the view opens as it does without an address.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from unvanish.errors import UnknownNameError, UsageError
from unvanish.i18n import _

LONGEST = 4000  # characters of an address


@dataclass(frozen=True, slots=True)
class Range:
    """What a number may be, and what a slider offers."""

    low: float
    high: float
    step: float
    default: float

    def check(self, name: str, value: float | str | None) -> float:
        """Return `value` as a number. Raises UsageError for what is none, or is out of bounds."""
        try:
            number = float(value) if value is not None else math.nan
        except ValueError:
            number = math.nan
        if not self.low <= number <= self.high:
            raise UsageError(
                _("{name} = {value!r} is refused").format(name=name, value=value),
                _("Give a number from {low:g} to {high:g}.").format(low=self.low, high=self.high),
            )
        return number

    def whole(self, name: str, value: float | str | None) -> int:
        """Return `value` as a whole number. Raises as `check`, and for a fraction."""
        number = self.check(name, value)
        if number != int(number):
            raise UsageError(
                _("{name} = {value!r} is refused").format(name=name, value=value),
                _("Give a whole number."),
            )
        return int(number)


def one_of(name: str, value: str, known: Sequence[str]) -> str:
    """Return `value`. Raises UnknownNameError unless it is one of `known`."""
    if value not in known:
        raise UnknownNameError(name, value[:80], known, _("Choose one of these."))
    return value


def parse(search: str | None) -> dict[str, str]:
    """Return the query of an address by name; of a name given twice, the last.

    Raises UsageError for one that is too long.
    """
    text = (search or "").lstrip("?")
    if len(text) > LONGEST:
        raise UsageError(
            _("the address is {count} characters long").format(count=len(text)),
            _("At most {limit} are read.").format(limit=LONGEST),
        )
    return dict(parse_qsl(text, keep_blank_values=True))


def link(path: str, **values: object) -> str:
    """Return the address of a view with its query."""
    return path + write(values)


def write(values: Mapping[str, object]) -> str:
    """Return the query that says `values`, with its question mark; "" for none."""
    texts = {n: f"{v:.12g}" if isinstance(v, float) else str(v) for n, v in values.items()}
    return "?" + urlencode(texts, safe=":,") if texts else ""
