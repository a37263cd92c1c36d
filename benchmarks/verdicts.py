"""How often the verdict is right on cases with known answers: `make bench-verdicts`.

Each case is trained to its end on each seed by `unvanish run -m unvanish.testing NAME`, in a
process of its own, as a user would. What is done is kept under `.unvanish/verdicts`, so that an
interrupted benchmark goes on where it was; a change of the code begins it anew.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import math
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

import click
import torch
from rich.console import Console
from rich.progress import Progress
from verdict_tables import Row, rates, show

import unvanish
from unvanish import store
from unvanish.diagnose import diagnose
from unvanish.records import Run
from unvanish.testing import Answer, Case, Judgement, cases, judge, watched
from unvanish.testing.verdict import leading_finding

KEPT = Path(".unvanish") / "verdicts"
LIMIT = 300  # seconds that one run may take


def by_command(one: Case, seed: int, kept: Path) -> Row:
    """Run the case's script under `unvanish run`, in a process of its own, and judge it."""
    written, answered = _emptied(kept)
    words = f"run --quiet --json {written.name} -m unvanish.testing {one.name}"
    command = [sys.executable, "-m", "unvanish", *words.split()]
    command += ["--seed", str(seed), "--answer", answered.name]
    ended = subprocess.run(
        command, cwd=kept, capture_output=True, text=True, timeout=LIMIT, env=_environment()
    )
    if not (written.exists() and answered.exists()):
        raise click.ClickException(f"{one.name} (seed {seed}) failed:\n{ended.stderr[-2000:]}")
    row = by_record(one, seed, kept)
    said = json.loads(written.read_text())["verdict"]
    if row["verdict"] != said:
        raise click.ClickException(f"{one.name}: {said} in JSON, {row['verdict']} of the record")
    return row


def by_record(one: Case, seed: int, kept: Path) -> Row:
    """Judge the saved record of a run that has been: today's rules, yesterday's training."""
    answer = json.loads((kept / "answer.json").read_text())
    answer = {name: tuple(v) if isinstance(v, list) else v for name, v in answer.items()}
    run = store.load("last", kept / ".unvanish")
    return _row(one, seed, Answer(**answer), run)


def by_ear(one: Case, seed: int, kept: Path) -> Row:
    """Train the case in this process, heard as `unvanish run` hears a script."""
    torch.manual_seed(seed)
    experiment = one.build(seed)
    run = watched(experiment)
    answer = one.answer(experiment)
    _written, answered = _emptied(kept)
    answered.write_text(json.dumps(dataclasses.asdict(answer)))
    store.save(run, kept / ".unvanish")
    return _row(one, seed, answer, run)


def _emptied(kept: Path) -> tuple[Path, Path]:
    """Make the place of one run empty; return where its result and its answer go."""
    kept.mkdir(parents=True, exist_ok=True)
    written, answered = kept / "result.json", kept / "answer.json"
    for old in (written, answered, *(kept / ".unvanish").glob(f"*{store.SUFFIX}")):
        old.unlink(missing_ok=True)
    return written, answered


def _row(one: Case, seed: int, answer: Answer, run: Run) -> Row:
    judgement = judge(one, answer, run)
    leading = leading_finding(diagnose(run))
    return {
        "case": one.name,
        "seed": seed,
        "group": one.group,
        **_plain(judgement),
        "result": answer.result,
        "shown": answer.shown,
        "seconds": round(run.seconds, 1),
        "title": leading.title if leading else None,
        "module": leading.where.module if leading else None,
        "blamed": leading.factor if leading else None,
        "step": leading.step if leading else None,
        "evidence": {each.name: each.value for each in leading.evidence} if leading else {},
    }


def _plain(judgement: Judgement) -> Row:
    plain = dataclasses.asdict(judgement)
    return {**plain, "accepted": list(judgement.accepted)}


def _environment() -> dict[str, str]:
    source = str(Path(unvanish.__file__).parents[1])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": source}


