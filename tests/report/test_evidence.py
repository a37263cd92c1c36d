"""Evidence in words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from unvanish.records import Evidence
from unvanish.report import evidence

RULES = Path(__file__).parents[2] / "src" / "unvanish" / "diagnose"


def test_names_become_phrases() -> None:
    assert evidence.label("gain_per_layer") == "gain a layer"
    assert evidence.label("attention_log10") == "attention (log₁₀)"
    assert evidence.label("number_of_my\x1bown") == "number of my\\x1bown"


def test_every_name_that_a_rule_gives_is_known() -> None:
    given = {
        name
        for file in RULES.rglob("*.py")
        for name in re.findall(r"Evidence\(\s*\"(\w+)\"", file.read_text("utf-8"))
    }
    assert len(given) > 20
    bare = {name for name in given if "_" in name}
    assert {name for name in bare if evidence.label(name) == name.replace("_", " ")} <= {
        "time_steps"
    }


@pytest.mark.parametrize(
    ("one", "value", "threshold"),
    [
        (Evidence("share", 0.7183, 0.2), "72 %", "20 %"),
        (Evidence("dead_share_highest", 0.5, 0.9), "50 %", "90 %"),
        (Evidence("trunk_ratio_log10", -17.02, -2.7), "−17.02", "−2.7"),
        (Evidence("training", "stuck"), "stuck", "–"),
        (Evidence("training", "no word of ours"), "no word of ours", "–"),
        (Evidence("first", "a.weight"), "a.weight", "–"),
    ],
)
def test_values_and_thresholds(one: Evidence, value: str, threshold: str) -> None:
    assert (evidence.value(one), evidence.threshold(one)) == (value, threshold)
