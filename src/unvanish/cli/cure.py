"""`unvanish cure`: the list of cures, or what one of them changes and where it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from unvanish._version import __version__
from unvanish.cli.options import force_option, json_option, lang_option
from unvanish.i18n import _

if TYPE_CHECKING:
    from rich.console import RenderableType

    from unvanish.fix.cure import Cure

SCHEMA = 1  # of the JSON; raised when a key changes its meaning or goes


@click.command(
    "cure",
    short_help=_("what a cure changes, and where it comes from"),
    help=_(
        "List the cures that `unvanish fix` knows, or print what one of them changes, when it is"
        " proposed and where it comes from."
    ),
    epilog=_(
        "JSON: schema, tool_version, and cures: for each name, applicability, kind,"
        " keeps_activation, summary, sources, documentation, and proposed_for (code, family or"
        " verdict of a finding: how strongly it speaks for the cure)."
    ),
)
@click.argument("name", required=False)
@json_option
@force_option
@lang_option
def command(name: str | None, json_path: str | None, force: bool) -> None:
    """Print the list of cures, or one cure's documentation."""
    from unvanish import codec
    from unvanish.cli.output import check_output, show, write_output
    from unvanish.fix.catalogue import cure, cures

    if json_path is not None:
        check_output(json_path, force)
    chosen = list(cures()) if name is None else [cure(name)]
    if json_path is not None:
        document = {
            "schema": SCHEMA,
            "tool_version": __version__,
            "cures": [_plain(each) for each in chosen],
        }
        write_output(json_path, codec.dumps(codec.to_plain(document)), force)
    if json_path != "-":
        show(*(_list(chosen) if name is None else _page(chosen[0])))


def _plain(cure: Cure) -> dict[str, Any]:
    return {
        "name": cure.name,
        "applicability": str(cure.applicability),
        "kind": cure.kind,
        "keeps_activation": cure.keeps_activation,
        "summary": cure.summary(),
        "sources": list(cure.sources),
        "documentation": cure.documentation,
        "proposed_for": dict(cure.words),
    }


def _list(cures: list[Cure]) -> list[RenderableType]:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in (_("cure"), _("applicability"), _("what it does")):
        table.add_column(heading, no_wrap=heading != _("what it does"))
    for cure in cures:
        table.add_row(cure.name, str(cure.applicability), cure.summary())
    return [table, "", _("One cure in full: unvanish cure {name}").format(name=cures[0].name)]


def _page(cure: Cure) -> list[RenderableType]:
    from rich.markdown import Markdown
    from rich.text import Text

    heading = _("{name} ({applicability}): {summary}").format(
        name=cure.name, applicability=cure.applicability, summary=cure.summary()
    )
    proposed = ", ".join(
        f"{code} {word:g}" for code, word in sorted(cure.words.items(), key=lambda item: -item[1])
    )
    return [
        Text(heading, style="bold"),
        "",
        Markdown(cure.documentation),
        "",
        Text(_("Proposed for (1: speaks the loudest): {codes}").format(codes=proposed)),
        "",
        Text(_("Sources"), style="bold"),
        *[Text(f"  {source}") for source in cure.sources],
    ]
