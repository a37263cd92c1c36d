"""The tables of `benchmarks/verdicts.py`: what was said, held against what is right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table
from scipy.stats import beta

Row = dict[str, Any]  # a judgement, with its seed and what the leading finding says
GROUPS = ("public", "own")


def interval(right: int, count: int) -> tuple[float, float]:
    """Return the 95 % Clopper-Pearson interval of a share."""
    low = beta.ppf(0.025, right, count - right + 1) if right else 0.0
    high = beta.ppf(0.975, right + 1, count - right) if right < count else 1.0
    return float(low), float(high)


# What is asked of each judgement: True is right, False is wrong, None is not asked there.
QUESTIONS: dict[str, Callable[[Row], bool | None]] = {
    "right verdict": lambda row: row["right"],
    "right factor, where the case names it": lambda row: row["factor"],
    "right layer, where the case names it": lambda row: row["layer"],
    "named cause, where the case names it": lambda row: row["named"],
    "severity, where training sets it": lambda row: row["grave"],
    "healthy left alone": lambda row: not row["alarm"] if row["accepted"] == ["healthy"] else None,
    "sick found": lambda row: row["right"] if "healthy" not in row["accepted"] else None,
    "known in time, where the case sets one": lambda row: row["in_time"],
}


def rates(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Return for each question how many are right of how many, with the bounds of the share."""
    found = {}
    for question, ask in QUESTIONS.items():
        answers = [answer for row in rows if (answer := ask(row)) is not None]
        if answers:
            low, high = interval(sum(answers), len(answers))
            bounds = {"low": round(low, 4), "high": round(high, 4)}
            found[question] = {"right": sum(answers), "of": len(answers), **bounds}
    return found


def rate_table(title: str, rows: Sequence[Row]) -> Table:
    """Return the rates with their bounds."""
    table = Table(title=f"{title}: rates, with 95 % bounds (Clopper-Pearson)")
    for column in ("", "right", "of", "share", "bounds"):
        table.add_column(column)
    for question, one in rates(rows).items():
        right, of = int(one["right"]), int(one["of"])
        bounds = f"{one['low']:.1%} to {one['high']:.1%}"
        table.add_row(question, str(right), str(of), f"{right / of:.1%}", bounds)
    return table


def confusion(rows: Sequence[Row]) -> Table:
    """Return how often each verdict was given where each was expected."""
    counts = Counter((expected(row), row["verdict"]) for row in rows)
    given = sorted({verdict for _expected, verdict in counts})
    table = Table(title="verdict given (columns) where another was expected (rows)")
    table.add_column("")
    for verdict in given:
        table.add_column(verdict)
    for right in sorted({right for right, _verdict in counts}):
        table.add_row(right, *(str(counts[(right, verdict)] or "") for verdict in given))
    return table


def expected(row: Row) -> str:
    """The right verdict; of several the one that was given, or else the first."""
    accepted: list[str] = row["accepted"]
    return row["verdict"] if row["verdict"] in accepted else accepted[0]


def when(rows: Sequence[Row]) -> Table:
    """Return at which step the verdict was known to stay right, by expected verdict."""
    table = Table(title="step from which on the verdict was right")
    for column in ("", "runs", "at step 0", "median", "latest", "never"):
        table.add_column(column)
    for right in sorted({expected(row) for row in rows}):
        steps = [row["known_step"] for row in rows if expected(row) == right]
        known = [step for step in steps if step is not None]
        table.add_row(
            right,
            str(len(steps)),
            str(sum(step == 0 for step in known)),
            f"{median(known):g}" if known else "",
            str(max(known)) if known else "",
            str(len(steps) - len(known)),
        )
    return table


def wrong(row: Row) -> bool:
    """Whether anything about a judgement is wrong."""
    return any(ask(row) is False for ask in QUESTIONS.values())


def misjudged(row: Row) -> str:
    """Return what was expected and what was said, on a few lines."""
    failed = [question for question, ask in QUESTIONS.items() if ask(row) is False]
    lines = [
        f"{row['case']} (seed {row['seed']}): {row['verdict']} [{row['code']}], training"
        f" {row['training']}; expected {' or '.join(row['accepted'])}",
        f"  not right: {'; '.join(failed)}",
        f"  the run's result: {row['result']:.4g}",
    ]
    if row["title"]:
        lines.append(f"  {row['title']}")
        lines.append(f"  at {row['module']!r}, factor {row['blamed']}, step {row['step']}")
        lines += [f"    {name}: {value}" for name, value in row["evidence"].items()]
    return "\n".join(lines)


def show(console: Console, rows: Sequence[Row]) -> None:
    """Print all tables, and each judgement that is wrong."""
    for row in rows:
        if wrong(row):
            console.print(misjudged(row), markup=False, highlight=False)
    console.print(confusion(rows))
    for group in GROUPS:
        chosen = [row for row in rows if row["group"] == group]
        if chosen:
            console.print(rate_table(f"{group} cases", chosen))
    console.print(rate_table("all cases", rows))
    console.print(when(rows))
