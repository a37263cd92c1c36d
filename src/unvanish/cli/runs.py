"""`unvanish runs`: the runs that are saved in this directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unvanish.cli.options import force_option, json_option, lang_option
from unvanish.cli.output import check_output, show, write_output
from unvanish.i18n import _

if TYPE_CHECKING:
    from rich.table import Table

    from unvanish.diagnose.config import Config
    from unvanish.store import RunSummary

SCHEMA = 1  # of the JSON


@click.command(
    "runs",
    short_help=_("list the runs that are saved in this directory"),
    help=_("List the runs that are saved in this directory, the newest first."),
)
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help=_("list at most so many"),
)
@json_option
@force_option
@lang_option
def command(limit: int, json_path: str | None, force: bool) -> None:
    """List the newest runs, each with the verdict that it gets under this version."""
    from rich.text import Text

    from unvanish import codec, store
    from unvanish.diagnose.config import load_config

    if json_path is not None:
        check_output(json_path, force)
    found = store.runs(Path(".unvanish"))
    config = load_config(Path.cwd())
    entries = [_entry(summary, config) for summary in found[:limit]]
    if json_path is not None:
        plain = {"schema": SCHEMA, "total": len(found), "runs": entries}
        write_output(json_path, codec.dumps(codec.to_plain(plain)), force)
        if json_path != "-":
            click.echo(_("Wrote {path}").format(path=json_path), err=True)
        return
    if not found:
        show(Text(_("No runs are saved here. Record one with: unvanish run train.py")))
        return
    show(_table(entries))
    if len(found) > limit:
        show(Text(_("… and {count} older (--limit)").format(count=len(found) - limit)))


def _entry(summary: RunSummary, config: Config) -> dict[str, Any]:
    """Return one run as plain data; of a damaged one only where it is and what is wrong."""
    entry: dict[str, Any] = {
        "id": summary.id,
        "path": str(summary.path),
        "bytes": summary.bytes,
        "damaged": summary.damaged,
        "state": summary.state,
    }
    if summary.head is None:
        return entry
    head = summary.head
    return {
        **entry,
        "kind": head.kind,
        "created": head.created,
        "command": head.command,
        "ending": head.ending,
        "exit_code": head.exit_code,
        "seconds": head.seconds,
        "models": [
            {"name": model.name, "type": model.type, "steps": len(model.steps)}
            for model in head.models
        ],
        **_judged(summary.id, config),
    }


def _judged(identity: str, config: Config) -> dict[str, Any]:
    from unvanish import store
    from unvanish.diagnose import diagnose
    from unvanish.errors import UnvanishError

    try:
        diagnosis = diagnose(store.load(identity, Path(".unvanish")), config)
    except UnvanishError:  # nothing was traced, or only the head of the file can be read
        return {"verdict": None, "training": None}
    return {"verdict": diagnosis.verdict, "training": diagnosis.training}


def _table(entries: list[dict[str, Any]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from unvanish import words

    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(Text(_("id")), no_wrap=True)
    table.add_column(Text(_("command")), overflow="fold")
    table.add_column(Text(_("steps")), justify="right", no_wrap=True)
    table.add_column(Text(_("verdict")), no_wrap=True)
    table.add_column(Text(_("training")), no_wrap=True)
    for entry in entries:
        name = words.shorten(words.printable(entry["id"]), 32)
        if entry["damaged"] is not None:
            table.add_row(
                Text(name), Text(_("damaged: {why}").format(why=entry["damaged"]), style="red")
            )
            continue
        command_line = words.printable(" ".join(entry["command"]))
        steps = max((model["steps"] for model in entry["models"]), default=0)
        verdict, training = entry["verdict"], entry["training"]
        table.add_row(
            Text(name, style="bold"),
            Text(words.shorten(command_line, 40)),
            Text(str(steps)),
            Text(words.verdict_name(verdict) if verdict else words.NONE),
            Text(words.training_word(training) if training else words.NONE),
        )
    return table
