"""How often the verdict is right on cases with known answers: `make bench-verdicts`.

Each case is trained to its end on each seed, watched as `unvanish run` watches a script.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections import Counter
from pathlib import Path

import click
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import beta

from unvanish.testing import Case, Judgement, cases, judge, watched


def interval(right: int, count: int) -> tuple[float, float]:
    """Return the 95 % Clopper-Pearson interval of a share."""
    low = beta.ppf(0.025, right, count - right + 1) if right else 0.0
    high = beta.ppf(0.975, right + 1, count - right) if right < count else 1.0
    return float(low), float(high)


def judged(case: Case, seed: int) -> Judgement:
    """Train one case, watched, and hold the verdict against what is known."""
    torch.manual_seed(seed)
    experiment = case.build(seed)
    run = watched(experiment)
    return judge(case, case.right(experiment), run)


def summary(found: list[Judgement]) -> Table:
    """Return the rates with their bounds."""
    table = Table(title="rates, with 95 % bounds (Clopper-Pearson)")
    for column in ("", "right", "of", "share", "bounds"):
        table.add_column(column)
    questions = {
        "verdict": [one.right for one in found],
        "factor, where named": [one.factor for one in found if one.factor is not None],
        "layer, where named": [one.layer for one in found if one.layer is not None],
        "healthy left alone": [not one.alarm for one in found if one.accepted == ("healthy",)],
        "known in time": [one.in_time for one in found if one.in_time is not None],
    }
    for name, answers in questions.items():
        if answers:
            right = sum(map(bool, answers))
            low, high = interval(right, len(answers))
            share = f"{right / len(answers):.1%}"
            table.add_row(name, str(right), str(len(answers)), share, f"{low:.1%} to {high:.1%}")
    return table


def confusion(found: list[Judgement]) -> Table:
    """Return how often each verdict was given where each was expected."""
    counts = Counter((one.accepted[0], one.verdict) for one in found)
    given = sorted({verdict for _expected, verdict in counts})
    table = Table(title="verdict given (columns) where another was expected (rows)")
    table.add_column("")
    for verdict in given:
        table.add_column(verdict)
    for expected in sorted({expected for expected, _verdict in counts}):
        row = [str(counts[(expected, verdict)] or "") for verdict in given]
        table.add_row(expected, *row)
    return table


@click.command()
@click.option("--seeds", default=3, show_default=True, help="seeds for each case")
@click.option("--only", multiple=True, help="a case; may be given several times")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="write the judgements")
def main(seeds: int, only: tuple[str, ...], json_path: Path | None) -> None:
    """Print the confusion table and the rates."""
    console = Console()
    chosen = [case for case in cases() if not only or case.name in only]
    work = [(case, seed) for case in chosen for seed in range(seeds)]
    found: list[Judgement] = []
    rows: list[dict[str, object]] = []
    started = time.monotonic()
    for case, seed in track(work, "judging", console=Console(stderr=True)):
        one = judged(case, seed)
        found.append(one)
        rows.append({"seed": seed, **dataclasses.asdict(one)})
        if not one.right:
            expected = " or ".join(one.accepted)
            console.print(
                f"{case.name} (seed {seed}): {one.verdict} [{one.code}], training {one.training},"
                f" expected {expected}",
                markup=False,
            )
    console.print(confusion(found))
    console.print(summary(found))
    console.print(f"{len(found)} runs in {time.monotonic() - started:.0f} s")
    if json_path is not None:
        json_path.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
