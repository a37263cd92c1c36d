"""The words of errors."""

from __future__ import annotations

import pytest

from unvanish.errors import UnknownNameError


@pytest.mark.parametrize(
    ("known", "told"),
    [(["a", "b"], "(known: a, b). Name one."), ([], "(there are none). Name one.")],
)
def test_an_unknown_name_is_told_with_those_there_are(known: list[str], told: str) -> None:
    assert str(UnknownNameError("rule", "c", known, "Name one.")) == f"unknown rule 'c' {told}"
