"""From a real network to every report: what is measured is what is shown."""

from __future__ import annotations

import json
import math

import jsonschema
import pytest
import torch
from torch import nn

import unvanish
from unvanish import codec
from unvanish.records import Diagnosis
from unvanish.report.document import document, schema
from unvanish.report.notebook import repr_html
from unvanish.report.page import render_page


@pytest.fixture(scope="module")
def diagnosis() -> Diagnosis:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(12):
        layers += [nn.Linear(64, 64), nn.Sigmoid()]
    model = nn.Sequential(*layers, nn.Linear(64, 10))
    batch = (torch.randn(32, 64), torch.randint(0, 10, (32,)))

    def loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    return unvanish.check(model, batch, loss)


def test_its_document_satisfies_the_schema_and_adds_up(diagnosis: Diagnosis) -> None:
    plain = json.loads(codec.dumps(document(diagnosis)))
    jsonschema.validate(plain, schema())
    trace = plain["traces"][0]
    total = math.fsum(edge["gain_log10"] + edge["merge_log10"] for edge in trace["main_path"])
    source = trace["main_source"]
    # Float32 gradients: each of 26 norms is right to a few units in the seventh digit.
    assert total == pytest.approx(source["level_log10"] - source["root_level_log10"], abs=1e-5)
    assert plain["verdict"] == "vanishing"


def test_every_report_tells_the_same_story(diagnosis: Diagnosis) -> None:
    text = str(diagnosis)
    assert text.startswith("Vanishing gradient: ")
    # Default initialisation: 0.577 for the weights times 0.247 for the slope, to a few per cent.
    assert "blocks of 2, ×0.14 each" in text or "blocks of 2, ×0.15 each" in text
    first = diagnosis.findings[0]
    assert first.factor == "slope"
    for html in (render_page(diagnosis), repr_html(diagnosis)):
        assert "Vanishing gradient" in html
        assert first.code in html
