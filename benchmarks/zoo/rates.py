"""Which half a name is in, and rates with their bounds."""

from __future__ import annotations

import hashlib

from scipy.stats import beta

# Looked at while the study was set up, whatever their hash says.
LOOKED_AT = ("bert", "test_vit", "test_resnet")


def order(name: str) -> str:
    """Return a key that sorts names as if at random, the same everywhere."""
    return hashlib.sha256(name.encode()).hexdigest()


def half(name: str) -> str:
    """Return "frozen" (thresholds may be looked at there) or "judged", by a hash of the name."""
    if name in LOOKED_AT:
        return "frozen"
    return "judged" if int(order(name)[-1], 16) % 2 else "frozen"


def optimizer(name: str) -> str:
    """Return the optimiser that an architecture is trained with, by its hash."""
    return "Adam" if int(order(name)[-2], 16) % 2 else "SGD"


def interval(count: int, of: int) -> tuple[float, float]:
    """Return the 95 % Clopper-Pearson bounds of a share."""
    low = float(beta.ppf(0.025, count, of - count + 1)) if count else 0.0
    high = float(beta.ppf(0.975, count + 1, of - count)) if count < of else 1.0
    return low, high
