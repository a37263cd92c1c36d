"""When a cure is proven: the rule, and nothing else.

On one yardstick (the lower the better), the worst run of the cured network must beat the best run
of the untreated one by at least half the larger of the two ranges, on seeds that were not used to
choose the cure; and the finding must be gone. Were both drawn from one distribution, all of n runs
would lie below all of n others in one of C(2n, n) orders: 1 in 20 for n = 3, before the margin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from unvanish.records import Diagnosis, Verdict

LEAST_SEEDS = 3


def spread(scores: Sequence[float]) -> float:
    """Return the range of the finite `scores`: an infinite one has lost, it is no unit."""
    finite = [score for score in scores if math.isfinite(score)]
    return max(finite) - min(finite) if finite else 0.0


def beats(baseline: Sequence[float], cured: Sequence[float]) -> bool:
    """Whether the worst of `cured` beats the best of `baseline` by half the larger range."""
    if not baseline or not cured:
        return False
    worst, best = max(cured), min(baseline)
    margin = 0.5 * max(spread(baseline), spread(cured))
    return worst < best and worst <= best - margin


def hopeless(baseline: Sequence[float], cured: Sequence[float]) -> bool:
    """Whether no further seed can make `cured` beat `baseline`: one run overlaps already."""
    if not baseline or not cured:
        return False
    return max(cured) == math.inf or max(cured) >= min(baseline)


def beaten(baseline: Sequence[float], cured: Sequence[float]) -> int:
    """On how many seeds the cured network scored better than the untreated one, in pairs."""
    return sum(mine < theirs for theirs, mine in zip(baseline, cured, strict=False))


def gone(verdict: Verdict, code: str | None, after: Sequence[Diagnosis | None]) -> bool:
    """Whether the finding that led before leads, or stands as an error or warning, no more."""
    return bool(after) and all(
        one is not None
        and one.verdict != verdict
        and not any(finding.code == code and finding.severity != "info" for finding in one.findings)
        for one in after
    )
