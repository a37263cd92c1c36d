"""`unvanish report`: a saved run in the terminal, as one HTML page, or as JSON."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from unvanish.cli import verdict
from unvanish.cli.options import force_option, json_option, lang_option
from unvanish.cli.output import check_output, show
from unvanish.errors import UsageError
from unvanish.i18n import _


@click.command(
    "report",
    short_help=_("show a saved run, or write its report as a page or as JSON"),
    help=_(
        "Show a saved run: its verdict, its layers, its findings.\n\n"
        "RUN is the id of a run (`unvanish runs` lists them), the beginning of one, a file, or"
        " `last`. It is diagnosed anew, under the settings of this directory."
    ),
)
@click.argument("reference", metavar="RUN")
@click.option(
    "-o", "--output", metavar="FILE", help=_("write the report as one HTML page with its pictures")
)
@json_option
@force_option
@lang_option
def command(reference: str, output: str | None, json_path: str | None, force: bool) -> None:
    """Load, diagnose, and hand to the renderers that were asked for."""
    from unvanish import store
    from unvanish.diagnose import diagnose
    from unvanish.diagnose.config import load_config
    from unvanish.report.terminal import Report

    files = [path for path in (output, json_path) if path is not None]
    if len(files) != len(set(files)):
        raise UsageError(
            _("the page and the JSON would be written to the same file"), _("Give two names.")
        )
    for path in files:
        check_output(path, force)
    directory = Path(".unvanish")
    run = store.load(reference, directory)
    diagnosis = diagnose(run, load_config(Path.cwd()))
    if files:
        verdict.write(diagnosis, 0, json=json_path, page=output, force=force, stream=sys.stderr)
        return
    kept = any(summary.id == run.id for summary in store.runs(directory))
    show(Report(diagnosis, directory / run.id if kept else None))
