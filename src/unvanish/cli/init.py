"""`unvanish init`: the starting weights that `unvanish.init_` would set, as a table."""

from __future__ import annotations

import contextlib
import sys
import traceback
from typing import TYPE_CHECKING, Any

import click

from unvanish._version import __version__
from unvanish.cli.options import force_option, json_option, lang_option
from unvanish.cli.output import check_output, show, write_output
from unvanish.cli.usercode import called, load
from unvanish.errors import UsageError, UserCodeError
from unvanish.i18n import _

if TYPE_CHECKING:
    from unvanish.initialisation import InitPlan

SCHEMA = 1  # of the JSON; raised when a key changes its meaning or goes


def _help() -> str:
    return "\n\n".join(
        (
            _(
                "Call FUNCTION of FILE.py, which returns the model, or (model, batch), or (model,"
                " batch, loss_fn) as for `unvanish check`; read off a trace what follows each"
                " weight, and print the starting weights and biases with which signals neither"
                " vanish nor explode: what, why, and by how much."
            ),
            _(
                "With a batch, scales are corrected by measurement, forward and backward. Without"
                " --dry-run they are also set on the model that FUNCTION returned. To start a"
                " training with them, call unvanish.init_(model, batch) there."
            ),
        )
    )


@click.command(
    "init",
    short_help=_("starting weights for a model: what, why and by how much"),
    help=_help(),
    epilog=_(
        "JSON: schema, tool_version, kind (init), and scheme, structure (batch, guessed input,"
        " module order), measured, tolerance, applied, notes, and rows: parameter, shape, action"
        " (set, kept), what, why, before, after, follows, feeds, forward_gain, backward_gain,"
        " corrected."
    ),
)
@click.argument("target", metavar="FILE.py:FUNCTION")
@click.option("--scheme", default="auto", show_default=True, help=_("how weights are chosen"))
@click.option("--dry-run", is_flag=True, help=_("plan only, and leave the model as it is"))
@json_option
@force_option
@lang_option
def command(target: str, **options: Any) -> None:
    """Plan, print, and write the JSON that was asked for."""
    from unvanish import codec

    json_path = options["json_path"]
    if json_path is not None:
        check_output(json_path, options["force"])
    given = load(target, example="unvanish init train.py:make")
    failed = _("{target} failed").format(target=target)
    # What the user's code prints is not part of our output.
    with contextlib.redirect_stdout(sys.stderr):
        plan = _planned(lambda: called(given, failed), target, options)
    if json_path is not None:
        head = {"schema": SCHEMA, "tool_version": __version__, "kind": "init"}
        write_output(json_path, codec.dumps(head | codec.to_plain(plan)), options["force"])
    if json_path != "-":
        from unvanish.initialisation.plan import plan_view

        show(*plan_view(plan))
    if json_path not in (None, "-"):
        click.echo(_("Wrote {path}").format(path=json_path), err=True)


def _planned(function: Any, target: str, options: dict[str, Any]) -> InitPlan:
    from unvanish.initialisation import init_

    try:
        made = function()
        parts = made if isinstance(made, tuple) else (made,)
        if not 1 <= len(parts) <= 4:
            raise UsageError(
                _("{target} returned a tuple of {count}").format(target=target, count=len(parts)),
                _("Return model, (model, batch) or (model, batch, loss_fn)."),
            )
        model, batch, loss_fn, *_optimizer = (*parts, None, None)
        plan = init_(
            model, batch, scheme=options["scheme"], loss_fn=loss_fn, dry_run=options["dry_run"]
        )
    except UserCodeError as error:
        traceback.print_exception(error.__cause__ or error)
        raise
    return plan
