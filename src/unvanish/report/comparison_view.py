"""Two runs side by side, for a terminal and for a notebook."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from unvanish import words
from unvanish.i18n import _
from unvanish.report.comparison import Comparison, ModelComparison, Pair, Row, setting_label

_ROWS = 15  # of a table; JSON has all


def view(found: Comparison) -> list[RenderableType]:
    """Return the overview, and for each model where the two runs differ most."""
    parts: list[RenderableType] = [_overview(found)]
    for model in found.models:
        step, other = model.steps
        if step == other:
            when = _("at step {step}").format(step=step)
        else:
            when = _("A at step {a}, B at step {b}").format(
                a=words.NONE if step is None else step, b=words.NONE if other is None else other
            )
        parts += [
            Text(""),
            Text(
                _("{name}, {when}: where they differ most").format(
                    name=words.printable(model.name), when=when
                ),
                style="bold",
            ),
            _signals(model),
        ]
    return parts


def _overview(found: Comparison) -> Table:
    def loss(value: float | None) -> str:
        return words.NONE if value is None else words.loss(value)

    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("", "A", "B"):
        table.add_column(Text(head), overflow="fold")
    sides = (found.a, found.b)
    rows = [
        (_("run"), [side.id for side in sides]),
        (_("verdict"), [words.verdict_name(side.verdict) for side in sides]),
        (_("findings"), [", ".join(side.findings) for side in sides]),
        (_("training"), [words.training_word(side.training) for side in sides]),
        (_("steps"), [str(side.steps) for side in sides]),
        (_("first loss"), [loss(side.first_loss) for side in sides]),
        (_("last loss"), [loss(side.last_loss) for side in sides]),
        *[(setting_label(name), [one, other]) for name, one, other in found.settings],
    ]
    for name, values in rows:
        table.add_row(Text(name, style="bold"), *(Text(words.printable(text)) for text in values))
    return table


def _signals(model: ModelComparison) -> Table:
    rows: Sequence[Row] = model.layers or model.parameters
    kept = sorted(rows, key=lambda row: -row.difference)[:_ROWS]
    levels = bool(model.layers)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(Text(_("layer") if levels else _("parameter")), overflow="fold")
    heads = [_("level") if levels else _("gradient"), _("weight"), _("update")]
    for head in heads:
        table.add_column(Text(f"{head} A"), justify="right", no_wrap=True)
        table.add_column(Text("B"), justify="right", no_wrap=True)
    for row in (row for row in rows if row in kept):
        pairs: list[Pair] = [row.level if levels else row.gradient, row.weight, row.update]
        cells = [words.level(value) for pair in pairs for value in pair]
        table.add_row(Text(words.printable(row.name) or "·"), *map(Text, cells))
    return table
