"""`unvanish report`: a saved run in the terminal, as one HTML page, or as JSON."""

from __future__ import annotations

from pathlib import Path

import click

from unvanish.cli.options import force_option, json_option, lang_option
from unvanish.cli.output import check_output, show, write_output
from unvanish.errors import UsageError
from unvanish.i18n import _


@click.command(
    help=_(
        "Show a saved run: its verdict, its layers, its findings.\n\n"
        "RUN is the id of a run (`unvanish runs` lists them), the beginning of one, a file, or"
        " `last`. It is diagnosed anew, under the settings of this directory."
    )
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
    from unvanish import codec, store
    from unvanish.diagnose import diagnose
    from unvanish.diagnose.config import load_config
    from unvanish.report.document import document
    from unvanish.report.terminal import Report

    files = [path for path in (output, json_path) if path is not None]
    if len(files) != len(set(files)):
        raise UsageError(
            _("the page and the JSON would be written to the same file"),
            _("Give two names."),
        )
    for path in files:
        check_output(path, force)
    directory = Path(".unvanish")
    run = store.load(reference, directory)
    diagnosis = diagnose(run, load_config(Path.cwd()))
    if json_path is not None:
        write_output(json_path, codec.dumps(document(diagnosis)), force)
    if output is not None:
        from unvanish.report.page import render_page

        write_output(output, render_page(diagnosis), force)
    if not files:
        saved = directory / f"{run.id}{store.SUFFIX}"
        show(Report(diagnosis, saved if saved.exists() else None))
    for path in files:
        if path != "-":
            click.echo(_("Wrote {path}").format(path=path), err="-" in files)
