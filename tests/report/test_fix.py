"""What a search for cures found: terminal, page, notebook and JSON, from the same records."""

from __future__ import annotations

import io
import json
import math
import re
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from rich.console import Console

from tests.report import fix_builders
from unvanish import codec
from unvanish.figures import proof
from unvanish.records import Fix
from unvanish.report import fix_words
from unvanish.report.fix import render, text
from unvanish.report.fix_document import document, schema
from unvanish.report.fix_page import levels, losses, render_page, repr_html

FIXES = fix_builders.every_fix()
ROOT = Path(__file__).parents[2]


@pytest.fixture(params=FIXES)
def fix(request: pytest.FixtureRequest) -> Fix:
    return FIXES[request.param]


# --- the JSON contract ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", FIXES)
def test_documents_satisfy_the_schema_as_strict_json(name: str) -> None:
    written = codec.dumps(document(FIXES[name], exit_code=1))
    read = json.loads(written, parse_constant=lambda token: pytest.fail(f"not JSON: {token}"))
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.Draft202012Validator(schema()).validate(read)
    assert read["exit_code"] == 1


@pytest.mark.parametrize(
    ("part", "key"),
    [
        *((None, key) for key in schema()["properties"]),
        *((name, key) for name in ("cure", "proof") for key in schema()["$defs"][name]["required"]),
    ],
)
def test_a_document_that_lacks_a_key_is_refused(part: str | None, key: str) -> None:
    plain: Any = document(FIXES["compared"])
    first = plain["cures"][0]
    del {None: plain, "cure": first, "proof": first["proof"]}[part][key]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema()).validate(plain)


def test_the_contract_of_a_proven_cure() -> None:
    plain = document(FIXES["proven"])
    assert plain["verdict_before"] == "vanishing"
    assert plain["best"] == plain["cures"][0]["name"] == "swap"
    best = plain["cures"][0]
    assert best["proven"]
    assert best["proof"]["proven"]
    assert best["verdict_after"] == best["proof"]["verdict_after"] == "healthy"
    assert best["code"] == fix_builders.CODE
    assert [str(seed) for seed in best["proof"]["seeds"]] == list(best["proof"]["losses"])
    # paired: the untreated network trained on each seed of the proof
    assert set(best["proof"]["losses"]) <= set(plain["baseline"])
    assert [cure["rank"] for cure in plain["cures"]] == list(range(1, len(plain["cures"]) + 1))
    assert plain["random_search"] is None


def test_how_trainings_ran_is_in_the_contract() -> None:
    together, one_by_one = document(FIXES["proven"])["ensembles"]
    assert together == {
        "cures": ["", "keep"],
        "seeds": [2, 2],
        "steps": 100,
        "together": True,
        "seconds_alone": 0.01,
        "seconds_together": 0.004,
        "why": "",
    }
    assert not one_by_one["together"]


def test_a_result_from_before_there_were_ensembles_can_be_read() -> None:
    plain = msgspec.to_builtins(FIXES["proven"])
    del plain["ensembles"]
    read = msgspec.msgpack.decode(msgspec.msgpack.encode(plain), type=Fix)
    assert read == replace(FIXES["proven"], ensembles=())


def test_infinite_scores_survive() -> None:
    plain = document(FIXES["nonfinite"])
    assert plain["baseline_scores"]["1"] == "Infinity"
    assert plain["baseline"]["1"][0] == "NaN"


def test_the_documentation_is_that_of_the_schema() -> None:
    writer = runpy.run_path(str(ROOT / "docs" / "write_json_page.py"))
    assert (ROOT / "docs" / "json-fix.md").read_text("utf-8") == writer["fix_page"]()


# --- the terminal --------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 80, 140])
def test_the_report_holds_what_matters(width: int) -> None:
    shown = text(FIXES["proven"], width)
    flat = " ".join(shown.split())
    assert "Proven cure: swap. It beat the baseline on 3 of 3 fresh seeds" in flat
    for line in fix_builders.CODE.splitlines():
        assert f"  {line}\n" in shown  # whole lines, to be copied
    for name in ("noise", "crash", "bulky"):
        assert name in shown
    assert "It failed: RuntimeError: boom." in flat
    assert "It does not fit: no convolution." in flat
    assert "arXiv:1502.07943" in flat


