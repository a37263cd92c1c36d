"""Pages that a script writes are those that it would write now."""

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def test_the_theory_page_is_that_of_its_script() -> None:
    writer = runpy.run_path(str(DOCS / "write_theory_page.py"))
    assert (DOCS / "theory.md").read_text("utf-8") == writer["page"]()
