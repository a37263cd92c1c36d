"""`unvanish fix`: cures for a script's or a function's network, tried on copies and proven."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unvanish.cli import verdict
from unvanish.cli.options import (
    INTERRUPTED,
    force_option,
    json_option,
    lang_option,
    page_option,
    script_argument,
    steps_option,
)
from unvanish.cli.output import write_output
from unvanish.cli.target import ScriptCommand, is_function
from unvanish.cli.usercode import called, load
from unvanish.errors import StorageError, UsageError, UserCodeError
from unvanish.i18n import _

if TYPE_CHECKING:
    from unvanish.fix.search import Progress, Search
    from unvanish.records import Fix


class _FixCommand(ScriptCommand):
    """Also takes options behind FILE.py:FUNCTION, and a bare `--json` in front of the target."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See click."""
        words = list(args)
        for position, word in enumerate(words[:-1]):
            if word == "--json" and (is_function(words[position + 1]) or _script(words, position)):
                words[position] = "--json=-"
                break
        if len(words) > 1 and is_function(words[0]):
            words = [*words[1:], words[0]]
        return super().parse_args(ctx, words)


def _script(words: list[str], position: int) -> bool:
    """Whether the word behind `position` is the script, or the `-m` that names it."""
    following = words[position + 1]
    return following == "-m" or (following.endswith(".py") and Path(following).is_file())


@click.command(
    "fix",
    cls=_FixCommand,
    context_settings={"allow_interspersed_args": False},
    short_help=_("try cures on copies, prove what helps, and print the code to paste"),
    help=_(
        "Find what cures the network that SCRIPT trains, and prove it: each cure is trained beside"
        " the original, on your data, from the same seeds. The script runs unchanged, in child"
        " processes, in a scratch copy of the directory, with trackers off and hubs offline.\n\n"
        "FILE.py:FUNCTION works too: FUNCTION returns (model, batches, loss_fn, optimizer), where"
        " loss_fn(model, batch) is the loss and optimizer is an optimiser, or a function of the"
        " parameters that makes one.\n\n"
        "Everything is printed on stderr. Exit status: 0 a cure is proven or the network is"
        " healthy, 1 nothing is proven, 2 wrong usage, 3 your code failed, 130 interrupted."
    ),
)
@script_argument("SCRIPT|FILE.py:FUNCTION ...")
@steps_option(_("optimiser steps of a training [a script: all of its own; a function: 200]"))
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    metavar="K",
    help=_("fresh seeds of a proof; nothing is proven on fewer than 3"),
)
@click.option(
    "--budget",
    type=click.FloatRange(min=1),
    default=15.0,
    show_default=True,
    metavar="B",
    help=_("how much may be spent, in trainings"),
)
@click.option(
    "--apply",
    is_flag=True,
    help=_("write the best proven cure's lines into the file, behind its optimiser"),
)
@click.option(
    "--random-search",
    is_flag=True,
    help=_("also try the cures in random order at the same cost, for comparison"),
)
@click.option(
    "--save/--no-save",
    default=None,
    help=_("keep the result under .unvanish/, for the live page [if runs are kept there]"),
)
@json_option
@page_option
@force_option
@lang_option
def command(words: tuple[str, ...], module: str | None, **options: Any) -> None:
    """Search, print, write, and leave with the exit status."""
    start = Path.cwd()
    targets = [options["json_path"], options["page"]]
    verdict.check_targets(targets, options["force"])
    if module is None and not words:
        raise UsageError(
            _("there is no script to fix"), _("Type for example: unvanish fix train.py")
        )
    try:
        # What the user's code prints is not part of our output.
        with contextlib.redirect_stdout(sys.stderr):
            fix = _found(words, module, start, options)
    except UserCodeError as error:
        if error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        raise
    if fix is None:
        click.echo(_("interrupted before anything was known"), err=True)
        sys.exit(INTERRUPTED)
    status = _status(fix)
    _show(fix, status, options)
    runs = start / ".unvanish"
    if options["save"] or (options["save"] is None and runs.is_dir()):
        _keep(fix, runs)
    if options["apply"]:
        _apply(fix, words, module)
    sys.exit(status)


def _keep(fix: Fix, directory: Path) -> None:
    """Save the result; what was found is worth having all the same where that fails."""
    from unvanish import store

    try:
        store.save_fix(fix, directory)
    except StorageError as error:
        click.echo(_("error: {message}").format(message=error), err=True)


