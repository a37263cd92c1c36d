"""What is made for a terminal, as a fragment of HTML: the same sentences and tables, no scripts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from markupsafe import Markup
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.style import Style
from rich.table import Table
from rich.text import Text

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans CJK SC', sans-serif"
_OUTER = (
    f"font-family: {_FONT}; font-size: 14px; line-height: 1.5; max-width: 76em;"
    " overflow-wrap: anywhere"
)
_TABLE = (
    "border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; margin: 8px 0"
)
_CELL = "text-align: {align}; padding: 1px 14px 1px 0; vertical-align: top; {wrap}"
_WRAP, _NO_WRAP = "overflow-wrap: break-word; max-width: 30em", "white-space: nowrap"
_PLAIN = "background: none"  # of a grid, where notebooks give every other row another ground
# Readable on white and on black alike (at least 3:1).
_COLORS = {
    **{"red": "#D55E00", "yellow": "#B37700", "green": "#009E73"},
    **{"blue": "#0078BB", "cyan": "#0078BB"},
}
_CONSOLE = Console(width=100, color_system="standard", force_terminal=True)


def to_html(parts: Iterable[RenderableType]) -> str:
    """Return renderables, each on lines of its own, as a fragment; all text is escaped.

    Knows texts, tables, paddings and groups; anything else is printed as a terminal would.
    """
    inner = Markup("").join(_block(part) for part in parts)
    return str(Markup('<div style="{}">{}</div>').format(_OUTER, inner))


def _block(part: RenderableType) -> Markup:
    if isinstance(part, Table):
        return _table(part)
    if isinstance(part, Padding):
        return Markup('<div style="padding-left: 1.5em">{}</div>').format(_block(part.renderable))
    if isinstance(part, Group):
        return Markup("").join(_block(each) for each in part.renderables)
    if isinstance(part, str | Text):
        text = Text(part) if isinstance(part, str) else part
        return Markup('<p style="margin: 4px 0">{}</p>').format(_text(text)) if text else Markup()
    with _CONSOLE.capture() as captured:
        _CONSOLE.print(part)
    return Markup("<pre>{}</pre>").format(Text.from_ansi(captured.get()).plain)


def _text(text: Text) -> Markup:
    return Markup("").join(_segments(text))


def _segments(text: Text) -> Iterator[Markup]:
    whole = _CONSOLE.get_style(text.style)
    for segment in text.render(_CONSOLE):
        style = _css(whole + (segment.style or Style.null()))
        piece = Markup("<br>").join(Markup.escape(line) for line in segment.text.split("\n"))
        yield Markup('<span style="{}">{}</span>').format(style, piece) if style else piece


def _css(style: Style) -> str:
    rules = []
    if style.bold:
        rules.append("font-weight: 600")
    if style.dim:
        rules.append("opacity: 0.75")
    if style.color is not None and style.color.name in _COLORS:
        rules.append(f"color: {_COLORS[style.color.name]}")
    return "; ".join(rules)


def _table(table: Table) -> Markup:
    grid = not table.show_header
    styles = [
        _CELL.format(
            align="right" if column.justify == "right" else "left",
            wrap=_NO_WRAP if column.no_wrap else "" if grid else _WRAP,
        )
        for column in table.columns
    ]
    head = Markup("")
    if not grid:
        cells = [
            Markup('<th style="{}; font-weight: 600">{}</th>').format(style, _cell(column.header))
            for column, style in zip(table.columns, styles, strict=True)
        ]
        head = Markup("<thead><tr>{}</tr></thead>").format(Markup("").join(cells))
    rows = zip(*(list(column.cells) for column in table.columns), strict=True)
    body = Markup("").join(
        Markup('<tr style="{}">{}</tr>').format(
            _PLAIN if grid else "",
            Markup("").join(
                Markup('<td style="{}">{}</td>').format(style, _cell(cell))
                for cell, style in zip(row, styles, strict=True)
            ),
        )
        for row in rows
    )
    shown = Markup(
        '<div style="overflow-x: auto"><table style="{}">{}<tbody>{}</tbody></table></div>'
    )
    return shown.format(_TABLE, head, body)


def _cell(cell: RenderableType) -> Markup:
    if isinstance(cell, str | Text):
        return _text(Text(cell) if isinstance(cell, str) else cell)
    return _block(cell)
