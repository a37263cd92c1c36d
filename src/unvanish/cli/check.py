"""`unvanish check`: one batch, one backward, exit status 1 on findings."""

from __future__ import annotations

import contextlib
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unvanish.cli import verdict
from unvanish.cli.options import (
    ci_options,
    fail_on_option,
    force_option,
    json_option,
    lang_option,
    page_option,
    rules_options,
)
from unvanish.cli.usercode import called, load
from unvanish.errors import UserCodeError
from unvanish.i18n import _

if TYPE_CHECKING:
    from collections.abc import Callable

    from unvanish.records import Diagnosis


@click.command(
    "check",
    short_help=_("one batch, one backward, and the verdict; for CI"),
    help=_(
        "Call FUNCTION of FILE.py, which returns (model, batch, loss_fn) or (model, batch, loss_fn,"
        " optimizer), where loss_fn(model, batch) is the loss; run one backward on that batch, and"
        " print the verdict.\n\n"
        "Exit status: 0 nothing at the --fail-on level, 1 findings, 2 wrong usage, 3 your code"
        " failed."
    ),
)
@click.argument("target", metavar="FILE.py:FUNCTION")
@fail_on_option("error", _("exit with 1 when a finding of this severity is there"))
@rules_options
@click.option(
    "--probes",
    type=click.IntRange(min=0),
    default=4,
    show_default=True,
    help=_("random signals sent back from the network's output (0: none)"),
)
@click.option(
    "--spectrum/--no-spectrum",
    default=None,
    help=_("the network's singular values: sampled, or none (else where they are few)"),
)
@json_option
@page_option
@ci_options
@force_option
@click.option("--save/--no-save", default=True, help=_("keep the result under .unvanish/"))
@lang_option
def command(target: str, **options: Any) -> None:
    """Check, print, and leave with the exit status."""
    from unvanish import store
    from unvanish.diagnose import failing

    start = Path.cwd()
    targets = [options[name] for name in ("json_path", "page", "sarif_path")]
    verdict.check_targets(targets, options["force"])
    given = load(target, example="unvanish check train.py:make")
    failed = _("{target} failed").format(target=target)
    # What the user's code prints is not part of our output.
    with contextlib.redirect_stdout(sys.stderr):
        diagnosis = _diagnosis(lambda: called(given, failed), target, start, options)
    status = 1 if failing(diagnosis, options["fail_on"]) else 0
    saved = store.save(diagnosis.run, start / ".unvanish") if options["save"] else None
    if "-" not in targets:
        verdict.show(diagnosis, sys.stdout, saved)
    verdict.write(
        diagnosis,
        status,
        json=options["json_path"],
        page=options["page"],
        sarif=options["sarif_path"],
        github=options["github"],
        force=options["force"],
        stream=sys.stderr,
    )
    sys.exit(status)


def _diagnosis(
    function: Callable[[], Any], target: str, start: Path, options: dict[str, Any]
) -> Diagnosis:
    from dataclasses import replace

    from unvanish.checking import check, returned
    from unvanish.diagnose.config import load_config

    config = load_config(start)
    config = config.narrowed(verdict.codes(options["select"]), verdict.codes(options["ignore"]))
    try:
        made = returned(function(), target)
        asked = {name: options[name] for name in ("probes", "spectrum")}
        diagnosis = check(*made, **asked, config=config)
    except UserCodeError as error:
        traceback.print_exception(error.__cause__ or error)
        raise
    run = replace(diagnosis.run, command=("unvanish", "check", target), directory=str(start))
    return replace(diagnosis, run=run)
