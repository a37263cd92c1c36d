"""Cures: candidates proposed from findings, tried on copies, and proven by training.

The package is also the function `unvanish.fix(model, batches, loss_fn, optimizer)`; see
`fixing.fix`.

    cure.py           what a cure is
    catalogue.py      the cures there are; cures/ holds them, one file each
    priors.py         how strongly findings speak for a cure
    trial.py          a training, treated or not, and who can run it
    search.py         plan, screen, prove
    prove.py          the rule: when a cure is proven
    random_search.py  the same cures in random order, for comparison
    fixing.py      T  `unvanish.fix()` and its result
    live.py        T  trials in this process, on copies
    training.py    T  one of them, step by step
    ensemble.py    T  those of one shape as one batch, where that is faster
    stack.py       T  their tensors, a row for each
    seeds.py       T  what a seed changes
    apply.py          a cure written into the source
    treat.py       T  cures applied to a live training
    given.py       T  what FILE.py:FUNCTION returns
    script.py         trials of an unchanged script, in child processes
    scratch.py        a copy of the directory for each
    child.py          the child
    reseed.py         other seeds for it
    surgery.py     T  its network treated before its first step
    recording.py   T  one forward, written down call by call
    structure.py   T  the layers read off it
    weights.py     T  weights drawn anew
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unvanish.fix.fixing import FixResult


class _Package(ModuleType):
    """A package that can be called: `unvanish.fix` is both."""

    def __call__(self, *args: Any, **options: Any) -> FixResult:
        """Find what cures a model, and prove it. See `unvanish.fix.fixing.fix`."""
        from unvanish.fix.fixing import fix

        return fix(*args, **options)


sys.modules[__name__].__class__ = _Package
