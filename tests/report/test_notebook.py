"""The fragment that a diagnosis shows in a notebook."""

from __future__ import annotations

import pytest

from tests.report import builders
from tests.report.test_page import Reader
from unvanish.records import SourceLine, Where
from unvanish.report import focus
from unvanish.report.notebook import repr_html

DIAGNOSES = builders.every_diagnosis()


@pytest.mark.parametrize("name", DIAGNOSES)
def test_the_fragment_is_small_inert_and_balanced(name: str) -> None:
    fragment = repr_html(DIAGNOSES[name])
    reader = Reader()
    reader.feed(fragment)
    assert len(fragment) < 20_000
    allowed = {
        "div", "p", "table", "thead", "tbody", "tr", "th", "td", "span", "details", "summary", "b",
        "br", "code", "data",
    }  # fmt: skip
    assert {tag for tag, _attributes in reader.elements} <= allowed
    for tag in allowed - {"br"}:
        assert fragment.count(f"<{tag}>") + fragment.count(f"<{tag} ") == fragment.count(
            f"</{tag}>"
        )
    assert not any(key.startswith("on") for _tag, a in reader.elements for key in a)


def test_it_tells_the_verdict_the_layers_and_the_remedy() -> None:
    reader = Reader()
    reader.feed(repr_html(DIAGNOSES["vanishing"]))
    text = " ".join(" ".join(reader.text).split())
    assert text.startswith("Vanishing gradient: The backward signal shrinks ×0.14 a layer")
    assert "… 34 layers like these: 17 blocks of 2, ×0.14 each" in text
    assert "Use ReLU with He initialisation" in text


def test_names_are_text() -> None:
    fragment = repr_html(DIAGNOSES["hostile"])
    assert "&lt;/script&gt;&lt;b&gt;bold&lt;/b&gt;" in fragment
    assert "<b>bold" not in fragment
    assert "n" * 60 not in fragment


def test_it_needs_neither_torch_nor_plotly() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from tests.report import builders;"
        "from unvanish.report.notebook import repr_html; repr_html(builders.vanishing());"
        "print({'torch', 'plotly'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_line_of_a_cell_is_named_as_such_and_not_by_a_file_that_is_gone_tomorrow() -> None:
    place = Where("net.1", source=SourceLine("/tmp/ipykernel_4711/123456789.py", 3))
    assert focus.where(place) == "net.1, notebook cell:3"
