"""`python -m benchmarks.zoo trace | faults | alarms | report`; see `make coverage-zoo`."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import click

CACHE = Path(".zoo")
SMALL = 4e6  # parameters of what is trained with faults
RESULTS = Path("benchmarks/results/zoo.json")
PAGE = Path("docs/zoo.md")
LIBRARIES = ("torchvision", "timm", "transformers")
# One of each, for their imports.
FIRST = {"torchvision": "resnet18", "timm": "resnet10t", "transformers": "bert"}


@click.group()
def main() -> None:
    """Judge every architecture at hand, and faults put into a sample of them."""


@main.command()
@click.option("--library", multiple=True, type=click.Choice(LIBRARIES), default=LIBRARIES)
@click.option("--only", multiple=True, help="names; may be given several times")
@click.option("--minutes", default=600.0, show_default=True, help="stop after so many; go on later")
@click.option("--limit", default=30.0, show_default=True, help="seconds for one architecture")
@click.option("--again", is_flag=True, help="those that are not traced yet, once more")
def trace(
    library: tuple[str, ...], only: tuple[str, ...], minutes: float, limit: float, again: bool
) -> None:
    """Trace one step of each, one JSON line each in .zoo/trace.jsonl; what is there is kept."""
    from benchmarks.zoo.isolation import isolated, warm
    from benchmarks.zoo.tracing import traced

    CACHE.mkdir(exist_ok=True)
    file = CACHE / "trace.jsonl"
    done = {
        (row["library"], row["name"])
        for row in lines(file)
        if not again or row["status"] == "traced"
    }
    started = time.monotonic()
    chosen = [
        (source, *each)
        for source in library
        for each in members(source)
        if (each[0] in only if only else (source, each[0]) not in done)
    ]
    chosen.sort(key=lambda each: each[3])
    for source in library:
        append(
            CACHE / "known.jsonl", {"library": source, "name": "", "count": len(members(source))}
        )
    for source in {each[0] for each in chosen}:
        warm(partial(_small, source, FIRST[source], FIRST[source]))
    for position, (source, name, family, rank, build) in enumerate(chosen):
        if time.monotonic() - started > 60 * minutes:
            click.echo(f"stopped: {len(chosen) - position} left; type the same again")
            return
        work = partial(traced, build, CACHE / "checks", whole(source, name, rank))
        answer = isolated(work, limit)
        row = {"library": source, "name": name, "family": family, "rank": rank, **answer}
        row.pop("trace", None) if row["status"] == "traced" else None
        append(file, row)
        told = ", ".join(f"{f['code']} {f['severity']}" for f in row.get("findings", []))
        click.echo(
            f"[{position + 1}/{len(chosen)}] {source} {name}: {row['status']}"
            f" {row.get('verdict', row.get('error', ''))[:160]} {told}"
            f" ({row['cpu_s']} of {row['seconds']} s)"
        )


def whole(library: str, name: str, rank: int) -> bool:
    """Whether an architecture is traced with the settings that `unvanish check` has by default.

    They take several times as long, so: the smallest of each family, and of transformers, where
    each is a family, every fourth as if at random.
    """
    from benchmarks.zoo.rates import order

    return rank == 0 and (library != "transformers" or order(name)[0] in "0123")


@main.command()
@click.option("--library", multiple=True, type=click.Choice(LIBRARIES), default=LIBRARIES)
@click.option("--minutes", default=600.0, show_default=True, help="stop after so many; go on later")
@click.option("--most", default=60, show_default=True, help="architectures of each library")
@click.option("--limit", default=240.0, show_default=True, help="seconds for one architecture")
def faults(library: tuple[str, ...], minutes: float, most: int, limit: float) -> None:
    """Put faults into a sample of them, train each; the runs are kept in .zoo/runs."""
    from benchmarks.zoo.faults import SLOWEST, studied
    from benchmarks.zoo.isolation import isolated, warm

    CACHE.mkdir(exist_ok=True)
    file = CACHE / "faults.jsonl"
    known = {
        (row["library"], row["name"]): row
        for row in lines(file)
        if row["status"] != "slow" or row["step_s"] > SLOWEST
    }
    count = Counter(source for (source, _n), row in known.items() if row["status"] == "studied")
    started = time.monotonic()
    for source in library:
        warm(partial(_small, source, FIRST[source], FIRST[source]))
    for source, name, family, optimizer in candidates(library):
        if count[source] < most and (source, name) not in known:
            if time.monotonic() - started > 60 * minutes:
                click.echo("stopped; type the same again")
                return
            work = partial(
                studied, partial(_small, source, name, family), optimizer, CACHE / "runs"
            )
            row = {"library": source, "name": name, "family": family, "optimizer": optimizer}
            row |= isolated(work, limit)
            count[source] += row["status"] == "studied"
            append(file, row)
            labels = [case["label"] for case in row.get("cases", [])]
            told = ", ".join(f"{each} {labels.count(each)}" for each in sorted(set(labels)))
            click.echo(
                f"{source} {name} {optimizer}: {row['status']} {row.get('error', '')[:200]} {told}"
                f" ({row['cpu_s']} of {row['seconds']} s)"
            )


@main.command()
@click.option("--minutes", default=600.0, show_default=True, help="stop after so many; go on later")
@click.option("--limit", default=90.0, show_default=True, help="seconds for one architecture")
def alarms(minutes: float, limit: float) -> None:
    """Train each architecture that has an alarm at initialisation: does it learn its batch?"""
    from benchmarks.zoo.faults import tried
    from benchmarks.zoo.isolation import isolated, warm
    from benchmarks.zoo.report import alarming, architecture

    file = CACHE / "alarms.jsonl"
    known = {(row["library"], row["name"]) for row in lines(file)}
    rows = [architecture(row, CACHE, {}) for row in lines(CACHE / "trace.jsonl")]
    wanted = [
        (row["library"], row["name"])
        for row in rows
        if alarming(row.get("findings", [])) and (row["library"], row["name"]) not in known
    ]
    started = time.monotonic()
    for source in dict.fromkeys(source for source, _name in wanted):
        warm(partial(_small, source, FIRST[source], FIRST[source]))
        builders = {name: build for name, _family, _rank, build in members(source)}
        for name in (name for library, name in wanted if library == source):
            if time.monotonic() - started > 60 * minutes:
                click.echo("stopped; type the same again")
                return
            row = {"library": source, "name": name}
            row |= isolated(partial(tried, builders[name]), limit)
            append(file, row)
            click.echo(f"{source} {name}: {row}")


@main.command()
def report() -> None:
    """Judge all that is kept by the rules of today; write the result file and the page."""
    from benchmarks.zoo.report import page, results, write

    kept = {name: lines(CACHE / f"{name}.jsonl") for name in ("trace", "faults", "alarms")}
    found = results(kept["trace"], kept["faults"], CACHE, trained=kept["alarms"], known=total())
    write(found, RESULTS, PAGE)
    click.echo(page(found))
    click.echo(f"Wrote {RESULTS} and {PAGE}")


def candidates(libraries: Iterable[str]) -> list[tuple[str, str, str, str]]:
    """Return library, name, family and optimiser of what can be studied, in the order of a hash.

    The smallest of each family, where it is small enough to train quickly; one optimiser each,
    by the hash too. What was tried and not traced is left out.
    """
    from benchmarks.zoo import vision
    from benchmarks.zoo.rates import optimizer, order

    rows = {(row["library"], row["name"]): row for row in lines(CACHE / "trace.jsonl")}
    sizes = {("timm", name): size for name, size in timm_sizes([]).items()}
    if "torchvision" in libraries:
        vision_sizes = vision.torchvision_sizes()
        sizes |= {("torchvision", name): size for name, size in vision_sizes.items()}
    first: dict[tuple[str, str], str] = {}
    for library in libraries:
        for name, family, _rank, _build in members(library):
            known = sizes.get((library, name), 0)
            row = rows.get((library, name), {"status": "traced", "parameters": known})
            if row["status"] == "traced" and row["parameters"] < SMALL:
                first.setdefault((library, family), name)
    chosen = [(*key, name) for key, name in first.items()]
    return sorted(
        ((library, name, family, optimizer(name)) for library, family, name in chosen),
        key=lambda one: order(one[1]),
    )


def _small(library: str, name: str, family: str) -> Any:
    """Build a specimen for training: 8 inputs to tell apart, or each of the ten digits once."""
    from benchmarks.zoo import headed, vision

    if library == "transformers":
        return headed.build_headed(name, 8)
    if library == "torchvision":
        return vision.build_torchvision(name, 10, least=32)
    return vision.build_timm(name, family, 10, least=32)


def lines(file: Path) -> list[dict[str, Any]]:
    """Return the rows of a file, the last of each name."""
    if not file.exists():
        return []
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return list({(row["library"], row["name"]): row for row in rows}.values())


def members(library: str) -> list[tuple[str, str, int, Callable[[], Any]]]:
    """Return name, family, rank in the family by size, and builder of each.

    The smallest of every family come first, then every second, …: wherever the time is out, what
    is missing are the larger members of families that were looked at.
    """
    from benchmarks.zoo import language, vision

    if library == "transformers":
        return [
            (name, name, 0, partial(language.build_transformers, name, 4))
            for name in language.transformers_names()
        ]
    if library == "torchvision":
        sizes = vision.torchvision_sizes()
        ranked = vision.ranked((vision.stem(name), size, name) for name, size in sizes.items())
        return [
            (name, vision.stem(name), rank, partial(vision.build_torchvision, name, 8))
            for rank, _size, name in ranked
        ]
    family_of = {name: family for family, all_ in vision.timm_families().items() for name in all_}
    sizes = timm_sizes(list(family_of))
    ranked = vision.ranked((family, sizes[name], name) for name, family in family_of.items())
    return [
        (
            name,
            family_of[name],
            rank,
            partial(vision.build_timm, name, family_of[name], 8, size=size),
        )
        for rank, size, name in ranked
    ]


def total() -> dict[str, int]:
    """Return how many architectures each library has, as far as they were ever listed."""
    rows = lines(CACHE / "known.jsonl")
    return {row["library"]: int(row["count"]) for row in rows}


def timm_sizes(names: list[str]) -> dict[str, int]:
    """Return the parameters of each of timm's (0: not known), kept in .zoo/sizes.jsonl."""
    from benchmarks.zoo import vision

    file = CACHE / "sizes.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    sizes = {row["name"]: int(row["parameters"]) for row in rows}
    for name in names:
        if name not in sizes:
            sizes[name] = vision.timm_size(name) or 0
            append(file, {"name": name, "parameters": sizes[name]})
    return sizes


def append(file: Path, row: dict[str, Any]) -> None:
    """Write a line, at once and whole: several processes may write."""
    with file.open("ab", buffering=0) as stream:
        stream.write((json.dumps(row) + "\n").encode())


if __name__ == "__main__":
    main()
