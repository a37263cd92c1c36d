"""Time of one activation's full theory after import: gains, critical points, four fixed points.

    make bench-theory
    python benchmarks/theory.py [--depth 50 --width 512] [--json FILE]

Caches are emptied before each activation. Printed is the processor time of the best of five rounds:
the work itself, whatever else the machine does. Goal: below 100 ms without a depth.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from unvanish.meanfield import NAMES, gaussian, moments, pairs
from unvanish.meanfield.facade import theory

GOAL_MS = 100.0
ROUNDS = 5


def empty_caches() -> None:
    for cached in (gaussian.rule_for, moments.moments, pairs.hermite):
        cached.cache_clear()


def milliseconds(name: str, depth: int | None, width: int | None) -> float:
    times = []
    for _ in range(ROUNDS):
        empty_caches()
        start = time.process_time()
        theory(name, depth=depth, width=width)
        times.append(1000.0 * (time.process_time() - start))
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depth", type=int)
    parser.add_argument("--width", type=int)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    theory("tanh")  # numpy's own first calls
    times = {name: milliseconds(name, options.depth, options.width) for name in NAMES}
    for name, took in sorted(times.items(), key=lambda item: -item[1]):
        print(f"{name:14s} {took:7.1f} ms")
    slow = [name for name, took in times.items() if took > GOAL_MS]
    print(f"above {GOAL_MS:.0f} ms: {', '.join(slow) or 'none'}")
    if options.json:
        found = {
            "goal_ms": GOAL_MS,
            "greatest_ms": round(max(times.values()), 1),
            "above_the_goal": slow,
            "ms": {name: round(took, 1) for name, took in times.items()},
        }
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
