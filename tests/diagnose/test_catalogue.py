"""Every rule declares itself completely; rules of other packages are found, or reported."""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from tests.test_translations import CATALOGUE
from unvanish.diagnose import catalogue
from unvanish.diagnose.catalogue import problems, rule, rules
from unvanish.diagnose.rule import HEADINGS, Rule, sections
from unvanish.diagnose.thresholds import THRESHOLDS
from unvanish.errors import UnknownNameError
from unvanish.records import VERDICTS

SOURCE = Path(catalogue.__file__).parent
FAMILIES = {
    "VG": "vanishing",
    "EG": "exploding",
    "DU": "dead-units",
    "FS": "forward-collapse",
    "NF": "non-finite",
    "CG": "cut-graph",
    "LH": "loss-head",
    "UR": "update-size",
    "OK": "healthy",
}


@pytest.mark.parametrize("each", rules(), ids=lambda each: each.code)
def test_documentation_has_its_headings_in_order(each: Rule) -> None:
    found = sections(each.documentation)
    assert tuple(found) == HEADINGS
    assert all(found.values())
    assert each.documentation.startswith(f"{each.code}: ")


@pytest.mark.parametrize("each", rules(), ids=lambda each: each.code)
def test_family_verdict_and_file_agree(each: Rule) -> None:
    assert each.verdict == FAMILIES[each.family]
    assert list((SOURCE / "rules").glob(f"{each.code.lower()}_*.py"))


@pytest.mark.parametrize("each", rules(), ids=lambda each: each.code)
def test_titles_are_translated(each: Rule) -> None:
    assert f'msgid "{each.title}"' in CATALOGUE.read_text(encoding="utf-8")


def test_every_verdict_has_a_rule() -> None:
    assert {each.verdict for each in rules()} == set(VERDICTS)


def test_codes_are_unique_and_found_in_any_case() -> None:
    codes = [each.code for each in rules()]
    assert len(set(codes)) == len(codes)
    assert rule("vg101") is rule("VG101")
    with pytest.raises(UnknownNameError, match="VG101"):
        rule("VG999")


def test_every_threshold_is_used_and_has_its_reason() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py"))
    for name, threshold in THRESHOLDS.items():
        assert threshold.name == name
        assert threshold.meaning.endswith(".")
        assert threshold.why.endswith(".")
        # Two directions share a line: limit(f"{direction}-clear").
        pattern = re.sub(r"^(vanishing|exploding)-", r"(\\{(sick\\.)?direction\\}|\\1)-", name)
        pattern = pattern.replace(r"\1", name.partition("-")[0])
        assert re.search(rf'limit\(f?"{pattern}"\)', text), name


def test_thresholds_that_rules_name_exist() -> None:
    with pytest.raises(ValueError, match="no-such"):
        Rule("XX101", "vanishing", "x", lambda view: [], "", thresholds=("no-such",))
    with pytest.raises(ValueError, match="not like"):
        Rule("X1", "vanishing", "x", lambda view: [], "")
    with pytest.raises(ValueError, match="not a verdict"):
        Rule("XX101", "bad", "x", lambda view: [], "")  # type: ignore[arg-type]


# --- rules of other packages ---------------------------------------------------------------------

THEIRS = Rule("XX101", "vanishing", "theirs", lambda view: [], "")
TAKEN = Rule("VG101", "vanishing", "taken", lambda view: [], "")
NO_RULE = 3


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Pretend that another package has the entry points named by the test's parameter."""
    points = [
        EntryPoint(name, f"{__name__}:{name}", catalogue.GROUP) for name in request.param.split()
    ]
    monkeypatch.setattr(catalogue, "entry_points", lambda group: points)
    catalogue._load.cache_clear()
    yield
    catalogue._load.cache_clear()


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("installed", ["THEIRS"], indirect=True)
def test_a_rule_of_another_package_is_found() -> None:
    assert rule("XX101") is THEIRS
    assert problems() == ()


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("installed", ["NO_RULE TAKEN absent THEIRS"], indirect=True)
def test_broken_ones_are_reported_and_never_fatal() -> None:
    assert rule("XX101") is THEIRS
    assert rule("VG101") is not TAKEN
    assert len(problems()) == 3
    for problem, words in zip(problems(), ("not a Rule", "taken", "absent"), strict=True):
        assert words in problem
