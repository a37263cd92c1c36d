"""How numbers and names are written."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unvanish import words
from unvanish.records import FACTORS, VERDICTS

SUPERSCRIPT_FREE = re.compile(r"×(\d+(?:\.\d+)?)(?:e(-?\d+))?")


@pytest.mark.parametrize(
    ("log10", "shown"),
    [
        (math.log10(0.14), "×0.14"),
        (math.log10(0.244), "×0.24"),
        (0.0, "×1.0"),
        (math.log10(0.9999), "×1.0"),
        (math.log10(9.96), "×10"),
        (math.log10(1587), "×1600"),
        (math.log10(25000), "×2.5e4"),
        (-3.0, "×0.0010"),
        (-17.1, "×7.9e-18"),
        (-411.5, "×3.2e-412"),
        (400.0, "×1.0e400"),
        (-math.inf, "×0"),
        (math.inf, "×∞"),
        (math.nan, "×NaN"),
        (None, "–"),
    ],
)
def test_times(log10: float | None, shown: str) -> None:
    assert words.times(log10) == shown


@given(st.floats(-1000, 1000))
def test_times_is_right_to_two_digits(log10: float) -> None:
    match = SUPERSCRIPT_FREE.fullmatch(words.times(log10))
    assert match is not None
    written = math.log10(float(match[1])) + int(match[2] or 0)
    # Two digits: the last is worth at most a tenth of the whole, rounded to a half of that.
    assert written == pytest.approx(log10, abs=math.log10(1.05) + 1e-9)


@pytest.mark.parametrize(
    ("log10", "shown"),
    [
        (-0.854, "−0.85"),
        (0.2, "+0.20"),
        (-0.001, "0.00"),
        (0.0, "0.00"),
        (-math.inf, "−∞"),
        (math.inf, "+∞"),
        (math.nan, "NaN"),
        (None, "–"),
    ],
)
def test_decades(log10: float | None, shown: str) -> None:
    assert words.decades(log10) == shown


@pytest.mark.parametrize(
    ("log10", "shown"),
    [(-17.16, "−17.2"), (0.0, "0.0"), (-math.inf, "zero"), (math.nan, "NaN"), (None, "–")],
)
def test_level(log10: float | None, shown: str) -> None:
    assert words.level(log10) == shown


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0.87, "87 %"), (0.0, "0 %"), (0.001, "<1 %"), (1.0, "100 %"), (None, "–")],
)
def test_percent(share: float | None, shown: str) -> None:
    assert words.percent(share) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.245, "0.245"),
        (-12.2, "−12.2"),
        (1e-8, "1e−8"),
        (123456.0, "1.235e5"),
        (3, "3"),
        (math.nan, "NaN"),
        (-math.inf, "−∞"),
        ("sigmoid", "sigmoid"),
        ("a\x1b[31m", "a\\x1b[31m"),
    ],
)
def test_quantity(value: float | str, shown: str) -> None:
    assert words.quantity(value) == shown


def test_loss_keeps_its_zeros() -> None:
    assert words.loss(2.3) == "2.300"
    assert words.loss(1.5e-7) == "1.5e−7"
    assert words.loss(math.nan) == "NaN"


@given(st.text())
def test_printable_leaves_nothing_that_a_terminal_obeys(name: str) -> None:
    shown = words.printable(name)
    assert shown.isprintable()
    if name.isprintable():
        assert shown == name


def test_printable_shows_escapes_and_direction_marks() -> None:
    assert words.printable("a\x1b[31m\n\u202eb\ud800") == r"a\x1b[31m\n\u202eb\ud800"


@given(st.text(), st.integers(1, 60))
def test_shorten_fits_and_keeps_both_ends(text: str, columns: int) -> None:
    shown = words.shorten(text, columns)
    assert words.width(shown) <= max(columns, 0)
    if words.width(text) <= columns:
        assert shown == text
    else:
        head, _dots, tail = shown.partition("…")
        assert text.startswith(head)
        assert text.endswith(tail)


def test_shorten_counts_wide_characters_twice() -> None:
    assert words.width("线性层") == 6
    assert words.shorten("线性层线性层", 6) == "…性层"


def test_every_word_of_the_records_has_a_name() -> None:
    for factor in FACTORS:
        assert words.factor_name(factor)
    assert len({words.verdict_name(verdict) for verdict in VERDICTS}) == len(VERDICTS)
    assert words.module_name("") == "(root)"
    assert words.module_name(None) == "(no module)"


def test_paths_become_initials_from_the_left() -> None:
    path = "encoder.layers.0.self_attn"
    assert words.shorten_path(path, 30) == path
    assert words.shorten_path(path, 20) == "e.layers.0.self_attn"
    assert words.shorten_path(path, 18) == "e.l.0.self_attn"
    assert words.shorten_path(path, 8) == "e.…_attn"
    assert words.shorten_path("n" * 100, 10) == "nnn…nnnnnn"


def test_moments_are_in_utc() -> None:
    assert words.moment("2026-04-22T17:30:12+02:00") == "2026-04-22 15:30 UTC"
    assert words.moment("2026-04-22T15:30:12Z") == "2026-04-22 15:30 UTC"
    assert words.moment("last \x1b week") == "last \\x1b week"
