"""The tutorial notebooks run, and what they show is what is committed; results in a real kernel."""

from __future__ import annotations

import os
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

DOCS = Path(__file__).parents[1] / "docs"
WRITER = SimpleNamespace(**runpy.run_path(str(DOCS / "write_notebooks.py")))
MOST_BYTES = 2_000_000
ALL = [(name, language) for name in WRITER.NAMES for language in WRITER.LANGUAGES]
PLOTLY_JS = "plotly.js v"  # the first line of the library, 4.5 MB of it


def committed(name: str, language: str) -> NotebookNode:
    return nbformat.read(WRITER.target(name, language), as_version=4)


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize(("name", "language"), ALL)
def test_the_committed_notebook_is_that_of_its_source(name: str, language: str) -> None:
    built, kept = WRITER.build(name, language), committed(name, language)
    for cell in kept.cells:
        cell.pop("outputs", None)
        cell.pop("execution_count", None)
    assert [(cell.cell_type, cell.source, cell.metadata.tags) for cell in built.cells] == [
        (cell.cell_type, cell.source, cell.metadata.tags) for cell in kept.cells
    ]


@pytest.mark.parametrize(("name", "language"), ALL)
def test_it_is_of_bounded_size_and_can_be_looked_at_anywhere(name: str, language: str) -> None:
    path = WRITER.target(name, language)
    text = path.read_text("utf-8")
    assert len(text) < MOST_BYTES
    assert "<script" not in text
    assert PLOTLY_JS not in text
    notebook = committed(name, language)
    nbformat.validate(notebook)
    figures = 0
    for cell in code(notebook):
        assert cell.execution_count
        for output in cell.outputs:
            assert output.output_type in ("execute_result", "display_data", "stream")
            assert output.get("name") != "stderr"
            data = output.get("data", {})
            figures += WRITER.PLOTLY in data
            assert (WRITER.PLOTLY in data) == (WRITER.PNG in data)
            assert len(data.get("text/plain", "")) < 200
    assert figures >= 4


@pytest.mark.parametrize(("name", "language"), ALL)
def test_its_links_lead_to_notebooks_in_its_language(name: str, language: str) -> None:
    text = "\n".join(cell.source for cell in committed(name, language).cells)
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    for link in links:
        assert (DOCS / "notebooks" / link).is_file()
        assert link.endswith(".zh-CN.ipynb") == (language == "zh")


def test_both_languages_have_the_same_cells() -> None:
    for name in WRITER.NAMES:
        english, chinese = WRITER.build(name, "en"), WRITER.build(name, "zh")
        shared = {cell.source for cell in code(english)}
        own = [cell.source for cell in code(chinese) if cell.source not in shared]
        assert len(own) == 1  # that chooses the language
        assert 'choose("zh")' in own[0]
        assert len(chinese.cells) == len(english.cells) + 1


@pytest.mark.parametrize(
    ("name", "language"),
    [
        pytest.param(*case, marks=() if case == ("chain", "en") else pytest.mark.slow)
        for case in ALL
    ],
)
def test_running_it_shows_what_is_committed(name: str, language: str) -> None:
    """Its own assertions hold the key numbers. Only cells of times and identities may differ.

    Chains are pure arithmetic; trainings may differ in the last digits from one processor to
    another, and what is shown has two or three.
    """
    run = WRITER.execute(WRITER.build(name, language), language)
    for kept, now in zip(code(committed(name, language)), code(run), strict=True):
        if "varies" not in kept.metadata.tags:
            assert_alike(WRITER.text_of(now), WRITER.text_of(kept))


def assert_alike(now: str, kept: str) -> None:
    """The same words, and numbers within 2 % of each other."""
    number = r"\d+(?:\.\d+)?(?:e[-+]?\d+)?"
    assert re.split(number, now) == re.split(number, kept)
    expected = [float(one) for one in re.findall(number, kept)]
    assert [float(one) for one in re.findall(number, now)] == pytest.approx(
        expected, rel=0.02, abs=0.02
    )


