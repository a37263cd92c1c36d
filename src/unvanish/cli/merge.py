"""`unvanish merge`: runs that were copied from another machine into the store of this directory."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unvanish.cli.options import force_option, json_option, lang_option
from unvanish.cli.output import check_output, show, write_output
from unvanish.errors import UnvanishError
from unvanish.i18n import _

if TYPE_CHECKING:
    from rich.table import Table

    from unvanish.store.merging import Merged

SCHEMA = 1  # of the JSON


@click.command(
    "merge",
    short_help=_("take runs copied from another machine into this directory"),
    help=_(
        "Take runs that were copied from another machine into .unvanish/ of this directory.\n\n"
        "A SOURCE is a database (runs.db, with its -wal file if there is one), a .run file, or a"
        " directory that holds them. It is not touched. A run that is here already is left alone,"
        " unless the copy came further: then that replaces it. Merging twice changes nothing. The"
        " exit status is 1 if a run was damaged, and 2 if a source was refused."
    ),
)
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@json_option
@force_option
@lang_option
def command(sources: tuple[str, ...], json_path: str | None, force: bool) -> None:
    """Merge each source; one that is refused does not keep the others out."""
    from unvanish import codec
    from unvanish.store.merging import merge

    if json_path is not None:
        check_output(json_path, force)
    done: list[Merged] = []
    refused: dict[str, str] = {}
    for source in sources:
        try:
            done += merge(Path(source), Path(".unvanish"))
        except UnvanishError as error:
            refused[source] = str(error)
            click.echo(_("unvanish: error: {message}").format(message=error), err=True)
    if json_path is not None:
        plain = {
            "schema": SCHEMA,
            "runs": [
                {
                    "id": one.id,
                    "source": str(one.source),
                    "outcome": one.outcome,
                    "why": one.why or None,
                }
                for one in done
            ],
            "refused": refused,
        }
        write_output(json_path, codec.dumps(codec.to_plain(plain)), force)
    if json_path != "-" and done:
        show(_table(done))
    if refused or any(one.outcome == "damaged" for one in done):
        sys.exit(2 if refused else 1)


def _table(done: list[Merged]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from unvanish import words

    told = {
        "added": _("added"),
        "updated": _("updated: the copy came further"),
        "unchanged": _("here already"),
    }
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(Text(_("id")), no_wrap=True)
    table.add_column(Text(_("what was done")), overflow="fold")
    table.add_column(Text(_("source")), overflow="fold")
    for one in done:
        what = told.get(one.outcome) or _("damaged: {why}").format(why=words.printable(one.why))
        table.add_row(
            Text(words.shorten(words.printable(one.id), 32), style="bold"),
            Text(what, style="red" if one.outcome == "damaged" else ""),
            Text(words.printable(str(one.source))),
        )
    return table
