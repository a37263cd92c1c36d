"""The command line: one file a command, loaded when it is asked for."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from unvanish import i18n
from unvanish._version import __version__
from unvanish.cli.click_words import click_speaks
from unvanish.cli.help import HelpContext
from unvanish.errors import UnvanishError
from unvanish.i18n import _

# name -> module of `unvanish.cli` that holds a click command of that name; in order of use
COMMANDS: dict[str, str] = {
    "run": "run",
    "check": "check",
    "fix": "fix",
    "chain": "chain",
    "theory": "theory",
    "init": "init",
    "rule": "rule",
    "cure": "cure",
    "report": "report",
    "runs": "runs",
    "compare": "compare",
    "tail": "tail",
    "export": "export",
    "merge": "merge",
    "serve": "serve",
    "demo": "demo",
}

# module of a command -> the language that its texts are in
_built: dict[str, str] = {}


class _Commands(click.Group):
    """Looks commands up by name, and imports only the one that is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return _load(f"unvanish.cli.{COMMANDS[cmd_name]}")


def _load(name: str) -> click.Command:
    """Import a command's module, again if its texts were made in another language."""
    known = sys.modules.get(name)
    if known is None:
        module = importlib.import_module(name)
    elif _built.get(name) == i18n.current():
        module = known
    else:
        module = importlib.reload(known)
    _built[name] = i18n.current()
    command: click.Command = module.command
    command.context_class = HelpContext
    return command


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; returns only by SystemExit."""
    words = sys.argv[1:] if arguments is None else arguments
    i18n.choose(i18n.language_option(words))

    @click.command(
        cls=_Commands,
        help=_(
            "Find where a network's gradient vanishes or explodes, which factor of the chain rule"
            " is to blame, and what cures it."
        ),
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    @click.version_option(__version__, prog_name="unvanish")
    @click.option("--lang", type=click.Choice(i18n.LANGUAGES), help=_("language of the output"))
    def unvanish(lang: str | None) -> None:
        pass

    unvanish.context_class = HelpContext
    try:
        with click_speaks():
            unvanish(args=words, prog_name="unvanish")
    except UnvanishError as error:
        click.echo(_("unvanish: error: {message}").format(message=error), err=True)
        sys.exit(error.exit_code)
