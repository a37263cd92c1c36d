"""How often `unvanish fix` proves a cure on cases with known faults: `make bench-fix`.

Each curable case goes through the search with its default budget, without being told its fault,
and through random search over the same cures at what that cost. Cases whose loop is of their own
kind go the way of a script. Results are kept as they come, and a later run goes on where one
stopped; --again begins anew.
"""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from rich.table import Table

from unvanish.fix.catalogue import cures
from unvanish.fix.given import like
from unvanish.fix.live import LiveTrainer
from unvanish.fix.random_search import Remembered, random_search
from unvanish.fix.script import ScriptTrainer, Target
from unvanish.fix.search import Budget, Search
from unvanish.testing import Case, cases

NOT_CURABLE = {"labels_shuffled"}  # wrong data: no change of the network or its training helps
_FURTHER = 1_000  # fresh seeds of one base seed stay apart from those of another
BATCHES = 300  # kept of a case, so that none is seen often; a fifth of them for the yardstick


def trainer_of(case: Case, seed: int) -> Any:
    """Return what trains the case: its network in this process, or its script."""
    experiment = case.build(seed)
    if experiment.advance is not None:
        words = (case.name, "--seed", str(seed))
        target = Target("unvanish.testing", True, words)
        return ScriptTrainer(target, Path(__file__).parent, steps=experiment.steps)
    batches = [experiment.batch(step) for step in range(min(BATCHES, experiment.steps))]
    return LiveTrainer(
        experiment.model,
        batches,
        experiment.loss,
        like(experiment.optimizer, experiment.model),
        # As long as the accepted cure was given, for a net that learns again takes its time.
        steps=max(experiment.steps, case.build(seed, cured=True).steps),
        model_fn=lambda: case.build(_FURTHER * seed + torch.initial_seed()).model,
        metric=experiment.metric,
    )


def tried(case: Case, seed: int, compare: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Return what came of one case on one seed."""
    started = time.monotonic()
    torch.manual_seed(seed)
    trainer = trainer_of(case, seed)
    remembered: Any = Remembered(trainer)
    search = Search(remembered, Budget(), progress=lambda what, share: say(what))
    fix = search.run()
    row: dict[str, Any] = {
        "case": case.name,
        "seed": seed,
        "healthy": case.healthy,
        "verdict": fix.verdict_before,
        "best": fix.best,
        "proven": [one.name for one in fix.cures if one.status == "proven"],
        "measured": [one.name for one in fix.cures if one.status == "measured"],
        "spent": fix.trainings_spent,
        "tried": {one.name: one.status for one in fix.cures},
        "why": {
            one.name: one.proof.why_not if one.proof is not None else one.why
            for one in fix.cures
            if one.why or (one.proof is not None and one.proof.why_not)
        },
        "keeps": any(c.status == "proven" and c.keeps_activation for c in fix.cures),
        "swaps": any(c.status == "proven" and not c.keeps_activation for c in fix.cures),
    }
    if compare and fix.cures:
        names = [one.name for one in cures()]
        other = random_search(remembered, names, fix.trainings_spent, seed=seed)
        row["random_best"], row["random_spent"] = other.best, other.trainings_spent
    row["seconds"] = round(time.monotonic() - started, 1)
    return row


def table(rows: list[dict[str, Any]]) -> Table:
    """Return one line a case: on how many seeds it was cured, by what, at what cost."""
    made = Table(title="cases cured, on seeds")
    for column in ("case", "cured", "measured", "by", "trainings", "random: cured", "trainings"):
        made.add_column(column)
    for name in dict.fromkeys(row["case"] for row in rows):
        own = [row for row in rows if row["case"] == name]
        best = dict.fromkeys(row["best"] or "-" for row in own)
        compared = [row for row in own if "random_spent" in row]
        made.add_row(
            name,
            f"{sum(row['best'] is not None for row in own)}/{len(own)}",
            f"{sum(bool(row['measured']) for row in own)}/{len(own)}",
            ", ".join(best),
            f"{statistics.median(row['spent'] for row in own):.1f}",
            f"{sum(row['random_best'] is not None for row in compared)}/{len(compared)}",
            f"{statistics.median(r['random_spent'] for r in compared):.1f}" if compared else "",
        )
    return made


def summary(rows: list[dict[str, Any]]) -> list[str]:
    """Return the rates over all cases that have a fault, and over healthy ones."""
    sick = [row for row in rows if not row["healthy"]]
    well = [row for row in rows if row["healthy"]]
    lines = []
    if sick:
        cured = [row for row in sick if row["best"] is not None]
        mended = [row for row in sick if row["best"] is not None or row["measured"]]
        compared = [row for row in sick if "random_spent" in row]
        cost = [row["spent"] for row in sick]
        lines.append(
            f"proven cure: {len(cured)} of {len(sick)} ({len(cured) / len(sick):.1%});"
            f" proven or measured: {len(mended)}; trainings spent: median"
            f" {statistics.median(cost):.1f}, most {max(cost):.1f}"
        )
        if compared:
            found = [row for row in compared if row["random_best"] is not None]
            ours = [row for row in compared if row["best"] is not None]
            theirs = statistics.median(row["random_spent"] for row in compared)
            lines.append(
                f"random search: {len(found)} of {len(compared)}, trainings spent: median"
                f" {theirs:.1f}; ours on the same: {len(ours)}"
            )
    if well:
        alone = sum(row["best"] is None and not row["tried"] for row in well)
        lines.append(f"healthy left alone: {alone} of {len(well)}")
    return lines


@click.command()
@click.option("--seeds", default=3, show_default=True, help="seeds for each case")
@click.option("--only", multiple=True, help="a case; may be given several times")
@click.option("--group", type=click.Choice(["public", "own"]), help="only cases of this group")
@click.option("--compare/--no-compare", default=True, help="random search at the same budget")
@click.option("--again", is_flag=True, help="forget what is known of the chosen cases")
@click.option("--minutes", type=float, help="begin no further case after so many")
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    default=Path(__file__).parent / "results" / "fix.jsonl",
    help="where results are kept, a line each",
)
def main(
    seeds: int,
    only: tuple[str, ...],
    group: str | None,
    compare: bool,
    again: bool,
    minutes: float | None,
    results: Path,
) -> None:
    """Print the table and the rates."""
    console = Console()
    gc.freeze()  # each trial looks through live objects: not through all that was imported
    chosen = [c for c in _curable(group) if not only or c.name in only]
    known = _read(results)
    if again:
        names = {case.name for case in chosen}
        known = [row for row in known if row["case"] not in names]
        results.write_text("".join(json.dumps(row) + "\n" for row in known))
    done = {(row["case"], row["seed"]) for row in known}
    started = time.monotonic()
    # Seed by seed, so that a run that is cut short knows something of every case.
    for seed in range(seeds):
        for case in chosen:
            if (case.name, seed) in done:
                continue
            if minutes is not None and time.monotonic() - started > 60 * minutes:
                break
            row = tried(case, seed, compare, lambda what: None)
            known.append(row)
            with results.open("a") as file:
                file.write(json.dumps(row) + "\n")
            console.print(
                f"{case.name} (seed {seed}): {row['verdict']} -> {row['best']},"
                f" {row['spent']} trainings, {row['seconds']} s",
                markup=False,
            )
    shown = {case.name for case in chosen}
    rows = [row for row in known if row["case"] in shown]
    if rows:
        console.print(table(rows))
        console.print(*summary(rows), sep="\n")


def _curable(group: str | None) -> list[Case]:
    return [case for case in cases(group) if case.name not in NOT_CURABLE]


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


if __name__ == "__main__":
    main()
