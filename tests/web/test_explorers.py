"""The chain, the theory and the playground in a real Chromium."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from typing import Any

import pytest

pytest.importorskip("dash")
pytest.importorskip("selenium")

from selenium.webdriver.common.keys import Keys

from tests.web.conftest import Page, Server
from unvanish.web.views.stories import STORIES

pytestmark = pytest.mark.browser


def command_json(words: list[str]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", *words, "--json"], capture_output=True, text=True, check=True
    )
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def data_of(page: Page, name: str) -> list[dict[str, Any]]:
    """The traces that a picture shows, as Plotly holds them."""
    return list(
        page.js(
            "document.querySelector(`#${arguments[0]}-plot .js-plotly-plot`).data"
            ".map(t => ({name: t.name, x: Array.from(t.x || []), y: Array.from(t.y || [])}))",
            name,
        )
    )


def test_the_chain_shows_the_numbers_of_its_json(fresh: Page, server: Server) -> None:
    fresh.open(server.address + "en/chain?depth=6&w=3.5&b=-0.5&x=0.25&own=2:10:0.5")
    fresh.scroll_through()
    words = shlex.split(fresh.text("chain-command"))
    document = command_json(words)
    layers = document["layers"]
    assert [layer["weight"] for layer in layers] == [3.5, 10.0, 3.5, 3.5, 3.5, 3.5]
    gain = fresh.js("document.querySelector('#chain-factors-says data').value")
    assert float(gain) == document["input_gain"]
    bars = {
        k: y
        for trace in data_of(fresh, "chain-factors")[:-1]
        for k, y in zip(trace["x"], trace["y"], strict=True)
    }
    assert bars == {layer["k"]: layer["factor_log10"] for layer in layers}
    (line,) = data_of(fresh, "chain-gradients")
    assert line["y"] == [layer["dC_dw_log10"] for layer in layers]


def test_every_control_of_the_chain_is_in_the_address(fresh: Page, server: Server) -> None:
    fresh.open(server.address + "en/chain")
    fresh.wait("document.getElementById('chain-headline').textContent")
    moves = {
        "chain-depth-slider": (7, "depth=7"),
        "chain-weight-slider": (2.5, "w=2.5"),
        "chain-bias": (0.25, "b=0.25"),
        "chain-input-slider": (-0.5, "x=-0.5"),
        "chain-target": (0.4, "y=0.4"),
        "chain-activation-list": ("tanh", "activation=tanh"),
        "chain-mode-list": ("z", "biases=z"),
        "chain-neuron-list": ("3", "neuron=3"),
        "chain-own-weight-slider": (9, "own=3:9:0.25"),
        "chain-step-slider": (40, "step=40"),
    }
    for identity, (value, said) in moves.items():
        fresh.set(identity, value)
        fresh.wait(lambda said=said: said in fresh.driver.current_url, said)
    told = fresh.text("chain-headline")
    address = fresh.driver.current_url
    fresh.open(address)
    fresh.wait(lambda: fresh.text("chain-headline") == told, "the same after a reload")
    fresh.click("chain-own-reset")
    fresh.wait("!location.href.includes('own=')")
    fresh.click("chain-one")
    fresh.wait("location.href.includes('step=41')")
    fresh.click("chain-play")
    fresh.wait("Number(new URLSearchParams(location.search).get('step')) > 50")
    fresh.click("chain-play")
    assert fresh.complaints() == []


def test_a_slider_moves_by_keyboard(fresh: Page, server: Server) -> None:
    fresh.open(server.address + "en/chain?story=1")
    fresh.wait("document.getElementById('chain-headline').textContent")
    before = fresh.text("chain-headline")
    slider = fresh.driver.find_element("id", "chain-weight-slider")
    slider.send_keys(Keys.ARROW_RIGHT)
    fresh.wait(lambda: fresh.text("chain-headline") != before)
    assert fresh.js("document.getElementById('chain-weight').value") == "1.1"
    assert "story=1&w=1.1" in fresh.driver.current_url
    assert fresh.js("document.activeElement.id") == "chain-weight-slider"


def test_the_story_is_told_in_order(fresh: Page, server: Server) -> None:
    fresh.open(server.address + "en/chain?story=1")
    for number, story in enumerate(STORIES, start=1):
        fresh.wait(f"location.search.includes('story={number}')")
        fresh.wait("document.querySelectorAll('#chain-told p').length >= 2")
        assert fresh.js("document.querySelector('main h1').textContent") == story.title()
        shown = fresh.js(
            "Array.from(document.querySelectorAll('.plot')).filter(p => p.clientWidth)"
            ".map(p => p.id.replace(/^chain-|-plot$/g, ''))"
        )
        assert tuple(shown) == story.pictures
        if number < len(STORIES):
            fresh.driver.execute_script("document.querySelector('.onward a.next').click()")
            fresh.wait(f"location.search.includes('story={number + 1}')")
            fresh.wait("document.querySelector('main h1') !== null")
    assert fresh.complaints() == []


def test_the_theory_shows_the_numbers_of_its_json(fresh: Page, server: Server) -> None:
    fresh.open(server.address + "en/theory?activation=tanh&sw=1.5&sb=0.1&depth=20")
    fresh.wait("document.querySelectorAll('#theory-deep data').length === 2")
    words = "unvanish theory tanh --sigma-w 1.5 --sigma-b 0.1 --depth 20"
    document = command_json(words.split())
    given = document["settings"][0]
    assert given["name"] == "given"
    point, gains = given["fixed_point"], document["gains"]
    expected = [
        *(gains["forward"], gains["backward"], gains["centred"], document["slope_supremum"]),
        *(point["q"], point["chi_1"], point["chi_parallel"], point["correlation"]),
        *(given["gain_log10"], point["xi_c"], point["trainable_depth"]),
    ]
    values = "Array.from(document.querySelectorAll(arguments[0])).map(d => Number(d.value))"
    assert fresh.js(values, "#theory-facts data") == expected
    prediction = given["prediction"]
    assert fresh.js(values, "#theory-deep data") == [
        prediction["gain_log10"],
        prediction["correlation"],
    ]


def test_the_theory_follows_its_controls(fresh: Page, server: Server) -> None:
    fresh.open(server.address + "en/theory?activation=relu")
    fresh.wait("document.querySelectorAll('#theory-facts data').length > 5")
    fresh.set("theory-activation-list", "formula")
    fresh.set("theory-formula", "max(z, 0.3*z)")
    fresh.wait("location.href.includes('formula=max')")
    fresh.set("theory-sigma-w-slider", 2.5)
    fresh.wait("location.href.includes('sw=2.5')")
    star = data_of(fresh, "theory-phase")[-1]
    assert (star["x"], star["y"]) == ([2.5], [0.1])
    fresh.set("theory-formula", "__import__('os')")
    said = fresh.wait("document.getElementById('theory-problem').textContent")
    assert "this formula is refused" in said
    fresh.set("theory-formula", "tanh(z)")
    fresh.wait("document.getElementById('theory-problem').textContent === ''")
    assert fresh.complaints() == []


def test_the_playground_trains_a_network(fresh: Page, server: Server) -> None:
    pytest.importorskip("sklearn")
    fresh.open(server.address + "en/playground?activation=relu&start=he&depth=2&width=16")
    fresh.click("play-go")
    fresh.wait("location.href.includes('training=')")
    fresh.wait("document.getElementById('play-line').textContent.includes('sampled')")
    fresh.click("play-stop")
    fresh.wait("/Done|Stopped/.test(document.getElementById('play-line').textContent)")
    fresh.wait("document.querySelector('#play-result .verdict') !== null")
    fresh.scroll_through()
    told = fresh.js("document.querySelector('#play-result h2').textContent")
    address = fresh.driver.current_url
    fresh.open(address)
    fresh.wait("document.querySelector('#play-result h2') !== null")
    assert fresh.js("document.querySelector('#play-result h2').textContent") == told
    assert fresh.complaints() == []


def test_a_training_beyond_its_bounds_is_refused(fresh: Page, server: Server) -> None:
    fresh.open(server.address + "en/playground")
    fresh.wait("document.getElementById('play-line').textContent")
    fresh.set("play-depth", 99)
    fresh.click("play-go")
    said = fresh.wait("document.getElementById('play-problem').textContent")
    assert "Give a number from 1 to 30" in said
    assert "training=" not in fresh.driver.current_url
    assert fresh.complaints() == []
