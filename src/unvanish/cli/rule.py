"""`unvanish rule`: the list of rules, or what one of them means and what cures it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from unvanish._version import __version__
from unvanish.cli.options import force_option, json_option, lang_option
from unvanish.i18n import _

if TYPE_CHECKING:
    from rich.console import RenderableType

    from unvanish.diagnose.rule import Rule

SCHEMA = 1  # of the JSON; raised when a key changes its meaning or goes


def _help() -> str:
    return "\n\n".join(
        (
            _("List the rules, or print what one of them means, why it matters and what cures it."),
            _(
                "Rules are chosen by code or family (select, ignore), and their thresholds set, in"
                " the table [tool.unvanish] of pyproject.toml."
            ),
        )
    )


def _epilog() -> str:
    return _(
        "JSON: schema, tool_version, and rules: for each code, family, verdict, title, preview,"
        " documentation (text by heading) and thresholds (name, value, unit, meaning, why)."
    )


@click.command(help=_help(), epilog=_epilog())
@click.argument("code", required=False)
@json_option
@force_option
@lang_option
def command(code: str | None, json_path: str | None, force: bool) -> None:
    """Print the list of rules, or one rule's documentation."""
    from unvanish import codec
    from unvanish.cli.output import check_output, show, write_output
    from unvanish.diagnose.catalogue import problems, rule, rules

    if json_path is not None:
        check_output(json_path, force)
    chosen = list(rules()) if code is None else [rule(code)]
    if json_path is not None:
        document = {
            "schema": SCHEMA,
            "tool_version": __version__,
            "rules": [_plain(each) for each in chosen],
        }
        write_output(json_path, codec.dumps(codec.to_plain(document)), force)
    if json_path != "-":
        show(*(_list(chosen) if code is None else _page(chosen[0])))
    for problem in problems():
        click.echo(_("unvanish: note: {message}").format(message=problem), err=True)


def _plain(rule: Rule) -> dict[str, Any]:
    from unvanish.diagnose.rule import sections
    from unvanish.diagnose.thresholds import threshold

    texts = sections(rule.translated).values()
    return {
        "code": rule.code,
        "family": rule.family,
        "verdict": rule.verdict,
        "title": _(rule.title),
        "preview": rule.preview,
        "documentation": dict(zip(sections(rule.documentation), texts, strict=True)),
        "thresholds": [threshold(name) for name in rule.thresholds],
    }


def _list(rules: list[Rule]) -> list[RenderableType]:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in (_("code"), _("verdict"), _("finds")):
        table.add_column(heading)
    for rule in rules:
        title = _(rule.title)
        preview = _("{title} (preview: off by default)").format(title=title)
        table.add_row(rule.code, rule.verdict, preview if rule.preview else title)
    return [table, "", _("One rule in full: unvanish rule {code}").format(code=rules[0].code)]


def _page(rule: Rule) -> list[RenderableType]:
    from rich.text import Text

    from unvanish.diagnose.thresholds import threshold
    from unvanish.report.markdown import Page

    heading = _("{code}: {title} (verdict: {verdict})")
    text = heading.format(code=rule.code, title=_(rule.title), verdict=rule.verdict)
    body = rule.translated.partition("\n\n")[2]
    page: list[RenderableType] = [Text(text, style="bold"), "", Page(body)]
    if rule.thresholds:
        page += ["", Text(_("Thresholds ([tool.unvanish.thresholds] in pyproject.toml)"), "bold")]
    for name in rule.thresholds:
        limit = threshold(name)
        value = f"{limit.value:g} {limit.unit}".strip()
        page += ["", Text(f"{name} = {value}"), Text(limit.meaning), Text(limit.why, style="dim")]
    return page
