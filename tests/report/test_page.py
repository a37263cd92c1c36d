"""The HTML page, read as text: what it holds, and that nothing in it can act or call out."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from typing import Any

import pytest
from markupsafe import Markup

from tests.report import builders
from unvanish import words
from unvanish.records import Diagnosis
from unvanish.report.document import document
from unvanish.report.page import render_page
from unvanish.report.templating import number, prose

DIAGNOSES = builders.every_diagnosis()


class Reader(HTMLParser):
    """Collects elements, the text of scripts, and the visible text, as a browser's parser would."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.text: list[str] = []
        self.rows: list[list[tuple[str, str]]] = []  # of the layers: (exact value, text) by cell
        self._inside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag in {"script", "style"}:
            self._inside.append(tag)
            self.scripts.append((attributes, ""))
        if tag == "tr" and "data-layer" in attributes:
            self.rows.append([("", attributes["data-layer"] or "")])
        if tag == "data" and self.rows:
            self.rows[-1].append((attributes["value"] or "", ""))

    def handle_endtag(self, tag: str) -> None:
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if self._inside:
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)
        else:
            self.text.append(data)


@cache
def page(name: str) -> str:
    return render_page(DIAGNOSES[name])


@cache
def read(name: str) -> Reader:
    reader = Reader()
    reader.feed(page(name))
    return reader


def figures_of(name: str) -> dict[str, Any]:
    return {
        str(attributes["id"]).removesuffix("-data"): json.loads(text)
        for attributes, text in read(name).scripts
        if attributes.get("type") == "application/json"
    }


def visible(name: str) -> str:
    return " ".join(" ".join(read(name).text).split())


@pytest.mark.parametrize("name", DIAGNOSES)
def test_the_page_loads_nothing(name: str) -> None:
    for tag, attributes in read(name).elements:
        assert tag not in {"link", "iframe", "img", "object", "embed", "base", "form"}
        assert not {"src", "srcset", "action", "background"} & set(attributes)
        if "href" in attributes:
            assert str(attributes["href"]).startswith("#")
        assert not any(attribute.startswith("on") for attribute in attributes)
    style = next(text for attributes, text in read(name).scripts if not attributes)
    assert "url(" not in style
    assert "@import" not in style


@pytest.mark.parametrize("name", ["vanishing", "hostile"])
def test_the_policy_allows_exactly_the_two_scripts(name: str) -> None:
    policy = next(
        str(attributes["content"])
        for tag, attributes in read(name).elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    bodies = re.findall(r"<script>(.*?)</script>", page(name), re.DOTALL)
    assert len(bodies) == 2
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()}'"
        for body in bodies
    ]
    assert rules["script-src"].split() == hashes


def test_plotly_is_there_once() -> None:
    assert page("gan").count("Plotly, Inc.") == page("empty").count("Plotly, Inc.") > 0
    assert 4_000_000 < len(page("vanishing")) < 6_000_000


def test_the_verdict_comes_first_with_the_picture_that_shows_it() -> None:
    first = {
        "vanishing": "waterfall-0",
        "recurrent": "recurrence-0",
        "cut": "parameters-0",
        "nonfinite": "loss-0",
        "healthy": "waterfall-0",
    }
    for name, picture in first.items():
        tags = read(name).elements
        plots = [attributes["id"] for _tag, attributes in tags if attributes.get("class") == "plot"]
        assert plots[0] == picture
        heading = next(i for i, (tag, _attributes) in enumerate(tags) if tag == "h1")
        assert heading < next(i for i, (tag, _attributes) in enumerate(tags) if tag == "figure")
    assert (
        "Vanishing gradient: The backward signal shrinks ×0.14 a layer over 20 layers, to 10^-16.8"
        " at net.0 : slope of the sigmoid 73% (×0.24 each), weights 27% (×0.59 each)."
    ) in visible("vanishing")


def test_dead_units_are_shown_by_their_slopes() -> None:
    diagnosis = DIAGNOSES["saturated"]
    finding = replace(diagnosis.findings[0], verdict="dead-units", family="DU", code="DU101")
    models = (replace(diagnosis.models[0], verdict="dead-units", findings=(finding,)),)
    dead = replace(diagnosis, verdict="dead-units", findings=(finding,), models=models)
    assert render_page(dead).index('id="slopes-0"') < render_page(dead).index('id="waterfall-0"')


def test_every_picture_is_explained_and_none_is_empty() -> None:
    for name in ("vanishing", "recurrent", "gan", "cut"):
        reader = read(name)
        plots = [a["id"] for _tag, a in reader.elements if a.get("class") == "plot"]
        helps = [a for tag, a in reader.elements if tag == "details" and a.get("class") == "help"]
        assert len(plots) == len(set(plots)) == len(helps) > 0
        drawn = figures_of(name)
        assert set(drawn) == set(plots)
        for figure in drawn.values():
            assert any(len(trace["y"]) for trace in figure["data"])


