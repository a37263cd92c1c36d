"""What every command that ends in a verdict does with it: print it, write it to files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from unvanish.cli.output import write_output
from unvanish.i18n import _

if TYPE_CHECKING:
    from unvanish.records import Diagnosis


def codes(text: str | None) -> list[str]:
    """Return the rule codes in a comma-separated option."""
    return [code.strip() for code in (text or "").split(",") if code.strip()]


def show(diagnosis: Diagnosis, stream: TextIO, saved: Path | None = None) -> None:
    """Print the verdict to `stream`."""
    from rich.console import Console

    from unvanish.report.terminal import render

    render(diagnosis, Console(file=stream), saved=saved)


def write(
    diagnosis: Diagnosis,
    status: int,
    *,
    json: str | None,
    page: str | None,
    force: bool,
    stream: TextIO,
) -> None:
    """Write the files that were asked for; say so on `stream`."""
    if json is not None:
        from unvanish.codec import dumps
        from unvanish.report.document import document

        write_output(json, dumps(document(diagnosis, status)), force)
        if json != "-":
            click.echo(_("Wrote {path}").format(path=json), file=stream)
    if page is not None:
        from unvanish.report.page import render_page

        write_output(page, render_page(diagnosis), force)
        click.echo(_("Wrote {path}").format(path=page), file=stream)
