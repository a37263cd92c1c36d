"""For tests: hold your own model in CI, and broken and healthy models with known answers.

    from unvanish.testing import assert_healthy

    def test_my_model() -> None:
        assert_healthy(model, batch, loss_fn)

Cases with known answers: `case("post_ln_transformer_18").build(seed=0)`; each is also a training
script: `python -m unvanish.testing NAME --seed 0 [--cured]`.

Names are loaded when they are first used: pytest imports this package in every project that has it
installed, and must not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unvanish.testing.catalogue import case, cases
    from unvanish.testing.experiment import Answer, Case, Experiment, Kind
    from unvanish.testing.healthy import UnhealthyError, assert_healthy
    from unvanish.testing.verdict import Judgement, judge, watched

# name -> module that defines it
_PUBLIC = {
    "Answer": "unvanish.testing.experiment",
    "Case": "unvanish.testing.experiment",
    "Experiment": "unvanish.testing.experiment",
    "Judgement": "unvanish.testing.verdict",
    "Kind": "unvanish.testing.experiment",
    "UnhealthyError": "unvanish.testing.healthy",
    "assert_healthy": "unvanish.testing.healthy",
    "case": "unvanish.testing.catalogue",
    "cases": "unvanish.testing.catalogue",
    "judge": "unvanish.testing.verdict",
    "watched": "unvanish.testing.verdict",
}

__all__ = [
    "Answer",
    "Case",
    "Experiment",
    "Judgement",
    "Kind",
    "UnhealthyError",
    "assert_healthy",
    "case",
    "cases",
    "judge",
    "watched",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'unvanish.testing' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
