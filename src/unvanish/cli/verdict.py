"""What every command that ends in a verdict does with it: print it, write it to files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from unvanish.cli.output import check_output, write_output
from unvanish.errors import UsageError
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
    sarif: str | None = None,
    github: bool = False,
    force: bool,
    stream: TextIO,
) -> None:
    """Write the files that were asked for, and say so on `stream`; annotations go there too."""
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
    if sarif is not None:
        from unvanish.codec import dumps
        from unvanish.report.sarif import sarif as log

        write_output(sarif, dumps(log(diagnosis, _checkout(diagnosis))), force)
        if sarif != "-":
            click.echo(_("Wrote {path}").format(path=sarif), file=stream)
    if github:
        from unvanish.report.github import annotate

        for line in annotate(diagnosis, _checkout(diagnosis)):
            click.echo(line, file=stream)


def check_targets(paths: Sequence[str | None], force: bool) -> None:
    """Raise what writing to `paths` would raise, before the work is done; None: not asked for."""
    given = [path for path in paths if path is not None]
    if len(given) != len(set(given)):
        raise UsageError(
            _("two results would be written to the same file"), _("Give each a name of its own.")
        )
    for path in given:
        check_output(path, force)


def _checkout(diagnosis: Diagnosis) -> Path:
    """Return the directory that a CI service names files relative to."""
    return Path(os.environ.get("GITHUB_WORKSPACE") or diagnosis.run.directory or Path.cwd())
