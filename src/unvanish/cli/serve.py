"""`unvanish serve`: the live page, on this machine."""

from __future__ import annotations

import importlib
import webbrowser
from pathlib import Path

import click

from unvanish.cli.options import force_option, json_option, lang_option
from unvanish.errors import DependencyError, UsageError
from unvanish.i18n import _

SCHEMA = 1  # of the JSON


@click.command(
    "serve",
    short_help=_("open the live page: runs, comparisons, the chain to play with"),
    help=_(
        "Serve the live page: the runs of this directory, live and side by side; the chain and the"
        " theory to play with; a small network to train. It listens to this machine only, sends"
        " nothing and loads nothing from elsewhere. Ctrl-C ends it."
    ),
    epilog=_("JSON: schema, address, directory; printed once the server listens."),
)
@click.option(
    "--dir",
    "directory",
    metavar="DIR",
    type=click.Path(path_type=Path),
    default=Path(".unvanish"),
    show_default=True,
    help=_("where the runs are saved"),
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help=_("address to listen to; any other than 127.0.0.1 lets other machines in"),
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help=_("port to listen to [the first free one from 8350 on; 0: any]"),
)
@click.option("--browser/--no-browser", default=True, help=_("open the page in a browser"))
@json_option
@force_option
@lang_option
def command(
    directory: Path,
    host: str,
    port: int | None,
    browser: bool,
    json_path: str | None,
    force: bool,
) -> None:
    """Listen, say where, and answer until Ctrl-C."""
    try:
        for package in ("dash", "waitress"):
            importlib.import_module(package)
    except ImportError as error:
        raise DependencyError(
            _("the live page needs {name}").format(name=error.name),
            _("Install it: pip install 'unvanish[web]'"),
        ) from error
    from unvanish import codec
    from unvanish.cli.output import check_output, write_output
    from unvanish.web.server import Serving

    if directory.exists() and not directory.is_dir():
        raise UsageError(
            _("{path} is no directory").format(path=directory),
            _("Give the directory that holds runs.db."),
        )
    if json_path is not None:
        check_output(json_path, force)
    serving = Serving(directory.absolute(), host, port)
    if json_path is not None:
        plain = {"schema": SCHEMA, "address": serving.address, "directory": str(directory)}
        write_output(json_path, codec.dumps(plain), force)
    if json_path != "-":
        click.echo(
            _("Unvanish listens at {address} (Ctrl-C ends it)").format(address=serving.address)
        )
    if host not in ("127.0.0.1", "localhost", "::1"):
        note = _("other machines can open this page, and it asks for no password")
        click.echo(_("unvanish: note: {message}").format(message=note), err=True)
    if browser:
        webbrowser.open(serving.address)
    serving.run()