def _apply(fix: Fix, words: tuple[str, ...], module: str | None) -> None:
    """Write the lines of the best proven cure that can be written into the user's file."""
    from unvanish.fix.apply import written

    proven = [cure for cure in fix.cures if cure.status == "proven"]
    if not proven:
        click.echo(_("no cure is proven: nothing was written"), err=True)
        return
    if module is not None:
        raise UsageError(
            _("--apply writes into a file, and {module} is a module").format(module=module),
            _("Give the file, or paste the lines by hand."),
        )
    path = words[0].rpartition(":")[0] if is_function(words[0]) else words[0]
    source = Path(path).read_text("utf-8")
    refused: list[UsageError] = []
    for cure in proven:
        try:
            found = written(source, cure.code, cure.name)
        except UsageError as error:
            refused.append(error)
            continue
        write_output(path, found, force=True)
        click.echo(_("Wrote {name} into {path}").format(name=cure.name, path=path), err=True)
        return
    raise refused[0]


def _status(fix: Fix) -> int:
    if fix.interrupted:
        return INTERRUPTED
    return 0 if fix.best is not None or fix.verdict_before == "healthy" else 1


def _show(fix: Fix, status: int, options: dict[str, Any]) -> None:
    from rich.console import Console

    from unvanish.codec import dumps
    from unvanish.report.fix import render
    from unvanish.report.fix_document import document

    render(fix, Console(file=sys.stderr))
    json_path, page, force = options["json_path"], options["page"], options["force"]
    if json_path is not None:
        write_output(json_path, dumps(document(fix, status)), force)
    if page is not None:
        from unvanish.report.fix_page import render_page

        write_output(page, render_page(fix), force)
    for path in (json_path, page):
        if path not in (None, "-"):
            click.echo(_("Wrote {path}").format(path=path), err=True)


# --- the search ----------------------------------------------------------------------------------


def _found(
    words: tuple[str, ...], module: str | None, start: Path, options: dict[str, Any]
) -> Fix | None:
    """Return what was found; None if it was interrupted before anything was known."""
    with progress_shown() as progress:
        if module is None and is_function(words[0]):
            return _of_function(words[0], options, progress)
        return _of_script(words, module, start, options, progress)


def _of_function(target: str, options: dict[str, Any], progress: Progress) -> Fix | None:
    from unvanish.diagnose.config import load_config
    from unvanish.fix.fixing import DEFAULT_STEPS
    from unvanish.fix.given import given
    from unvanish.fix.live import LiveTrainer

    function = load(target, example="unvanish fix train.py:make")
    failed = _("{target} failed").format(target=target)
    made = given(lambda: called(function, failed), target)
    trainer = LiveTrainer(
        made.model,
        made.batches,
        made.loss_fn,
        made.optimizer,
        steps=options["steps"] or DEFAULT_STEPS,
        model_fn=made.model_fn,
        config=load_config(Path.cwd()),
    )
    return _search(trainer, ("unvanish", "fix", target), options, progress)


def _of_script(
    words: tuple[str, ...],
    module: str | None,
    start: Path,
    options: dict[str, Any],
    progress: Progress,
) -> Fix | None:
    from unvanish.diagnose.config import load_config
    from unvanish.fix.script import ScriptTrainer, Target

    if module is None and not Path(words[0]).is_file():
        raise UsageError(
            _("there is no file {path}").format(path=words[0]),
            _("Check the path and its spelling."),
        )
    target = (
        Target(module, True, words) if module is not None else Target(words[0], False, words[1:])
    )
    trainer = ScriptTrainer(target, start, steps=options["steps"], config=load_config(start))
    try:
        for line in trainer.plan():
            click.echo(f"unvanish: {line}", err=True)
        return _search(trainer, ("unvanish", "fix", *target.command), options, progress)
    finally:
        trainer.close()


def _search(
    trainer: Any, command: tuple[str, ...], options: dict[str, Any], progress: Progress
) -> Fix | None:
    from unvanish.fix.catalogue import cures
    from unvanish.fix.random_search import Remembered, random_search
    from unvanish.fix.search import Budget, Search

    remembered: Any = Remembered(trainer)
    search = Search(
        remembered, Budget(seeds=options["seeds"], most=options["budget"]), command, progress
    )
    fix = _run(search)
    if fix is None or fix.interrupted or not options["random_search"] or not fix.cures:
        return fix
    progress(_("random search"), 0.99)
    with contextlib.suppress(KeyboardInterrupt):
        names = [one.name for one in cures()]
        other = random_search(remembered, names, fix.trainings_spent, seeds=options["seeds"])
        return replace(fix, random_search=other)
    return fix


def _run(search: Search) -> Fix | None:
    try:
        return search.run()
    except ValueError:  # Ctrl-C before the first training was over
        if search.interrupted:
            return None
        raise


# --- progress ------------------------------------------------------------------------------------


@contextmanager
def progress_shown() -> Iterator[Progress]:
    """Yield a function that shows what is being done: a bar on a terminal, else lines."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield lambda what, share: click.echo(f"unvanish: {share:4.0%} {what}", err=True)
        return
    columns = (
        BarColumn(24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(_("starting"), total=1.0)
        yield lambda what, share: bar.update(task, description=what, completed=share)
