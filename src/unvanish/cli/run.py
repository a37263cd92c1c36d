"""`unvanish run`: the user's script, unchanged; watched; then the verdict."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from unvanish.cli import verdict
from unvanish.cli.options import (
    INTERRUPTED,
    ci_options,
    fail_on_option,
    force_option,
    lang_option,
    page_option,
    rules_options,
    script_argument,
    steps_option,
)
from unvanish.cli.target import ScriptCommand
from unvanish.errors import StorageError, UnvanishError, UsageError
from unvanish.i18n import _

if TYPE_CHECKING:
    from collections.abc import Callable

    from unvanish.diagnose import FailOn
    from unvanish.diagnose.config import Config
    from unvanish.monitor.launch import Launched
    from unvanish.monitor.program import Program
    from unvanish.monitor.schedule import WatchOptions
    from unvanish.records import Diagnosis


@click.command(
    "run",
    cls=ScriptCommand,
    context_settings={"allow_interspersed_args": False},
    short_help=_("run a training script, watched, and say what is wrong with its gradient"),
    help=_(
        "Run a training script unchanged, as python would, and watch its backward signal. When it"
        " has ended, crashed or been interrupted, the verdict is printed on stderr and the run is"
        " saved under .unvanish/ of the directory where you started. The script's output, traceback"
        " and exit status are its own. Also: torchrun … -m unvanish run SCRIPT.\n\n"
        "A script that calls os._exit or is killed leaves no verdict, and what its atexit"
        " functions print comes after the verdict."
    ),
)
@script_argument("SCRIPT [ARGS]...")
@click.option(
    "--every",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    help=_("trace steps 0, 1, 2, 4, 8, … and every N (0: only those)"),
    metavar="N",
)
@click.option(
    "--at",
    type=click.IntRange(min=0),
    multiple=True,
    metavar="STEP",
    help=_("also trace this step; may be given more than once"),
)
@steps_option(_("end the script cleanly after N steps of an optimiser"))
@fail_on_option(
    "never",
    _("exit with 1 when the script succeeds and a finding of this severity is there"),
)
@rules_options
@click.option("--json", "json_path", metavar="FILE", help=_("write the result as JSON to FILE"))
@page_option
@ci_options
@force_option
@click.option("--save/--no-save", default=True, help=_("keep the run under .unvanish/"))
@click.option(
    "--probe/--no-probe",
    default=True,
    help=_("also send random signals backward, on a replay of the sampled batches"),
)
@click.option(
    "--spectrum",
    is_flag=True,
    help=_("also measure the network's singular values, at the steps of --at or at the first"),
)
@click.option("--quiet", is_flag=True, help=_("print no verdict, only errors"))
@lang_option
def command(words: tuple[str, ...], module: str | None, **options: Any) -> None:
    """Run the script, then print the verdict and leave with its exit status."""
    sys.exit(_watch(_program(words, module), _settings(**options)))


@dataclass(frozen=True, slots=True)
class _Settings:
    """What the options say. Files are absolute: the script may change directory."""

    start: Path
    options: WatchOptions
    config: Config
    fail_on: FailOn
    json: str | None
    page: str | None
    sarif: str | None
    github: bool
    force: bool
    save: bool
    quiet: bool
    stderr: TextIO  # the script may put another in its place


def _settings(**given: Any) -> _Settings:
    """Read the options, so that all that can be wrong with the call shows before the script."""
    from unvanish.diagnose.config import load_config
    from unvanish.monitor.schedule import Schedule, WatchOptions

    if given["json_path"] == "-":
        raise UsageError(
            _("--json - is refused: stdout belongs to the script"),
            _("Give a file: --json result.json"),
        )
    if given["sarif_path"] == "-":
        raise UsageError(
            _("--sarif - is refused: stdout belongs to the script"),
            _("Give a file: --sarif result.sarif"),
        )
    targets = [given[name] for name in ("json_path", "page", "sarif_path")]
    verdict.check_targets(targets, given["force"])
    start = Path.cwd()
    config = load_config(start)
    return _Settings(
        start=start,
        options=WatchOptions(
            Schedule(given["every"], frozenset(given["at"])),
            given["probe"],
            given["steps"],
            start / ".unvanish" if given["save"] else None,
            given["spectrum"],
        ),
        config=config.narrowed(verdict.codes(given["select"]), verdict.codes(given["ignore"])),
        fail_on=given["fail_on"],
        json=_absolute(given["json_path"]),
        page=_absolute(given["page"]),
        sarif=_absolute(given["sarif_path"]),
        github=given["github"],
        force=given["force"],
        save=given["save"],
        quiet=given["quiet"],
        stderr=sys.stderr,
    )


def _program(words: tuple[str, ...], module: str | None) -> Program:
    from unvanish.monitor.program import Module, Script

    if module is not None:
        return Module(module, words)
    if not words:
        raise UsageError(
            _("there is no script to run"), _("Type for example: unvanish run train.py")
        )
    return Script(Path(words[0]), words[1:])


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).absolute())


def _watch(program: Program, settings: _Settings) -> int:
    """Run the program and report; return the exit status. Nothing of ours hides the program's."""
    from unvanish.diagnose import diagnose
    from unvanish.monitor.launch import launch
    from unvanish.monitor.voice import stderr_lines

    say = stderr_lines()
    try:
        launched = launch(
            program,
            settings.options,
            directory=str(settings.start),
            say=say,
            diagnose=None if settings.quiet else lambda run: diagnose(run, settings.config),
        )
        status = launched.outcome.exit_code
        if launched.rank != 0:
            return status
        try:
            sys.stdout.flush()  # the script's last lines come before ours
            return _finish(launched, settings, say)
        except UnvanishError as error:
            say(_("error: {message}").format(message=error))
            # torchrun ends all ranks when one fails, and the others may be at work still.
            return status or (error.exit_code if launched.ranks == 1 else 0)
        except Exception as error:
            say(
                _("the report failed ({error}); the script's own exit status is kept").format(
                    error=f"{type(error).__name__}: {error}"
                )
            )
            return status
    except KeyboardInterrupt:
        say(_("interrupted while reporting"))
        return INTERRUPTED


def _finish(launched: Launched, settings: _Settings, say: Callable[[str], None]) -> int:
    """Save, print and write the report; return the exit status."""
    from unvanish.diagnose import diagnose, failing

    if isinstance(launched.record, Exception):
        raise launched.record
    saved = None
    if settings.save:
        from unvanish import store

        try:
            saved = store.save(launched.record, settings.start / ".unvanish")
        except StorageError as error:  # the verdict is worth printing all the same
            say(_("error: {message}").format(message=error))
    diagnosis = diagnose(launched.record, settings.config)
    status = launched.outcome.exit_code
    if status == 0 and failing(diagnosis, settings.fail_on):
        status = 1
    if not settings.quiet:
        verdict.show(diagnosis, settings.stderr, saved)
    _write(diagnosis, status, settings)
    return status


def _write(diagnosis: Diagnosis, status: int, settings: _Settings) -> None:
    """Write the files that were asked for."""
    verdict.write(
        diagnosis,
        status,
        json=settings.json,
        page=settings.page,
        sarif=settings.sarif,
        github=settings.github,
        force=settings.force,
        stream=settings.stderr,
    )
