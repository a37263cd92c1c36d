"""The table of layers in a terminal: equal columns, and a line of text for every fold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.bar import Bar
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from unvanish import words
from unvanish.i18n import _
from unvanish.report.layers import Fold, Row, Scale, factor_parts

_BAR_FROM = 100  # columns of terminal from which levels are drawn as bars too
_BAR = 16
_NAME, _TYPE, _LEVEL, _GAIN, _THEORY, _LOG, _FACTORS, _NOTES = range(8)
_NUMBERS = frozenset({_LEVEL, _GAIN, _THEORY, _LOG})
# How far texts shrink where room is short, in this order; numbers never do.
_SHRINK = (
    *((_FACTORS, 24), (_NAME, 24), (_TYPE, 12), (_NOTES, 18)),
    *((_FACTORS, 16), (_NAME, 14), (_TYPE, 8), (_NOTES, 13)),
)
_GIVE_UP_FIRST = (_LOG, _THEORY, _TYPE, _FACTORS)  # where even that is too wide


def layer_table(folded: Sequence[Row | Fold], width: int) -> Iterator[RenderableType]:
    """Yield the parts of the table, to be printed one below the other in `width` columns."""
    every = [row for line in folded for row in line.rows]
    repeated = {row.signal.module for row in every if row.signal.call > 0}
    cells = [
        _cells(line, line.signal.module in repeated) if isinstance(line, Row) else None
        for line in folded
    ]
    scale = Scale(every) if width >= _BAR_FROM else None
    heads = (
        *(_("layer"), _("type"), _("level"), _("gain"), _("theory")),
        *(_("log₁₀"), _("factors"), _("notes")),
    )
    room = width - (_BAR + 2 if scale else 0)
    predicted = any(row.predicted_log10 is not None for row in every)
    widths = _widths([heads, *(cell for cell in cells if cell)], room, predicted)
    table = _empty(widths, heads, scale is not None)
    for line, texts in zip(folded, cells, strict=True):
        if isinstance(line, Fold):
            yield table
            yield Text(f"  {line.text}", style="dim")
            table = _empty(widths, None, scale is not None)
        elif texts is not None:
            row: list[RenderableType] = [
                _styled(line, column, words.shorten_path(texts[column], columns))
                if column in {_NAME, _TYPE}
                else _styled(line, column, texts[column])
                for column, columns in widths.items()
            ]
            if scale:
                row.insert(list(widths).index(_LEVEL) + 1, _bar(scale, line.signal.level_log10))
            table.add_row(*row)
    yield table


def _cells(row: Row, repeated: bool) -> tuple[str, ...]:
    signal = row.signal
    name = words.module_name(signal.module)
    return (
        f"{name} #{signal.call}" if repeated else name,
        words.printable(signal.type),
        words.level(signal.level_log10),
        words.times(signal.gain_log10),
        "" if row.predicted_log10 is None else words.times(row.predicted_log10),
        words.decades(signal.gain_log10),
        _(", ").join(factor_parts(signal)),
        ", ".join([*row.codes, *(flag.text for flag in row.flags)]),
    )


def _widths(lines: Sequence[Sequence[str]], room: int, predicted: bool) -> dict[int, int]:
    """Return the width of each column that has a place in `room`: as wide as its texts, or less.

    The column of theory is there only if something is `predicted`.
    """
    natural = [max(words.width(line[column]) for line in lines) for column in range(len(lines[0]))]
    widths = dict(enumerate(natural))
    if not predicted:
        del widths[_THEORY]
    widths[_FACTORS] = min(widths[_FACTORS], 34)
    widths[_NOTES] = min(widths[_NOTES], 30)
    for column, least in _SHRINK:
        if (excess := _total(widths) - room) > 0:
            widths[column] = min(widths[column], max(least, widths[column] - excess))
    for column in _GIVE_UP_FIRST:
        if _total(widths) > room:
            widths.pop(column, None)
    return widths


def _total(widths: Mapping[int, int]) -> int:
    return sum(widths.values()) + 2 * (len(widths) - 1)


def _empty(widths: Mapping[int, int], heads: Sequence[str] | None, bars: bool) -> Table:
    table = Table(
        box=None, show_header=heads is not None, header_style="dim", pad_edge=False, padding=(0, 1)
    )
    for column, width in widths.items():
        table.add_column(
            Text(heads[column] if heads else ""),
            width=width,
            justify="right" if column in _NUMBERS else "left",
            no_wrap=column in {_NAME, _TYPE, *_NUMBERS},
        )
        if column == _LEVEL and bars:
            table.add_column(Text(""), width=_BAR)
    return table


def _styled(row: Row, column: int, text: str) -> Text:
    if column == _NAME and row.codes:
        return Text(text, style="bold")
    if column == _NOTES and text:
        return Text(text, style="bold red" if row.codes else "yellow")
    if column in {_TYPE, _LOG, _THEORY}:
        return Text(text, style="dim")
    return Text(text)


def _bar(scale: Scale, level: float | None) -> RenderableType:
    share = scale.share(level)
    return Bar(size=1, begin=0, end=share, width=_BAR, color="cyan") if share else Text("")