def test_the_comparison_itself_tells_words_and_numbers_apart() -> None:
    assert_alike("×0.141 a layer", "×0.140 a layer")
    for other in ("×0.24 a layer", "×0.141 in all"):
        with pytest.raises(AssertionError):
            assert_alike("×0.141 a layer", other)


# --- a notebook of one's own ---------------------------------------------------------------------

CELLS = (
    """
import torch, unvanish
from torch import nn
torch.manual_seed(0)
NAME = "</script><img src=x onerror=alert(1)>"
model = nn.ModuleDict({NAME: nn.Sequential(nn.Linear(8, 8), nn.Sigmoid(), nn.Linear(8, 4))})
def loss_fn(model, x):
    return model[NAME](x).square().mean()
x = torch.randn(16, 8)
diagnosis = unvanish.check(model, x, loss_fn)
diagnosis
""",
    "diagnosis.figure()",
    "diagnosis.figure('levels')",
    "diagnosis.run",
    """
with unvanish.watch(save=False) as watched:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        loss_fn(model, x).backward()
        optimizer.step()
""",
    "watched",
    """
import unvanish.report.fragments as fragments
def fail(shown):
    raise RuntimeError("broken renderer")
fragments.fragment = fail
diagnosis
""",
    "'still here'",
    """
import plotly.io
plotly.io.renderers.default = "notebook_connected"  # what exports to HTML draw from
plotly.io.renderers._activate_pending_renderers()
diagnosis.figure()
""",
)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> NotebookNode:
    """A notebook run as Jupyter runs one, with Plotly's own choice of how figures are shown."""
    directory = tmp_path_factory.mktemp("own")
    notebook = new_notebook(cells=[new_code_cell(source.strip()) for source in CELLS])
    client = NotebookClient(notebook, timeout=120, kernel_name="python3")
    client.resources = {"metadata": {"path": str(directory)}}
    environment = {k: v for k, v in os.environ.items() if k != "PLOTLY_RENDERER"}
    client.execute(env={**environment, "UNVANISH_LANG": "en", "IPYTHONDIR": str(directory)})
    return notebook


def shown(notebook: NotebookNode, cell: int) -> dict[str, str]:
    (output,) = [o for o in notebook.cells[cell].outputs if "data" in o]
    return dict(output.data)


def test_results_show_themselves_in_a_kernel(own: NotebookNode) -> None:
    assert shown(own, 0)["text/plain"].startswith("<Diagnosis ")
    assert "Training:" in shown(own, 0)["text/html"]
    for cell in (1, 2):
        assert WRITER.PLOTLY in shown(own, cell)
    assert "check" in shown(own, 3)["text/plain"]


def test_watch_shows_its_verdict_as_html_and_prints_nothing(own: NotebookNode) -> None:
    assert "Training:" in shown(own, 4)["text/html"]
    assert not [o for o in own.cells[4].outputs if o.output_type == "stream"]
    assert shown(own, 5)["text/plain"].startswith("<unvanish.watch: Diagnosis ")


def test_a_renderer_that_fails_does_not_break_the_cell(own: NotebookNode) -> None:
    assert "broken renderer" in shown(own, 6)["text/html"]
    assert shown(own, 7)["text/plain"] == "'still here'"


def test_no_output_carries_plotly_itself(own: NotebookNode) -> None:
    assert len(nbformat.writes(own)) < 200_000
    assert PLOTLY_JS not in nbformat.writes(own)


def test_names_of_layers_are_text_in_an_export_too(own: NotebookNode) -> None:
    """An export holds the fragments, and figures as a script with their data inside."""
    for cell in own.cells:
        for output in cell.outputs:
            html = output.get("data", {}).get("text/html", "")
            assert "<img" not in html
            # what stands in a script is closed by that script's own end only
            assert html.count("<script") == html.count("</script")
    drawn = [o.data["text/html"] for o in own.cells[-1].outputs if "text/html" in o.get("data", {})]
    assert any("onerror" in html for html in drawn)  # the name is there, as text
