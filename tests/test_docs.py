"""Pages that a script writes are those that it would write now."""

import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


def test_the_theory_page_is_that_of_its_script() -> None:
    writer = runpy.run_path(str(DOCS / "write_theory_page.py"))
    assert (DOCS / "theory.md").read_text("utf-8") == writer["page"]()


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("script", ["write_rules_page.py", "write_cures_page.py"])
def test_the_pages_of_rules_and_cures_are_those_of_their_scripts(
    script: str, language: str
) -> None:
    writer = runpy.run_path(str(DOCS / script))
    assert writer["PAGES"][language].read_text("utf-8") == writer["page"](language)
