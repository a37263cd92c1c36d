"""`python -m benchmarks.zoo trace | faults | report`; see `make coverage-zoo`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click

CACHE = Path(".zoo")
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
@click.option("--limit", default=120.0, show_default=True, help="seconds for one architecture")
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
    work = [each for name in library for each in members(name)]
    chosen = [
        each for each in work if (not only or each[1] in only) and (only or each[:2] not in done)
    ]
    for source, name in FIRST.items():
        if any(each[0] == source for each in chosen):
            warm(partial(_small, source, name, name))
    for position, (source, name, family, build) in enumerate(chosen):
        if time.monotonic() - started > 60 * minutes:
            click.echo(f"stopped: {len(chosen) - position} left; type the same again")
            return
        answer = isolated(partial(traced, build, CACHE / "checks"), limit)
        row = {"library": source, "name": name, "family": family, **answer}
        row.pop("trace", None) if row["status"] == "traced" else None
        with file.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        told = ", ".join(f"{f['code']} {f['severity']}" for f in row.get("findings", []))
        click.echo(
            f"[{position + 1}/{len(chosen)}] {source} {name}: {row['status']}"
            f" {row.get('verdict', row.get('error', ''))[:160]} {told} ({row['seconds']} s)"
        )


@main.command()
@click.option("--library", multiple=True, type=click.Choice(LIBRARIES), default=LIBRARIES)
@click.option("--minutes", default=600.0, show_default=True, help="stop after so many; go on later")
@click.option("--most", default=30, show_default=True, help="architectures of each library")
@click.option("--limit", default=150.0, show_default=True, help="seconds for one architecture")
def faults(library: tuple[str, ...], minutes: float, most: int, limit: float) -> None:
    """Put faults into a sample of the traced ones, train each; the runs are kept in .zoo/runs."""
    from benchmarks.zoo.faults import studied
    from benchmarks.zoo.isolation import isolated, warm

    file = CACHE / "faults.jsonl"
    known = {(row["library"], row["name"]): row for row in lines(file)}
    started = time.monotonic()
    for source in library:
        sample = candidates(source)
        count = sum(
            row["status"] == "studied" for row in known.values() if row["library"] == source
        )
        warm(partial(_small, source, FIRST[source], FIRST[source]))
        for name, family in sample:
            if count >= most:
                break
            if (source, name) in known:
                continue
            if time.monotonic() - started > 60 * minutes:
                click.echo("stopped; type the same again")
                return
            work = partial(studied, source, partial(_small, source, name, family), CACHE / "runs")
            row = {"library": source, "name": name, "family": family, **isolated(work, limit)}
            count += row["status"] == "studied"
            with file.open("a") as stream:
                stream.write(json.dumps(row) + "\n")
            labels = [case["label"] for case in row.get("cases", [])]
            told = ", ".join(f"{each} {labels.count(each)}" for each in sorted(set(labels)))
            click.echo(f"{source} {name}: {row['status']} {told} ({row['seconds']} s)")


@main.command()
def report() -> None:
    """Judge all that is kept by the rules of today; write the result file and the page."""
    from benchmarks.zoo.report import page, results, write

    found = results(lines(CACHE / "trace.jsonl"), lines(CACHE / "faults.jsonl"), CACHE)
    write(found, RESULTS, PAGE)
    click.echo(page(found))
    click.echo(f"Wrote {RESULTS} and {PAGE}")


def candidates(library: str) -> list[tuple[str, str]]:
    """Return name and family of what can be studied: traced, small, one a family, in hash order."""
    from benchmarks.zoo.rates import order

    rows = [
        row
        for row in lines(CACHE / "trace.jsonl")
        if row["library"] == library and row["status"] == "traced" and row["parameters"] < 12e6
    ]
    first = {
        row["family"]: row["name"]
        for row in sorted(rows, key=lambda row: row["parameters"], reverse=True)
    }
    return sorted(((name, family) for family, name in first.items()), key=lambda one: order(one[0]))


def _small(library: str, name: str, family: str) -> Any:
    """Build a specimen for training: 8 lines of text, or each of the ten digits once."""
    from benchmarks.zoo import language, vision

    if library == "transformers":
        return language.build_transformers(name, 8)
    if library == "torchvision":
        return vision.build_torchvision(name, 10, least=32)
    return vision.build_timm(name, family, 10, least=32)


def lines(file: Path) -> list[dict[str, Any]]:
    """Return the rows of a file, the last of each name."""
    if not file.exists():
        return []
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return list({(row["library"], row["name"]): row for row in rows}.values())


def members(library: str) -> Iterator[tuple[str, str, str, Callable[[], Any]]]:
    """Yield library, name, family and builder of each architecture."""
    from benchmarks.zoo import language, vision

    if library == "torchvision":
        for name in vision.torchvision_names():
            yield library, name, name.split("_")[0], partial(vision.build_torchvision, name, 8)
    elif library == "timm":
        chosen = timm_members()
        for place in (0, 1):  # the smallest of all families first
            for family, names in chosen.items():
                for name in names[place : place + 1]:
                    yield library, name, family, partial(vision.build_timm, name, family, 8)
    else:
        for name in language.transformers_names():
            yield library, name, name, partial(language.build_transformers, name, 4)


def timm_members() -> dict[str, list[str]]:
    """Return the smallest two of each family of timm, as far as their names tell."""
    from benchmarks.zoo import vision

    families = vision.timm_families()
    return {family: sorted(names, key=vision.timm_rank)[:2] for family, names in families.items()}


if __name__ == "__main__":
    main()