def _code(one: Case) -> str:
    """A digest of the package's source, of the cases only what holds this one.

    What other code judged is not taken over.
    """
    root = Path(unvanish.__file__).parent
    corpus = root / "testing" / "corpus"
    files = [path for path in sorted(root.rglob("*.py")) if path.parent != corpus]
    maker = one.make.func if isinstance(one.make, partial) else one.make
    files.append(Path(inspect.getfile(maker)))
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def work_through(
    work: list[tuple[Case, int]], judged: Callable[[Case, int, Path], Row], jobs: int, fresh: bool
) -> list[Row]:
    """Judge all cases, `jobs` at a time; keep each row as soon as it is there."""
    rows, console = [], Console(stderr=True)
    codes = {one.name: _code(one) for one, _seed in work}

    def do(one: Case, seed: int) -> Row:
        place = KEPT / f"{one.name}-{seed}"
        done = place / "row.json"
        if done.exists() and not fresh:
            old = json.loads(done.read_text())
            if (old.get("code_digest"), old.get("judged")) == (codes[one.name], judged.__name__):
                return old
        row = judged(one, seed, place)
        made = {"code_digest": codes[one.name], "judged": judged.__name__}
        place.mkdir(parents=True, exist_ok=True)
        done.write_text(json.dumps({**row, **made}))
        return json.loads(done.read_text())

    with Progress(console=console) as progress, ThreadPoolExecutor(jobs) as pool:
        bar = progress.add_task("judging", total=len(work))
        futures = [pool.submit(do, one, seed) for one, seed in work]
        try:
            for future in as_completed(futures):
                rows.append(future.result())
                progress.advance(bar)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    order = {one.name: i for i, one in enumerate(cases())}
    return sorted(rows, key=lambda row: (order[row["case"]], row["seed"]))


@click.command()
@click.option("--seeds", default=3, show_default=True, help="seeds for each case")
@click.option("--only", multiple=True, help="cases of this pattern; may be given several times")
@click.option("--jobs", default=2, show_default=True, help="runs at a time")
@click.option("--fresh", is_flag=True, help="judge also what has been judged before")
@click.option("--in-process", is_flag=True, help="train in this process: quicker, not the command")
@click.option("--again", is_flag=True, help="judge the kept records again, without training")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="write the judgements")
def main(
    seeds: int,
    only: tuple[str, ...],
    jobs: int,
    fresh: bool,
    in_process: bool,
    again: bool,
    json_path: Path | None,
) -> None:
    """Print the confusion table, the rates, and what was misjudged."""
    torch.set_num_threads(1)
    chosen = [o for o in cases() if not only or any(fnmatchcase(o.name, each) for each in only)]
    work = [(one, seed) for one in chosen for seed in range(seeds)]
    if again:
        work = [(o, seed) for o, seed in work if (KEPT / f"{o.name}-{seed}/answer.json").exists()]
    judged = by_record if again else by_ear if in_process else by_command
    started = time.monotonic()
    # Rules are Python: several threads would only take turns, and torch's state is one.
    rows = work_through(work, judged, 1 if again or in_process else jobs, fresh or again)
    console = Console()
    show(console, rows)
    for row in rows:
        if not row["shown"]:
            console.print(
                f"{row['case']} (seed {row['seed']}) did not train as the case says:"
                f" {row['result']:.4g}",
                markup=False,
            )
    console.print(f"{len(rows)} runs in {time.monotonic() - started:.0f} s")
    if json_path is not None:
        json_path.write_text(_written(rows))


def _written(rows: list[Row]) -> str:
    """The result file: rates first, then one line a run."""
    groups = {
        name: rates([row for row in rows if name in ("all", row["group"])])
        for name in ("all", "public", "own")
    }
    left_out = ("evidence", "code_digest", "judged")
    lines = [
        json.dumps({name: _finite(value) for name, value in row.items() if name not in left_out})
        for row in rows
    ]
    inner = ",\n    ".join(lines)
    made = dict(Counter(row["judged"] for row in rows))
    about = {
        "cases": len({row["case"] for row in rows}),
        "seeds": len({row["seed"] for row in rows}),
        "runs": len(rows),
        "judged": made,  # by_command: `unvanish run`; by_ear: in one process; by_record: saved runs
    }
    head = json.dumps({**about, "rates": groups}, indent=2)[:-2]
    return f'{head},\n  "runs": [\n    {inner}\n  ]\n}}\n'


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    main()
