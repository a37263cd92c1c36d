"""`unvanish compare`: two saved runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unvanish.cli.options import force_option, json_option, lang_option
from unvanish.cli.output import check_output, show, write_output
from unvanish.i18n import _

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from unvanish.records import Diagnosis
    from unvanish.report.comparison import Comparison, ModelComparison, Pair, Row

SCHEMA = 1  # of the JSON
_ROWS = 15  # of a table; JSON has all


@click.command(
    "compare",
    short_help=_("show two saved runs side by side"),
    help=_(
        "Show what two saved runs were given, how they went, and where their signals differ.\n\n"
        "A and B are ids of runs, beginnings of ids, files, or `last`. Levels are compared at the"
        " last step that both traced."
    ),
)
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@json_option
@force_option
@lang_option
def command(a: str, b: str, json_path: str | None, force: bool) -> None:
    """Load and diagnose both, and show what differs."""
    from unvanish import codec
    from unvanish.report.comparison import compare

    if json_path is not None:
        check_output(json_path, force)
    found = compare(_diagnosed(a), _diagnosed(b))
    if json_path is not None:
        plain = {"schema": SCHEMA, **codec.to_plain(found)}
        write_output(json_path, codec.dumps(plain), force)
        if json_path != "-":
            click.echo(_("Wrote {path}").format(path=json_path), err=True)
        return
    show(*_parts(found))


def _diagnosed(reference: str) -> Diagnosis:
    from unvanish import store
    from unvanish.diagnose import diagnose
    from unvanish.diagnose.config import load_config

    return diagnose(store.load(reference, Path(".unvanish")), load_config(Path.cwd()))


def _parts(found: Comparison) -> Sequence[RenderableType]:
    from rich.text import Text

    from unvanish import words

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
    from rich.table import Table
    from rich.text import Text

    from unvanish import words

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
        *[(name, [one, other]) for name, one, other in found.settings],
    ]
    for name, values in rows:
        table.add_row(Text(name, style="bold"), *(Text(words.printable(text)) for text in values))
    return table


def _signals(model: ModelComparison) -> Table:
    from rich.table import Table
    from rich.text import Text

    from unvanish import words

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