def test_the_numbers_of_the_table_are_those_of_the_json() -> None:
    for name in ("vanishing", "residual", "nonfinite", "deep"):
        plain = document(DIAGNOSES[name])
        step = DIAGNOSES[name].findings[0].step
        trace = next(t for t in plain["traces"] if step is None or t["step"] == step)
        if step is None:
            trace = plain["traces"][-1]
        layers = {f"{layer['module']}#{layer['call']}": layer for layer in trace["layers"]}
        rows = read(name).rows
        assert {row[0][1] for row in rows} == set(layers)
        for (_none, key), *values in rows:
            layer = layers[key]
            exact = [layer["level_log10"], layer["gain_log10"]]
            written = [v if isinstance(v, str) else json.dumps(v) for v in exact if v is not None]
            assert [value for value, _text in values][: len(written)] == written


def test_the_numbers_of_the_figures_are_those_of_the_json() -> None:
    plain = document(DIAGNOSES["vanishing"])
    trace = plain["traces"][0]
    drawn = figures_of("vanishing")
    levels = next(t for t in drawn["levels-0"]["data"] if t["name"] == "step 0")
    assert levels["y"] == [layer["level_log10"] for layer in trace["layers"]]
    bars = {
        x: y
        for part in drawn["waterfall-0"]["data"]
        if part["type"] == "bar"
        for x, y in zip(part["x"], part["y"], strict=True)
    }
    assert [bars[i] for i in range(len(bars))] == [e["gain_log10"] for e in trace["main_path"]]
    loss = next(t for t in drawn["loss-0"]["data"] if t["name"] == "loss")
    assert loss["y"] == [step["loss"] for step in plain["models"][0]["steps"]]


def test_findings_show_their_evidence_and_remedy() -> None:
    text = visible("vanishing")
    assert "gain of the slope, a layer 0.245 0.5" in text
    assert "Use ReLU with He initialisation" in text
    assert "unvanish rule VG101" in text
    assert "/home/ada/train.py:31" in text


def test_degradations_and_facts_of_the_run_are_stated() -> None:
    text = visible("nonfinite")
    assert "The forward tensors of 2 ops could not be read (step 8)." in text
    assert "crashed: ValueError: loss is NaN" in text
    assert "12 steps, 5 sampled, 50,000 parameters" in text
    assert "PyTorch 2.13.0+cpu" in text
    assert "Not measured" not in visible("vanishing")


def test_further_sources_have_a_waterfall_each() -> None:
    diagnosis = DIAGNOSES["residual"]
    model = diagnosis.run.models[0]
    last = model.traces[-1]
    assert last.main_path is not None
    other = replace(last.main_path, source_module="decoder.embed", edges=last.main_path.edges[:9])
    traces = (*model.traces[:-1], replace(last, paths=(other,)))
    run = replace(diagnosis.run, models=(replace(model, traces=traces),))
    text = render_page(replace(diagnosis, run=run))
    assert 'id="path-0-0"' in text
    assert "The path to decoder.embed" in text


def test_names_of_layers_are_inert() -> None:
    text = page("hostile")
    own = text[: text.index("<script>")] + text[text.rindex("</script>") :]
    assert "<b>bold" not in text
    assert "<img" not in own
    assert "alert(2)</script>" not in text
    plotly = text[text.index("<script>") : text.index("</script>")]
    assert not {"\u2028", "\u202e", "\x1b"} & set(text.replace(plotly, ""))
    assert "n" * 200 not in text.split("data-layer")[0]
    assert "</script><b>bold</b>" in visible("hostile")
    assert "[red]x[/]" in visible("hostile")
    scripts = [attributes for attributes, _text in read("hostile").scripts]
    assert [a for a in scripts if a.get("type") is None] == [{}, {}, {}]  # style, Plotly, ours


def test_the_page_is_in_the_language_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from unvanish import i18n

    assert '<html lang="en">' in page("vanishing")
    i18n.choose("zh")
    try:
        chinese = render_page(DIAGNOSES["vanishing"])
    finally:
        i18n.choose("en")
    assert '<html lang="zh-CN">' in chinese


def test_a_number_keeps_its_exact_value() -> None:
    assert number(0.1 + 0.2, "0.3") == '<data value="0.30000000000000004">0.3</data>'
    assert number(float("nan"), "NaN") == '<data value="NaN">NaN</data>'
    assert number(None, words.NONE) == "<span>–</span>"
    assert number("<b>", "<b>") == '<data value="&lt;b&gt;">&lt;b&gt;</data>'  # type: ignore[arg-type]


def test_prose_marks_code_and_escapes_all() -> None:
    assert prose("at `net.0`: <b>") == Markup("at <code>net.0</code>: &lt;b&gt;")
    assert prose("a ` b") == Markup("a ` b")
    assert prose("`</code><b>`") == Markup("<code>&lt;/code&gt;&lt;b&gt;</code>")


def test_rendering_twice_gives_the_same_page() -> None:
    diagnosis: Diagnosis = DIAGNOSES["cut"]
    assert render_page(diagnosis) == page("cut")
