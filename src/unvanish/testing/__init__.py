"""Broken and healthy models with known answers: `case("post_ln_transformer_18").build(seed=0)`.

Each is also a training script: `python -m unvanish.testing NAME --seed 0 [--cured]`.
"""

from unvanish.testing.case import Answer, Case, Experiment, Kind
from unvanish.testing.catalogue import case, cases
from unvanish.testing.verdict import Judgement, judge, watched

__all__ = ["Answer", "Case", "Experiment", "Judgement", "Kind", "case", "cases", "judge", "watched"]
