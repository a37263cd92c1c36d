"""Paragraphs in a terminal: where lines end."""

from __future__ import annotations

import io
from itertools import pairwise

import pytest
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from unvanish import words
from unvanish.report.prose import Prose, prose

CHINESE = "权重大四倍的 sigmoid，与权重正常的 tanh 因子相同（见 VG101）。leaky ReLU 也是。" * 3


def printed(part: RenderableType, width: int) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width, highlight=False, color_system=None).print(part)
    return [line.rstrip() for line in file.getvalue().splitlines()]


@pytest.mark.parametrize("width", range(12, 60))
def test_chinese_fills_its_lines(width: int) -> None:
    lines = printed(Prose(CHINESE), width)
    assert "".join(lines).replace(" ", "") == CHINESE.replace(" ", "")
    for line, following in pairwise(lines):
        assert words.width(line) <= width
        assert line[-1] != "（"
        assert following[0] not in "，。）"
        # What begins the next line did not fit any more.
        piece = words.line_pieces(following)[0].rstrip()
        assert words.width(line) + words.width(piece) + 1 > width


def test_words_and_numbers_stay_whole() -> None:
    for width in range(12, 60):
        assert sum(line.count("sigmoid") for line in printed(Prose(CHINESE), width)) == 3


def test_a_word_longer_than_a_line_is_cut() -> None:
    assert printed(Prose("名字" + "x" * 25 + "很长"), 10) == [
        "名字",
        "x" * 10,
        "x" * 10,
        "xxxxx很长",
    ]


def test_text_without_wide_characters_is_left_to_rich() -> None:
    text = "The backward signal shrinks on its way to the front. " * 4
    for width in (20, 33, 80):
        assert printed(Prose(text), width) == printed(Text(text), width)


def test_lines_that_are_not_to_be_folded_stay_whole() -> None:
    line = Text("# 把这一行复制到你的脚本里", no_wrap=True, overflow="ignore")
    file = io.StringIO()
    Console(file=file, width=10).print(prose(line), crop=False)
    assert file.getvalue().rstrip("\n") == line.plain


def test_padded_text_and_cells_are_folded_too() -> None:
    assert max(map(words.width, printed(prose(Padding(Text(CHINESE), (0, 0, 0, 4))), 30))) > 27
    grid = Table.grid(padding=(0, 1))
    grid.add_row("对策", Prose(CHINESE))
    lines = printed(grid, 40)
    assert len(lines) == len(printed(Prose(CHINESE), 35))


def test_styles_are_kept() -> None:
    console = Console(width=20, color_system="standard", force_terminal=True, file=io.StringIO())
    segments = list(console.render(Prose(CHINESE, "bold")))
    assert all(segment.style and segment.style.bold for segment in segments if segment.text.strip())
