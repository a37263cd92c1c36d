"""What is made for a terminal, as HTML: the same words, and nothing that a browser would run."""

from __future__ import annotations

from rich.console import Group
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from unvanish.report.rich_html import to_html

HOSTILE = "</script><b>&"
ESCAPED = "&lt;/script&gt;&lt;b&gt;&amp;"


def test_text_keeps_its_styles_and_lines_and_is_escaped() -> None:
    text = Text.assemble(("bold ", "bold"), (HOSTILE, "red"), "\nnext")
    html = to_html([text])
    assert '<span style="font-weight: 600">bold </span>' in html
    assert f'<span style="color: #D55E00">{ESCAPED}</span>' in html
    assert "<br>next" in html
    assert HOSTILE not in html


def test_a_string_is_text_and_not_markup() -> None:
    assert f'<p style="margin: 4px 0">[bold]{ESCAPED}</p>' in to_html([f"[bold]{HOSTILE}"])
    assert "<p" not in to_html(["", Text("")])


def test_a_table_keeps_heads_cells_and_sides() -> None:
    table = Table("name", HOSTILE)
    table.columns[1].justify = "right"
    table.add_row(HOSTILE, Text("2", style="dim"))
    html = to_html([table])
    assert html.count(ESCAPED) == 2
    assert html.count("<th ") == 2
    assert html.count("text-align: right") == 2
    assert '<span style="opacity: 0.75">2</span>' in html


def test_a_grid_has_no_head() -> None:
    grid = Table.grid()
    grid.add_column()
    grid.add_row(Group("one", Padding(Text("two"), (0, 0, 0, 2))))
    html = to_html([grid])
    assert "<th" not in html
    assert "one" in html
    assert '<div style="padding-left: 1.5em"><p style="margin: 4px 0">two</p></div>' in html


def test_anything_else_is_what_a_terminal_would_print() -> None:
    html = to_html([Rule(HOSTILE)])
    assert html.count("<pre>") == 1
    assert ESCAPED in html
    assert "\x1b" not in html
