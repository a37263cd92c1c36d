"""Results show themselves: short as text, a fragment of HTML in a notebook, and never an error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

import unvanish
from tests.report import builders, fix_builders
from tests.report.test_page import Reader
from unvanish import codec
from unvanish.chain import make_chain, run_claims, solve, train
from unvanish.report import fragments
from unvanish.report.comparison import compare
from unvanish.shown import Shown

LONGEST = 160  # characters of a line that a terminal shows


def everything() -> dict[str, Any]:
    """One of each kind that shows itself."""
    deep = builders.vanishing(500)
    fix = fix_builders.proven()
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    return {
        "diagnosis": deep,
        "hostile": builders.hostile(),
        "nothing": builders.nothing_measured(),
        "run": deep.run,
        "trace": deep.run.models[0].traces[0],
        "hostile trace": builders.hostile().run.models[0].traces[0],
        "fix": fix,
        "cure": fix.cures[0],
        "proof": fix.cures[0].proof,
        "comparison": compare(deep, builders.healthy()),
        "plan": unvanish.init_(model, dry_run=True),
        "watch": unvanish.watch(),
        "solution": solve(make_chain(200)),
        "training": train(make_chain(3), steps=20),
        "claims": run_claims(draws=20),
        "theory": unvanish.theory("gelu", depth=200),
        "critical": unvanish.critical("relu"),
    }


THINGS = everything()


@pytest.mark.parametrize("name", THINGS)
def test_text_is_one_short_line(name: str) -> None:
    text = repr(THINGS[name])
    assert len(text) <= LONGEST
    assert "\n" not in text


@pytest.mark.parametrize("name", THINGS)
def test_the_fragment_is_well_formed_and_inert(name: str) -> None:
    fragment = THINGS[name]._repr_html_()
    reader = Reader()
    reader.feed(fragment)
    tags = {tag for tag, _attributes in reader.elements}
    assert tags & {"div", "p"}
    assert not tags & {"script", "style", "link", "iframe", "img", "object"}
    assert not any(key.startswith(("on", "src", "href")) for _t, a in reader.elements for key in a)
    for tag in tags - {"br"}:
        opened = fragment.count(f"<{tag}>") + fragment.count(f"<{tag} ")
        assert opened == fragment.count(f"</{tag}>"), tag
    assert len(fragment) < 60_000


def test_every_fragment_that_is_registered_is_tested() -> None:
    kinds = {type(thing) for thing in THINGS.values()}
    assert set(fragments.fragment.registry) - {object} <= kinds


def test_the_parts_of_a_run_are_short_as_text_too() -> None:
    (model,) = builders.vanishing(500).run.models
    assert len(repr(model)) <= LONGEST
    assert len(repr(model.traces[0].main_path)) <= LONGEST


def test_a_failure_is_told_in_the_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object) -> str:
        raise ZeroDivisionError("<b>no</b>")

    monkeypatch.setattr(fragments, "fragment", fail)
    shown = builders.vanishing()._repr_html_()
    assert shown.startswith("<pre>&lt;Diagnosis vanishing")
    assert "ZeroDivisionError: &lt;b&gt;no&lt;/b&gt;" in shown


def test_what_nothing_shows_says_so_in_the_cell() -> None:
    @dataclass
    class Stranger(Shown):
        number: int

    assert "nothing shows a Stranger" in Stranger(1)._repr_html_()


def test_showing_costs_a_record_neither_its_slots_nor_its_file() -> None:
    run = builders.vanishing().run
    assert not hasattr(run, "__dict__")
    assert codec.decode_run(codec.encode_run(run)) == run


def test_numbers_in_the_fragments_are_those_of_the_records() -> None:
    solution = solve(make_chain(10, weight=10, pre_activation=0))
    text = _text(solution)
    assert "9536.7431640625" in text
    assert "The biases were chosen" in text
    assert "The biases were given" in _text(solve(make_chain(10, weight=10, bias=0)))
    fix = fix_builders.proven()
    proof = fix.cures[0].proof
    assert proof is not None
    assert f"better on {proof.beaten} of {len(proof.seeds)}" in _text(proof)
    assert "dead-units" not in _text(builders.vanishing().run)
    assert builders.vanishing().run.id in _text(builders.vanishing().run)


def test_a_monitor_shows_how_things_stand() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with unvanish.monitor(model, optimizer, save=False) as monitor:
        assert "no backward pass was traced" in _text(monitor)
        for _step in range(3):
            optimizer.zero_grad()
            model(torch.randn(4, 8)).square().mean().backward()
            optimizer.step()
        during = _text(monitor)
    assert "watching" in during
    assert "step 3" in during
    assert "Training:" in during
    assert "closed" in _text(monitor)


def _text(thing: Any) -> str:
    reader = Reader()
    reader.feed(thing._repr_html_())
    return " ".join(" ".join(reader.text).split())
