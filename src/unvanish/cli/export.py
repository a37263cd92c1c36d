"""`unvanish export`: the numbers of a run as a table, for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from unvanish.cli.options import force_option, json_option, lang_option
from unvanish.cli.output import check_output, write_output
from unvanish.errors import UsageError
from unvanish.i18n import _

SCHEMA = 1  # of the JSON


@click.command(
    "export",
    short_help=_("write the numbers of a run as a Parquet or CSV table"),
    help=_(
        "Write the numbers of a run as one long table: a row for each number, with the columns run,"
        " model, step, quantity, name, value.\n\n"
        "RUN is the id of a run, the beginning of one, a file, or `last`. Of a long run the table"
        " has the samples that are kept; --points gives buckets that together have all of it, with"
        " the columns first, last, count, low, mean, high. Memory stays flat."
    ),
)
@click.argument("reference", metavar="RUN")
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    help=_("the table; .parquet (needs pyarrow) or .csv"),
)
@click.option(
    "--quantity",
    "quantities",
    multiple=True,
    metavar="NAME",
    help=_("only this quantity (gradient, weight, update, level, steps, …); may be repeated"),
)
@click.option("--steps", metavar="A:B", help=_("only steps A to B; either may be left out"))
@click.option(
    "--points",
    type=click.IntRange(min=1),
    metavar="N",
    help=_("at most N buckets of each quantity, with least, mean and greatest value"),
)
@json_option
@force_option
@lang_option
def command(
    reference: str,
    output: str,
    quantities: tuple[str, ...],
    steps: str | None,
    points: int | None,
    json_path: str | None,
    force: bool,
) -> None:
    """Write the table, and say what is in it."""
    from unvanish import codec
    from unvanish.store.export import export

    if json_path is not None:
        check_output(json_path, force)
    check_output(output, force)
    done = export(
        reference,
        Path(output),
        Path(".unvanish"),
        quantities=quantities,
        steps=_range(steps),
        points=points,
        force=force,
    )
    if json_path is not None:
        plain = {
            "schema": SCHEMA,
            "run": done.run,
            "path": output,
            "rows": done.rows,
            "bytes": done.bytes,
            "quantities": done.quantities,
        }
        write_output(json_path, codec.dumps(plain), force)
    if json_path != "-":
        text = _("Wrote {path}: {rows} rows").format(path=output, rows=done.rows)
        counts = ", ".join(f"{name} {count}" for name, count in done.quantities.items())
        click.echo(f"{text} ({counts})" if counts else text, err=True)


def _range(text: str | None) -> tuple[int | None, int | None]:
    """Return the two ends of "A:B"; "A" alone is one step."""
    if text is None:
        return None, None
    first, colon, last = text.partition(":")
    try:
        start = int(first) if first else None
        return start, (int(last) if last else None) if colon else start
    except ValueError as error:
        raise UsageError(
            _("{text!r} is no range of steps").format(text=text), _("Give A:B, such as 1000:2000.")
        ) from error