def test_lines_of_code_are_never_cut() -> None:
    long = "gains = {" + ", ".join(f"'{i}.weight': 1.4142135623730951" for i in range(9)) + "}"
    made = fix_builders.proven()
    cures = tuple(
        fix_builders.replace(cure, code=long) if cure.proof is not None else cure
        for cure in made.cures
    )
    assert long in text(fix_builders.replace(made, cures=cures), 60)


def test_a_report_without_a_proof_says_so() -> None:
    flat = " ".join(text(FIXES["unproven"]).split())
    assert re.search(r"No cure was proven; \d were trained\.", flat)
    assert "Not proven: the finding is still there." in flat


def test_a_healthy_network_gets_two_lines() -> None:
    assert text(FIXES["healthy"]).splitlines()[1:] == ["Healthy: nothing was changed."]


def test_an_interrupted_search_and_its_notes_are_shown() -> None:
    flat = " ".join(text(FIXES["interrupted"]).split())
    assert "Interrupted: this is what was known by then." in flat
    assert "the batches come from a generator" in flat


def test_random_search_is_shown_beside() -> None:
    flat = " ".join(text(FIXES["compared"]).split())
    assert "Random search over the same cures proved nothing (9.5 trainings)." in flat


def test_names_cannot_write_to_the_terminal(fix: Fix) -> None:
    assert "\x1b" not in text(fix)


def test_a_terminal_that_lacks_characters_gets_others() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", newline="")
    render(FIXES["proven"], Console(file=stream, width=100, legacy_windows=False))
    stream.flush()
    assert b"swap" in raw.getvalue()


# --- the page and the notebook -------------------------------------------------------------------


@pytest.mark.parametrize("name", FIXES)
def test_pages_are_escaped_and_whole(name: str) -> None:
    page = render_page(FIXES[name])
    assert "<b>hostile" not in page
    assert page.rstrip().endswith("</html>")
    fragment = repr_html(FIXES[name])
    assert "<script" not in fragment
    assert "<b>hostile" not in fragment


def test_the_page_holds_pictures_code_and_every_cure() -> None:
    page = render_page(FIXES["proven"])
    assert 'id="losses-data"' in page
    assert 'id="levels-data"' in page
    assert "module.slope = 1.0" in page
    assert page.count('<article class="finding') == len(FIXES["proven"].cures)


def test_a_healthy_network_has_no_pictures() -> None:
    assert 'id="levels-data"' not in render_page(FIXES["healthy"])


# --- the pictures --------------------------------------------------------------------------------


def test_the_picture_of_losses_shows_the_median_and_the_range_of_the_seeds() -> None:
    rows = [(3.0, 1.0), (2.0, 0.5), (4.0, 0.9)]
    band = fix_words.band(rows, 2)
    assert band == [(2.0, 3.0, 4.0), (0.5, 0.9, 1.0)]
    figure = proof.losses(proof.Curve("untreated", 2, band), [proof.Curve("<i>cure</i>", 2, band)])
    assert figure is not None
    lines = [trace for trace in figure.data if trace.fill is None]
    assert [trace.name for trace in lines] == ["untreated", "&lt;i&gt;cure&lt;/i&gt;"]
    assert list(lines[0].y) == [3.0, 0.9]
    area = figure.data[0]
    assert (max(area.y), min(area.y)) == (4.0, 0.5)


def test_losses_that_are_not_finite_are_left_out_and_named() -> None:
    nan = math.nan
    assert proof.losses(proof.Curve("a", 1, [(nan, nan, nan)]), []) is None
    figure = losses(FIXES["nonfinite"])
    assert figure is not None
    assert "untreated: not finite" in [trace.name for trace in figure.data]


def test_one_bad_seed_of_three_does_not_hide_the_others() -> None:
    assert fix_words.band([(1.0,), (2.0,), (math.inf,)], 1) == [(1.0, 2.0, 2.0)]
    assert math.isnan(fix_words.band([(1.0,), (math.inf,), (math.nan,)], 1)[0][1])


def test_levels_before_and_after_are_drawn_where_they_are_known() -> None:
    figure = levels(FIXES["proven"])
    assert figure is not None
    before, after = figure.data[:2]
    assert before.y[0] == -17.0
    assert after.y[0] == -0.1
    assert levels(FIXES["healthy"]) is None
