"""`unvanish report`: a saved run in the terminal, as one HTML page, or as JSON."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unvanish.cli import verdict
from unvanish.cli.options import ci_options, force_option, json_option, lang_option
from unvanish.cli.output import show, write_output
from unvanish.errors import UnknownNameError, UsageError
from unvanish.i18n import _
from unvanish.report.pictures import PICTURES

if TYPE_CHECKING:
    from unvanish.records import Diagnosis

_KINDS = (".svg", ".png", ".pdf")


@click.command(
    "report",
    short_help=_("show a saved run, or write its report as a page, as JSON or as SARIF"),
    help=_(
        "Show a saved run: its verdict, its layers, its findings.\n\n"
        "RUN is the id of a run (`unvanish runs` lists them), the beginning of one, a file, or"
        " `last`. It is diagnosed anew, under the settings of this directory."
    ),
)
@click.argument("reference", metavar="RUN")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help=_("write the report as one HTML page with its pictures, or the picture of --figure"),
)
@click.option(
    "--figure",
    metavar="NAME",
    help=_("write only this picture, as the .svg, .png or .pdf of -o: {names}").format(
        names=", ".join(PICTURES)
    ),
)
@click.option(
    "--model", "model_name", metavar="NAME", help=_("of a run with several models: whose picture")
)
@json_option
@ci_options
@force_option
@lang_option
def command(
    reference: str,
    output: str | None,
    figure: str | None,
    model_name: str | None,
    json_path: str | None,
    sarif_path: str | None,
    github: bool,
    force: bool,
) -> None:
    """Load, diagnose, and hand to the renderers that were asked for."""
    from unvanish import store
    from unvanish.diagnose import diagnose
    from unvanish.diagnose.config import load_config
    from unvanish.report.terminal import Report

    if figure is not None:
        _check_figure(figure, output)
    verdict.check_targets((output, json_path, sarif_path), force)
    directory = Path(".unvanish")
    run = store.load(reference, directory)
    diagnosis = diagnose(run, load_config(Path.cwd()))
    if figure is not None:
        _write_figure(diagnosis, figure, model_name, output, force)
        output = None
    if figure or output or json_path or sarif_path or github:
        verdict.write(
            diagnosis,
            0,
            json=json_path,
            page=output,
            sarif=sarif_path,
            github=github,
            force=force,
            stream=sys.stderr,
        )
        return
    kept = any(summary.id == run.id for summary in store.runs(directory))
    show(Report(diagnosis, directory / run.id if kept else None))


def _check_figure(name: str, output: str | None) -> None:
    """Raise UsageError unless `name` is a picture and `output` a file of a kind it can be."""
    if name not in PICTURES:
        raise UnknownNameError(_("picture"), name, PICTURES, _("Give one of these."))
    if output is None or Path(output).suffix not in _KINDS:
        raise UsageError(
            _("--figure needs a file to write"), _("Give -o FILE.svg, FILE.png or FILE.pdf.")
        )


def _write_figure(
    diagnosis: Diagnosis, name: str, model_name: str | None, output: str | None, force: bool
) -> None:
    from unvanish.report import pictures
    from unvanish.report.image import render_image

    assert output is not None  # _check_figure
    drawn = pictures.of_diagnosis(diagnosis, name, model_name)
    write_output(output, render_image(drawn, Path(output).suffix[1:]), force)
    click.echo(_("Wrote {path}").format(path=output), err=True)
