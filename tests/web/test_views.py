"""Every view in a real Chromium: sound at both widths, in both schemes, in both languages."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("dash")
pytest.importorskip("selenium")

from tests.web.conftest import Page, Server, run_id
from unvanish import store, words

pytestmark = pytest.mark.browser

VIEWS = (
    ("en/", "light"),
    (f"en/run?id={run_id('vanishing')}", "dark"),
    (f"zh/run?id={run_id('hostile')}", "light"),
    (f"en/compare?runs={run_id('vanishing')},{run_id('healthy')},{run_id('gan')}", "light"),
    ("en/rule?code=VG101", "dark"),
    ("zh/chain", "dark"),
    ("en/chain?story=5", "light"),
    ("en/theory?activation=gelu", "light"),
    ("zh/theory?formula=z*sigmoid(1.5*z)", "dark"),
    ("en/playground", "light"),
)

# Controls and links without a name that a screen reader can say, and ids that are there twice.
NAMELESS = """(() => {
  const named = node => node.getAttribute('aria-label') || node.getAttribute('aria-labelledby')
    || (node.labels && Array.from(node.labels).some(label => label.textContent.trim()))
    || node.textContent.trim() || node.title;
  const all = document.querySelectorAll('main a, main button, main input, main select, nav a');
  const seen = new Map();
  document.querySelectorAll('[id]').forEach(n => seen.set(n.id, (seen.get(n.id) || 0) + 1));
  return [
    Array.from(all).filter(node => !named(node)).map(node => node.outerHTML.slice(0, 120)),
    Array.from(seen).filter(([, count]) => count > 1).map(([id]) => id),
  ];
})()"""


@pytest.mark.parametrize(("path", "scheme"), VIEWS)
def test_a_view_is_sound(fresh: Page, server: Server, path: str, scheme: str) -> None:
    for width in (1280, 390):
        if width == 1280:
            fresh.open(server.address + path, width, scheme)
        else:
            fresh.resize(width)
        fresh.scroll_through()
        assert fresh.js(
            "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        )
    assert fresh.js(NAMELESS) == [[], []]
    assert fresh.js("document.title").endswith(" · Unvanish")
    assert fresh.js("document.documentElement.lang") == {"e": "en", "z": "zh-CN"}[path[0]]
    assert fresh.js("document.querySelectorAll('main h1').length") == 1
    assert fresh.complaints() == []
    assert fresh.hosts() == {server.address.split("/")[2]}


def test_the_result_of_fix_is_shown_with_its_proof(fresh: Page, server: Server, kept: Path) -> None:
    ((identity, fix),) = store.fixes(kept)
    fresh.open(server.address + f"en/fix?id={identity}")
    fresh.scroll_through()
    assert str(fix.best) in fresh.js("document.querySelector('h1').textContent")
    shown = fresh.js(
        "Array.from(document.querySelectorAll('[data-cure]')).map(n => n.dataset.cure)"
    )
    assert shown == [words.printable(cure.name) for cure in fix.cures]
    assert fresh.complaints() == []


def test_runs_have_their_verdicts_and_lead_to_them(fresh: Page, server: Server) -> None:
    fresh.open(server.address)
    fresh.wait("!document.getElementById('runs-list').textContent.includes('…')")
    rows = fresh.js(
        "Array.from(document.querySelectorAll('#runs-list tbody tr')).map(row =>"
        " [row.querySelector('a').href, row.children[1].textContent])"
    )
    found = {href.rpartition("=")[2]: verdict for href, verdict in rows}
    assert found[run_id("vanishing")] == "Vanishing gradient"
    assert found[run_id("healthy")] == "Healthy"
    fresh.driver.get(next(href for href, _ in rows if href.endswith("vanishing")))
    fresh.wait("document.querySelector('.finding a') !== null")
    code = fresh.js("document.querySelector('.finding a').textContent")
    fresh.driver.execute_script("document.querySelector('.finding a').click()")
    fresh.wait("document.querySelector('main h1') !== null && location.href.includes('rule')")
    assert fresh.js("document.querySelector('main h1').textContent").startswith(code)


def test_the_numbers_of_a_run_are_those_of_its_json(
    fresh: Page, server: Server, kept: Path
) -> None:
    command = [sys.executable, "-m", "unvanish", "report", run_id("vanishing"), "--json"]
    done = subprocess.run(command, cwd=kept.parent, capture_output=True, text=True, check=True)
    document = json.loads(done.stdout)
    fresh.open(server.address + f"en/run?id={run_id('vanishing')}")
    fresh.wait("document.querySelector('.layers-box') !== null")
    values = "Array.from(document.querySelectorAll(arguments[0] + ' data')).map(d => d.value)"
    evidence = [str(one["value"]) for one in document["findings"][0]["evidence"]]
    shown = fresh.js(values, "article.finding:first-of-type td:nth-child(2)")
    assert shown == [value for value in evidence if value != "stuck"]
    assert len(shown) > 3
    model = document["models"][0]
    step = document["findings"][0]["step"]
    (trace,) = [one for one in document["traces"] if one["step"] == step]
    assert trace["model"] == model["name"]
    levels = [str(layer["level_log10"]) for layer in trace["layers"]]
    assert fresh.js(values, ".layers-box details td:nth-child(3)") == levels


def test_hostile_names_are_only_shown(fresh: Page, server: Server) -> None:
    fresh.open(server.address + f"en/run?id={run_id('hostile')}")
    fresh.scroll_through()
    assert fresh.js("document.querySelectorAll('main script, main img, main iframe').length") == 0
    text = fresh.js("document.querySelector('main').textContent")
    assert "</script><script>alert(2)</script>" in text
    longest = fresh.js(
        "Math.max(...Array.from(document.querySelectorAll('td, h1, h4, .xtick text'))"
        ".map(n => n.textContent.length))"
    )
    assert longest < 1000  # names of 2,000 characters are shortened
    assert fresh.complaints() == []


def test_two_tabs_do_not_mix(fresh: Page, server: Server) -> None:
    driver = fresh.driver
    first = driver.current_window_handle
    fresh.open(server.address + "en/chain?w=2")
    driver.switch_to.new_window("tab")
    try:
        fresh.open(server.address + "zh/chain?w=5")
        fresh.wait("document.getElementById('chain-headline').textContent")
        other = fresh.text("chain-headline")
        fresh.set("chain-weight-slider", 6)
        fresh.wait(lambda: fresh.text("chain-headline") != other)
        driver.switch_to.window(first)
        assert "w=2" in driver.current_url
        assert fresh.js("document.getElementById('chain-weight').value") == "2"
        assert "gain" in fresh.wait("document.getElementById('chain-headline').textContent")
    finally:
        for handle in driver.window_handles:
            if handle != first:
                driver.switch_to.window(handle)
                driver.close()
        driver.switch_to.window(first)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("en/run?id=../../etc/passwd", "unknown run '../../etc/passwd'"),
        ("en/run?id=last", "unknown run 'last'"),
        ("en/fix?id=..%2F..%2Fx", "unknown result"),
        ("en/rule?code=%3Cscript%3E", "unknown rule"),
        ("en/nowhere", "Choose one of those above"),
        ("en/chain?depth=1000000", "Give a number from 1 to 40"),
        ("en/chain?activation=os.system", "unknown activation"),
        ("en/theory?formula=__import__('os').system('ls')", "this formula is refused"),
        ("en/theory?sw=-1", "Give a number from 0.05 to 12"),
        ("en/playground?depth=99", "Give a number from 1 to 30"),
    ],
)
def test_what_is_refused_is_said(fresh: Page, server: Server, path: str, says: str) -> None:
    fresh.open(server.address + path)
    assert says in fresh.wait("(document.querySelector('[role=alert]') || {}).textContent")
    assert fresh.complaints() == []


def test_runs_to_compare_are_chosen_on_the_page(fresh: Page, server: Server) -> None:
    fresh.open(server.address + "en/compare")
    fresh.wait("document.querySelectorAll('#compare-runs input').length >= 2")
    for _box in range(2):
        fresh.driver.execute_script(
            "document.querySelector('#compare-runs input:not(:checked)').click()"
        )
        fresh.wait("document.querySelectorAll('#compare-runs input:checked').length > 0")
    fresh.wait("document.querySelector('table.overview') !== null")
    fresh.scroll_through()
    chosen = fresh.js("new URLSearchParams(location.search).get('runs').split(',')")
    heads = fresh.js(
        "Array.from(document.querySelectorAll('table.overview th a')).map(a => a.textContent)"
    )
    assert heads == chosen
    assert len(chosen) == 2
    assert fresh.complaints() == []


def test_the_language_changes_and_the_state_stays(fresh: Page, server: Server) -> None:
    fresh.open(server.address + "en/theory?activation=mish")
    fresh.wait("document.querySelectorAll('#theory-facts data').length > 5")
    fresh.set("theory-sigma-b-slider", 0.5)
    fresh.wait("location.href.includes('sb=0.5')")
    fresh.set("theory-depth-slider", 33)
    fresh.wait("location.href.includes('depth=33')")
    fresh.click("language")
    fresh.wait("document.documentElement.lang === 'zh-CN'")
    fresh.wait("document.querySelectorAll('#theory-facts data').length > 5")
    assert "/zh/theory?activation=mish&sb=0.5&depth=33" in fresh.driver.current_url
    assert fresh.complaints() == []


def test_the_choices_of_the_playground_are_in_its_address(fresh: Page, server: Server) -> None:
    fresh.open(server.address + "en/playground")
    fresh.wait("document.getElementById('play-line').textContent")
    moves = {
        "play-activation-list": ("tanh", "activation=tanh"),
        "play-start-list": ("orthogonal", "start=orthogonal"),
        "play-normalisation-list": ("layer", "normalisation=layer"),
        "play-residual-list": ("yes", "residual=yes"),
        "play-lr-list": ("0.01", "lr=0.01"),
        "play-depth-slider": (12, "depth=12"),
        "play-width-slider": (32, "width=32"),
    }
    for identity, (value, said) in moves.items():
        fresh.set(identity, value)
        fresh.wait(lambda said=said: said in fresh.driver.current_url, said)
    fresh.open(fresh.driver.current_url)
    for identity, (value, _said) in moves.items():
        assert fresh.js("document.getElementById(arguments[0]).value", identity) == str(value)
    assert fresh.complaints() == []


def test_the_data_of_a_picture_can_be_downloaded(
    fresh: Page, server: Server, tmp_path: Path
) -> None:
    fresh.open(server.address + "en/chain?depth=3")
    fresh.scroll_through()
    behaviour = {"behavior": "allow", "downloadPath": str(tmp_path)}
    fresh.driver.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
    fresh.driver.execute_script(
        "document.querySelector('button.data[data-of=\"chain-factors\"]').click()"
    )
    file = tmp_path / "chain-factors.csv"
    fresh.wait(file.exists)
    lines = file.read_text("utf-8-sig").splitlines()
    assert lines[0] == "series,x,y,value,text"
    assert len(lines) == 1 + 3 + 3  # three factors, three products
