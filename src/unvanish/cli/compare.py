"""`unvanish compare`: two saved runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from unvanish.cli.options import force_option, json_option, lang_option
from unvanish.cli.output import check_output, show, write_output
from unvanish.i18n import _

if TYPE_CHECKING:
    from unvanish.records import Diagnosis

SCHEMA = 1  # of the JSON


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
    from unvanish.report.comparison_view import view

    if json_path is not None:
        check_output(json_path, force)
    found = compare(_diagnosed(a), _diagnosed(b))
    if json_path is not None:
        plain = {"schema": SCHEMA, **codec.to_plain(found)}
        write_output(json_path, codec.dumps(plain), force)
        if json_path != "-":
            click.echo(_("Wrote {path}").format(path=json_path), err=True)
        return
    show(*view(found))


def _diagnosed(reference: str) -> Diagnosis:
    from unvanish import store
    from unvanish.diagnose import diagnose
    from unvanish.diagnose.config import load_config

    return diagnose(store.load(reference, Path(".unvanish")), load_config(Path.cwd()))
