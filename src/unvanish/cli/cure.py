"""`unvanish cure`: the list of cures, or what one of them changes, when, and on whose word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from unvanish._version import __version__
from unvanish.cli.options import force_option, json_option, lang_option
from unvanish.i18n import _, translate_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from unvanish.fix.cure import Cure

SCHEMA = 1  # of the JSON; raised when a key changes its meaning or goes


def _help() -> str:
    return _(
        "List the cures that `unvanish fix` tries, or print what one of them changes, when it is"
        " proposed, and where it comes from."
    )


def _epilog() -> str:
    return _(
        "JSON: schema, tool_version, and cures: for each name, applicability, kind,"
        " keeps_activation, summary, proposed_for (finding, family or verdict: prior),"
        " documentation and sources."
    )


@click.command(help=_help(), epilog=_epilog())
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
        "proposed_for": dict(cure.words),
        "documentation": translate_text(cure.documentation, "cures"),
        "sources": list(cure.sources),
    }


def _list(cures: list[Cure]) -> list[RenderableType]:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in (_("cure"), _("applicability"), _("what it does")):
        table.add_column(heading)
    for cure in cures:
        table.add_row(cure.name, cure.applicability.word, cure.summary())
    return [table, "", _("One cure in full: unvanish cure {name}").format(name=cures[0].name)]


def _page(cure: Cure) -> list[RenderableType]:
    from rich.text import Text

    from unvanish.report.markdown import Page

    proposed = ", ".join(f"{key} ({word:g})" for key, word in cure.words.items())
    return [
        Text(
            _("{name} ({applicability})").format(
                name=cure.name, applicability=cure.applicability.word
            ),
            style="bold",
        ),
        cure.summary(),
        "",
        Page(translate_text(cure.documentation, "cures")),
        "",
        _("Proposed for (prior): {findings}").format(findings=proposed),
        _("Sources:"),
        *(Text(f"- {source}") for source in cure.sources),
    ]
