"""`unvanish demo`: the main job on real data, three times; then the cures, proven."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unvanish.cli.options import force_option, json_option, lang_option
from unvanish.cli.output import check_output, show, write_output
from unvanish.errors import UsageError
from unvanish.i18n import _

if TYPE_CHECKING:
    from rich.table import Table

    from unvanish.demo import Result
    from unvanish.demo.cures import Story


@click.command(
    "demo",
    short_help=_("watch three trainings on real data: vanishing, exploding, healthy"),
    help=_(
        "Train the same ten-layer network on handwritten digits three times: as sigmoids, as"
        " sigmoids with large weights, and as ReLUs with He's weights. Each is the same ordinary"
        " script under `unvanish run`; the table shows what came out, and why. Then `fix` looks for"
        " cures of the first, and holds large weights and ReLU against the same rule of a proof."
    ),
)
@click.option("--fix/--no-fix", default=True, help=_("also look for cures, and prove them"))
@json_option
@force_option
@lang_option
def command(fix: bool, json_path: str | None, force: bool) -> None:
    """Run the three trainings, look for cures, and print what came out."""
    from rich.console import Console

    from unvanish import demo

    if json_path is not None:
        check_output(json_path, force)
    if importlib.util.find_spec("sklearn") is None:
        raise UsageError(
            _("the demo's data come with scikit-learn, which is not installed"),
            _("Install it: pip install scikit-learn"),
        )
    progress = Console(file=sys.stderr)
    directory = Path.cwd() / ".unvanish" / "demo"
    results: list[Result] = []
    training = demo.watched(directory)
    with progress.status("") as status:
        for number, case in enumerate(demo.CASES, start=1):
            text = _("training {number} of {count}: {name}").format(
                number=number, count=len(demo.CASES), name=_name(case.name)
            )
            status.update(text)
            if not progress.is_terminal:
                progress.print(text)
            results.append(next(training))
    story = _story() if fix else None
    if json_path is not None:
        write_output(json_path, _document(results, story), force)
    if json_path != "-":
        show(_table(results), *_sentences(results))
        if story is not None:
            from unvanish.report.fix import render

            show("", *_methods(story), "")
            render(story.fix, Console())


def _story() -> Story:
    from unvanish.cli.fix import progress_shown
    from unvanish.demo.cures import story

    with progress_shown() as progress:
        return story(progress)


def _methods(story: Story) -> list[str]:
    """Return a sentence on each of the course note's two methods."""
    from unvanish import words
    from unvanish.report.fix_words import span

    names = {
        "large-weights": _("Method 1, large initial weights"),
        "relu": _("Method 2, ReLU with weights to match"),
    }
    lines = []
    for one in story.methods:
        told = (
            _("{method}: proven. Loss {scores}, untreated {baseline}, on 3 fresh seeds.")
            if one.proven
            else _(
                "{method}: refuted. Loss {scores}, untreated {baseline}, on 3 fresh seeds; verdict"
                " after: {verdict}."
            )
        )
        lines.append(
            told.format(
                method=names[one.name],
                scores=span(one.scores),
                baseline=span(one.baseline_scores),
                verdict=words.verdict_name(one.verdict_after),
            )
        )
    return lines


def _name(name: str) -> str:
    return {
        "sigmoid": _("sigmoid"),
        "sigmoid-large-weights": _("sigmoid, large weights"),
        "relu-he": _("ReLU, He's weights"),
    }[name]


def _table(results: list[Result]) -> Table:
    from rich import box
    from rich.table import Table

    from unvanish import words

    table = Table(
        title=_("The same ten layers on 1,797 handwritten digits"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    table.add_column(_("network"))
    table.add_column(_("loss"), justify="right")
    table.add_column(_("accuracy"), justify="right")
    table.add_column(_("verdict"))
    table.add_column(_("blame"))
    for one in results:
        table.add_row(
            _name(one.case.name),
            words.loss(one.loss),
            words.percent(one.accuracy),
            words.verdict_name(one.document["verdict"]),
            _(", ").join(words.factor_name(factor) for factor in one.blame) or "–",
        )
    return table


def _sentences(results: list[Result]) -> list[str]:
    lines = [
        _("{label}: {value}").format(label=_name(one.case.name), value=one.sentence)
        for one in results
    ]
    lines.append("")
    lines.append(_("The reports, with pictures:"))
    lines += [f"  {one.page}" for one in results]
    lines.append(
        _("The same chain by hand: {command}").format(
            command="unvanish chain --depth 10 --activation sigmoid"
        )
    )
    return lines


def _document(results: list[Result], story: Story | None) -> str:
    from unvanish.codec import dumps, to_plain
    from unvanish.report.fix_document import document

    cases: list[dict[str, Any]] = [
        {
            "name": one.case.name,
            "loss": one.loss,
            "accuracy": one.accuracy,
            "verdict": one.document["verdict"],
            "training": one.document["training"],
            "blame": list(one.blame),
            "finding": one.sentence,
            "report": str(one.page),
        }
        for one in results
    ]
    cured = {} if story is None else {"methods": story.methods, "fix": document(story.fix)}
    return dumps(to_plain({"schema": 1, "cases": cases, **cured}))
