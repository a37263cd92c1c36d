"""Put the real output of the README's example into both READMEs, and the measured cost into
docs/cost.md: `make readme`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "docs/examples/check_digits.py"
COST = ROOT / "docs/cost.md"
FIGURES = ROOT / "benchmarks/results/check.json"
OVERHEAD = ROOT / "benchmarks/results/overhead.json"
READMES = {"en": ROOT / "README.md", "zh": ROOT / "README.zh-CN.md"}


def block(name: str, language: str, text: str) -> tuple[re.Pattern[str], str]:
    """Return the pattern of a marked code block and what it is to hold."""
    start, end = f"<!-- {name} -->", f"<!-- end {name} -->"
    pattern = re.compile(re.escape(start) + ".*?" + re.escape(end), re.DOTALL)
    return pattern, f"{start}\n```{language}\n{text.strip()}\n```\n{end}"


def output(language: str) -> str:
    """Run the example as a reader would and return what it prints."""
    result = subprocess.run(
        [sys.executable, EXAMPLE.name],
        capture_output=True,
        text=True,
        check=True,
        env={"UNVANISH_LANG": language, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
        cwd=EXAMPLE.parent,
    )
    return "\n".join(line.rstrip() for line in result.stdout.splitlines())


def cost_table() -> str:
    """Return the benchmark's figures as a table in Markdown."""
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    columns = list(next(iter(figures.values())))
    lines = [f"| ratio to a bare step | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for model, values in figures.items():
        cells = []
        for column in columns:
            value = values[column]
            if isinstance(value, list):
                low, median, high = value
                cells.append(f"{median:.3f} ({low:.2f} to {high:.2f})")
            else:
                cells.append(f"{value:.3f}")
        lines.append(f"| {model} | {' | '.join(cells)} |")
    return "\n".join(lines)


def overhead_table() -> str:
    """Return what monitors cost, ours and others', as a table in Markdown."""
    ratios = json.loads(OVERHEAD.read_text(encoding="utf-8"))["ratios"]
    ways = list(dict.fromkeys(way for found in ratios.values() for way in found))
    lines = [f"| ratio to a bare step | {' | '.join(ratios)} |", "|---" * (len(ratios) + 1) + "|"]
    for way in ways:
        cells = [_overhead_cell(found.get(way)) for found in ratios.values()]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _overhead_cell(found: dict[str, list[float]] | None) -> str:
    if found is None:
        return "not measured"
    middle, low, high = found["median ratio"]
    amortised, *_bounds = found["amortised ratio"]
    return f"{middle:.3f} ({low:.3f} to {high:.3f}); {amortised:.3f}"


def write_cost() -> None:
    """Rewrite the tables of docs/cost.md."""
    text = COST.read_text(encoding="utf-8")
    for name, table in (("cost", cost_table()), ("overhead", overhead_table())):
        start, end = f"<!-- {name} -->", f"<!-- end {name} -->"
        before, _, rest = text.partition(start)
        text = f"{before}{start}\n{table}\n{end}{rest.partition(end)[2]}"
    COST.write_text(text, encoding="utf-8")
    print(f"Wrote {COST.relative_to(ROOT)}")


def main() -> None:
    """Rewrite the files."""
    write_cost()
    for language, readme in READMES.items():
        text = readme.read_text(encoding="utf-8")
        for pattern, made in (
            block("example", "python", EXAMPLE.read_text(encoding="utf-8")),
            block("output", "text", output(language)),
        ):
            text = pattern.sub(lambda _match, made=made: made, text)
        readme.write_text(text, encoding="utf-8")
        print(f"Wrote {readme.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
