"""Write docs/cures.md from the catalogue: `python docs/write_cures_page.py`."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from unvanish.fix.catalogue import cures
from unvanish.fix.cure import Cure

PAGE = Path(__file__).with_name("cures.md")

TEXT = """\
# Cures

What `unvanish fix` may try. Each is proposed by what was found and by how the network is built,
applied to a copy, and called proven only after it was trained side by side with the original.
`unvanish cure NAME` prints the same in a terminal. Written by `python docs/write_cures_page.py`.

- **safe**: changes only values that would be drawn anew anyway, or is an algebraic identity;
- **unsafe**: changes the function or the dynamics: never applied without being asked;
- **display-only**: an edit of your source; a trial imitates it.

"""


def page() -> str:
    """Return the page."""
    everything = sorted(cures(), key=lambda each: (type(each).__module__, each.name))
    rows = [
        f"| [`{each.name}`](#{each.name}) | {each.applicability} | {each.summary()} |"
        for each in sorted(everything, key=lambda each: each.name)
    ]
    table = "\n".join(("| cure | applicability | what it does |", "|---|---|---|", *rows))
    groups = groupby(everything, key=lambda each: each.documentation)
    return TEXT + table + "\n\n" + "\n\n".join(_family(text, list(each)) for text, each in groups)


def _family(documentation: str, family: list[Cure]) -> str:
    heading, _gap, body = documentation.partition("\n\n")
    return "\n\n".join(
        (f"## {heading.rstrip('.')}", body, *(_one(each).strip() for each in family))
    )


def _one(cure: Cure) -> str:
    words = ", ".join(f"{key} ({word:g})" for key, word in cure.words.items())
    sources = "\n".join(f"- {source}" for source in cure.sources)
    return f"### {cure.name}\n\n{cure.summary()}\n\nProposed for (prior): {words}.\n\n{sources}"


if __name__ == "__main__":
    PAGE.write_text(page() + "\n", encoding="utf-8")
