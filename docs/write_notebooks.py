"""Build and execute the tutorial notebooks, in English and Chinese: `make notebooks`.

Their sources are Python files of cells, docs/notebooks/sources/*.py. A cell begins at a line

    # %% [markdown] LANGUAGE     text in one language
    # %%                         code, in every language
    # %% LANGUAGE                code in one language only
    # %% varies                  code whose output is not the same twice (times, identities)

The outputs hold figures as data, which Jupyter draws, and as pictures, for where nothing draws
(GitHub, exports). The pictures need kaleido and Chromium; without them there are none.
"""

from __future__ import annotations

import base64
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

DIRECTORY = Path(__file__).resolve().parent / "notebooks"
NAMES = ("stuck-network", "chain")
LANGUAGES = {"en": ".ipynb", "zh": ".zh-CN.ipynb"}
PLOTLY, PNG = "application/vnd.plotly.v1+json", "image/png"
WIDTH, SCALE = 760, 1.5  # CSS pixels of a picture, and its own pixels to one of them
HEAD = re.compile(r"^# %%(?P<words>.*)$", re.MULTILINE)


def target(name: str, language: str) -> Path:
    """Return the file of a notebook."""
    return DIRECTORY / f"{name}{LANGUAGES[language]}"


def build(name: str, language: str) -> NotebookNode:
    """Return the notebook `name` in `language`, not executed."""
    text = (DIRECTORY / "sources" / f"{name}.py").read_text("utf-8")
    before, *parts = HEAD.split(text)
    if before.strip():
        raise ValueError(f"{name}.py begins before its first cell")
    cells = []
    for head, body in zip(parts[::2], parts[1::2], strict=True):
        words = set(head.split())
        wanted = words & set(LANGUAGES)
        if wanted and language not in wanted:
            continue
        make = _markdown if "[markdown]" in words else _code
        cell = make(body)
        cell.id = f"cell-{len(cells) + 1}"
        cell.metadata.tags = sorted(words - set(LANGUAGES) - {"[markdown]"})
        cells.append(cell)
    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return new_notebook(cells=cells, metadata=metadata)


def _markdown(body: str) -> NotebookNode:
    lines = [line.removeprefix("#").removeprefix(" ") for line in body.strip().splitlines()]
    return new_markdown_cell("\n".join(lines))


def _code(body: str) -> NotebookNode:
    return new_code_cell(body.strip())


def execute(notebook: NotebookNode, language: str) -> NotebookNode:
    """Run every cell in a directory of its own, in place; return the notebook.

    Raises nbclient's CellExecutionError where a cell fails, an assertion for example.
    """
    with tempfile.TemporaryDirectory() as directory:
        environment = {
            **os.environ,
            "UNVANISH_LANG": language,
            "PLOTLY_RENDERER": "plotly_mimetype",
            "OMP_NUM_THREADS": "1",
            "IPYTHONDIR": directory,
        }
        client = NotebookClient(
            notebook,
            timeout=600,
            kernel_name="python3",
            resources={"metadata": {"path": directory}},
            record_timing=False,
        )
        client.execute(env=environment)
    notebook.metadata.language_info = {"name": "python"}  # without the version of Python
    return notebook


def text_of(cell: NotebookNode) -> str:
    """Return what a code cell shows, as text: without tags, pictures and the data of figures."""
    shown = []
    for output in cell.outputs:
        if output.output_type == "stream":
            shown.append(output.text)
        else:
            bundle = output.get("data", {})
            best = next((kind for kind in ("text/html", "text/markdown") if kind in bundle), None)
            if PLOTLY in bundle:
                shown.append(str(bundle[PLOTLY]["layout"]["title"]["text"]))
            else:
                shown.append(re.sub(r"<[^>]+>", " ", bundle[best or "text/plain"]))
    return " ".join(" ".join(shown).split())


def add_pictures(notebook: NotebookNode) -> None:
    """Put a picture beside the data of every figure."""
    from plotly.graph_objects import Figure

    from unvanish.report.image import render_image

    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            plain: dict[str, Any] = output.get("data", {}).get(PLOTLY)
            if plain is not None:
                figure = Figure(data=plain["data"], layout=plain["layout"])
                picture = render_image(figure, "png", WIDTH, SCALE)
                output.data[PNG] = base64.b64encode(picture).decode()
                output.metadata[PNG] = {"width": WIDTH}


def main() -> None:
    """Write all of them, or those named on the command line."""
    for name in sys.argv[1:] or NAMES:
        for language in LANGUAGES:
            notebook = execute(build(name, language), language)
            add_pictures(notebook)
            nbformat.validate(notebook)
            nbformat.write(notebook, target(name, language))
            print(f"Wrote docs/notebooks/{target(name, language).name}")


if __name__ == "__main__":
    main()
