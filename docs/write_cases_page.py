"""Write docs/cases.md from the catalogue of cases: `python docs/write_cases_page.py`."""

from __future__ import annotations

from pathlib import Path

from unvanish.testing import Case, cases

PAGE = Path(__file__).with_name("cases.md")

INTRODUCTION = """\
# Cases with known answers

Small trainings whose fault, or health, is known: a model, its data, its loop, and what is right
to say about them. The verdicts of `unvanish` are held against them (`make bench-verdicts`, with
the figures in `benchmarks/results/verdicts.json`). Each is a training script too:

```
unvanish run -m unvanish.testing post_ln_transformer_18
python -m unvanish.testing post_ln_transformer_18 --seed 1 --cured
```

- *accepted* are the verdicts that are right. They were written down before the tool was asked, and
  rest on training: each faulty case is trained on several seeds as it is and with its cure, and has
  to fail and to succeed (tests marked `slow`). Where a fault strikes only on some seeds, or where
  training itself has to say how bad a net is, what is right about a run follows from the trained
  net (*by training*).
- *factor* and *layer* are what the leading finding has to blame and to name, where that is settled.
  `linear*` stands for any layer whose name begins so.

This page is written by `python docs/write_cases_page.py`.
"""
TITLES = {
    "public": "Reported by others, and made again",
    "own": "Our own",
}
KINDS = (
    "saturation",
    "small weights or slopes",
    "exploding",
    "dead relu",
    "non-finite",
    "not a gradient-depth problem",
    "healthy",
)


def page() -> str:
    """Return the page's text."""
    return "\n".join([INTRODUCTION, *(_group(group, title) for group, title in TITLES.items())])


def _group(group: str, title: str) -> str:
    chosen = cases(group)
    sick = sum(not one.healthy for one in chosen)
    parts = [f"## {title}", "", f"{len(chosen)} cases, {sick} of them faulty.", ""]
    for kind in KINDS:
        found = [one for one in chosen if one.kind == kind]
        if found:
            parts += [f"### {kind.capitalize()}", "", *_table(found, sick=kind != "healthy"), ""]
    return "\n".join(parts)


def _table(found: list[Case], *, sick: bool) -> list[str]:
    if not sick:
        rows = [f"| `{one.name}` | {_cell(one.about)} |" for one in found]
        return ["| case | what looks wrong |", "|---|---|", *rows]
    rows = [
        f"| `{one.name}` | {_cell(one.about)} | {_accepted(one)} | {_cell(', '.join(one.factors))}"
        f" | {' '.join(f'`{each}`' for each in one.layers if each)} | {_cell(one.cure)} |"
        for one in found
    ]
    return ["| case | what is wrong | accepted | factor | layer | cure |", "|" + "---|" * 6, *rows]


def _accepted(one: Case) -> str:
    by_training = " (by training)" if one.depends is not None else ""
    return " or ".join(one.accepted) + by_training


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"Wrote {PAGE}")
