"""The page in a real Chromium: it draws, fits, follows the colour scheme, and calls nobody."""

from __future__ import annotations

import csv
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import unvanish
from tests.report import builders, fix_builders
from unvanish.meanfield import named
from unvanish.report import fix_page
from unvanish.report.document import document
from unvanish.report.page import render_page
from unvanish.report.theory import theory_page

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Chromium and its driver"),
]
# Every page at both widths (it is opened at the first), and each width in both colour schemes.
VIEWS = (
    ("vanishing", (1280, 390), "light"),
    ("gan", (390, 1280), "dark"),
    ("hostile", (1280, 390), "dark"),
    ("deep", (390, 1280), "light"),
    ("theory", (1280, 390), "dark"),
    ("fix", (390, 1280), "light"),
)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    diagnoses = builders.every_diagnosis()
    written = {}
    for name in ("vanishing", "gan", "hostile", "deep", "recurrent"):
        written[name] = folder / f"{name}.html"
        written[name].write_text(render_page(diagnoses[name]), encoding="utf-8")
    others = {
        "theory": theory_page(unvanish.theory("tanh", depth=20), named("tanh")),
        "fix": fix_page.render_page(fix_builders.every_fix()["proven"]),
    }
    for name, text in others.items():
        written[name] = folder / f"{name}.html"
        written[name].write_text(text, encoding="utf-8")
    return written


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=str(DRIVER))
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


def show(browser: Any, path: Path, width: int = 1280, scheme: str = "light") -> None:
    """Open the page as a file, unless it is open, in a window of that width; wait for it."""
    resize(browser, width)
    emulate(browser, scheme)
    if browser.current_url != path.as_uri():
        browser.get(path.as_uri())
        wait_for(browser, "return document.documentElement.dataset.drawn === 'true'")
    wait_for(browser, FITTED)


# All figures have been drawn at the width of the window.
FITTED = """
return Array.from(document.querySelectorAll('.plot')).every(plot =>
  Math.abs(plot.querySelector('.main-svg').getBoundingClientRect().width - plot.clientWidth) < 2)
"""


def resize(browser: Any, width: int) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def emulate(browser: Any, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def wait_for(browser: Any, condition: str) -> None:
    deadline = time.monotonic() + 30
    while not browser.execute_script(condition):
        assert time.monotonic() < deadline, f"never came true: {condition}"
        time.sleep(0.05)


def requests_of(browser: Any) -> set[str]:
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return {
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    }


@pytest.mark.parametrize(("name", "widths", "scheme"), VIEWS)
def test_the_page_is_sound(
    browser: Any, pages: dict[str, Path], name: str, widths: tuple[int, int], scheme: str
) -> None:
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get_log("performance")
    for width in widths:
        show(browser, pages[name], width, scheme)
        assert browser.execute_script(
            "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        )
        drawn = browser.execute_script(
            "return Array.from(document.querySelectorAll('.plot')).map(plot =>"
            " [plot.id, plot.querySelectorAll('.points path, .lines path, .hm image').length])"
        )
        assert drawn
        assert [identity for identity, marks in drawn if marks == 0] == []
        assert browser.execute_script(OVERLAPS) == []
        assert browser.execute_script(CUT) == []
    # Whatever the browser has to complain of: scripts, the security policy, resources.
    assert browser.get_log("browser") == []
    # A heat map is drawn as an image inside the page, which is a data URL.
    assert {url.split(":")[0] for url in requests_of(browser)} <= {"file", "data"}


def test_the_data_of_a_picture_can_be_downloaded(
    browser: Any, pages: dict[str, Path], tmp_path: Path
) -> None:
    show(browser, pages["hostile"])
    browser.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    buttons = browser.execute_script(
        "return Array.from(document.querySelectorAll('button.data')).map(b => b.dataset.of)"
    )
    for identity in buttons:
        browser.execute_script(
            f"document.querySelector('button.data[data-of=\"{identity}\"]').click()"
        )
        file = tmp_path / f"{identity}.csv"
        deadline = time.monotonic() + 30
        while not file.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
    with open(tmp_path / "levels-0.csv", encoding="utf-8-sig", newline="") as opened:
        rows = list(csv.DictReader(opened))
    drawn = browser.execute_script(
        "return document.getElementById('levels-0').data.map(d => Array.from(d.y)).flat()"
    )
    assert [float(row["y"]) for row in rows] == drawn
    assert not any(row["text"].startswith(("=", "+", "-", "@")) for row in rows)


# Labels of one axis, or of the legend, that lie on each other.
OVERLAPS = """
const found = [];
const apart = (a, b) => a.right <= b.left + 1 || b.right <= a.left + 1
  || a.bottom <= b.top + 1 || b.bottom <= a.top + 1;
for (const plot of document.querySelectorAll('.plot')) {
  for (const group of ['.ytick text', '.y2tick text', '.legendtext']) {
    const boxes = Array.from(plot.querySelectorAll(group)).map(t => t.getBoundingClientRect());
    boxes.forEach((box, i) => boxes.slice(i + 1).forEach(other => {
      if (!apart(box, other)) found.push(plot.id + ' ' + group);
    }));
  }
  // Slanted labels: their boxes overlap though they do not; the gap between neighbours tells.
  const ticks = Array.from(plot.querySelectorAll('.xtick text'))
    .map(t => t.getBoundingClientRect().right).sort((a, b) => a - b);
  ticks.slice(1).forEach((right, i) => { if (right - ticks[i] < 12) found.push(plot.id + ' x'); });
}
return found;
"""

# Text of a figure that sticks out of it, or headings and cells that stick out of the window.
CUT = """
const found = [];
for (const plot of document.querySelectorAll('.plot')) {
  const frame = plot.getBoundingClientRect();
  for (const text of plot.querySelectorAll('text')) {
    const box = text.getBoundingClientRect();
    if (!box.width || text.closest('.modebar')) continue;
    if (box.left < frame.left - 2 || box.right > frame.right + 2
      || box.bottom > frame.bottom + 2 || box.top < frame.top - 2) {
      found.push(plot.id + ': ' + text.textContent);
    }
  }
}
for (const element of document.querySelectorAll('h1, h2, h3, h4, p, dd, summary')) {
  if (element.offsetParent && element.scrollWidth > element.clientWidth + 1) {
    found.push(element.textContent);
  }
}
return found;
"""


def test_hostile_names_are_text_in_the_browser_too(browser: Any, pages: dict[str, Path]) -> None:
    show(browser, pages["hostile"])
    assert (
        browser.execute_script(
            "return document.querySelectorAll('main b, main i, main img, .plot a').length"
        )
        == 0
    )
    cells = browser.execute_script(
        "return Array.from(document.querySelectorAll('td.name')).map(cell => cell.textContent)"
    )
    assert "</script><b>bold</b>" in cells
    assert "%{x}<br>$\\alpha$ & \\u2028 &amp;" in cells
    ticks = browser.execute_script(
        "return Array.from(document.querySelectorAll('#waterfall-0 .xtick text'))"
        ".map(text => text.textContent)"
    )
    assert any(tick.startswith("</sc") and tick.endswith("bold</b>") for tick in ticks)
    assert "[red]x[/]" in ticks


def test_the_numbers_on_the_page_are_those_of_the_json(
    browser: Any, pages: dict[str, Path]
) -> None:
    show(browser, pages["vanishing"])
    plain = document(builders.vanishing())
    trace = plain["traces"][0]
    rows = browser.execute_script(
        "return Array.from(document.querySelectorAll('table.whole tr[data-layer]')).map(row =>"
        " [row.dataset.layer, ...Array.from(row.querySelectorAll('data'), d => d.value)])"
    )
    expected = [
        [f"{layer['module']}#0"]
        + [
            json.dumps(layer[key])
            for key in ("level_log10", "gain_log10")
            if layer[key] is not None
        ]
        for layer in trace["layers"]
    ]
    assert rows == expected
    evidence = browser.execute_script(
        "return Array.from(document.querySelectorAll('[data-code=VG101] data'), d => d.value)"
    )
    assert evidence == ["-12.2", "-2.0", "0.245", "0.5", "sigmoid"]
    drawn = browser.execute_script(
        "return document.getElementById('waterfall-0').data.filter(t => t.type === 'bar')"
        ".flatMap(t => t.x.map((x, i) => [x, t.y[i]])).sort((a, b) => a[0] - b[0]).map(p => p[1])"
    )
    assert drawn == [edge["gain_log10"] for edge in trace["main_path"]]


def test_the_numbers_of_the_newer_pictures_are_those_of_the_json(
    browser: Any, pages: dict[str, Path]
) -> None:
    show(browser, pages["vanishing"])
    trace = document(builders.vanishing())["traces"][0]

    def series(picture: str, field: str) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = browser.execute_script(
            f"return Object.fromEntries(document.getElementById('{picture}').data"
            f".map(d => [d.name, Array.from({field} || [])]))"
        )
        return found

    levels = series("network-0", "(d.marker || {}).color")["level"]
    layers = [layer["level_log10"] for layer in trace["layers"]]
    assert levels == [*layers, pytest.approx(0.0)]  # the loss's own box comes last
    values = series("spectrum-0", "d.y")["median of the samples"]
    assert values == trace["spectrum"]["values_log10"]
    cells = browser.execute_script(
        "return document.getElementById('activations-0').data.find(d => d.type === 'heatmap')"
        ".z.map(row => Array.from(row))"
    )
    for row, found in zip(cells, trace["inputs"], strict=True):
        seen = [value for value in row if value]
        assert seen == [count / found["entries"] for count in found["counts"] if count]


def test_a_menu_opens_other_views_and_keeps_them(browser: Any, pages: dict[str, Path]) -> None:
    browser.get("about:blank")
    browser.get_log("browser")
    show(browser, pages["vanishing"])
    menu = "document.querySelector('#network-0-figure select.view')"
    shown = "document.getElementById('network-0').data.find(d => d.name === 'level').x.length"
    counts = f"return {shown}"
    options = browser.execute_script(f"return Array.from({menu}.options, o => o.text)")
    assert options == ["modules, depth 1 (42)", "every op (43)"]
    before = browser.execute_script(counts)
    browser.execute_script(f"{menu}.value = '1'; {menu}.dispatchEvent(new Event('change'))")
    wait_for(browser, f"{counts} > {before}")
    opened = browser.execute_script(counts)
    show(browser, pages["vanishing"], width=390)  # draws again
    assert browser.execute_script(counts) == opened
    assert browser.execute_script(OVERLAPS) == []
    assert browser.execute_script(CUT) == []
    assert browser.get_log("browser") == []


INK = "return document.getElementById('levels-0').layout.font.color"


def test_figures_follow_a_change_of_colours(browser: Any, pages: dict[str, Path]) -> None:
    show(browser, pages["vanishing"])
    light = browser.execute_script(INK)
    emulate(browser, "dark")
    wait_for(browser, f"return (function () {{ {INK} }})() !== '{light}'")
    background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert background != "rgb(255, 255, 255)"


def test_on_paper_figures_are_light_and_fit(browser: Any, pages: dict[str, Path]) -> None:
    show(browser, pages["vanishing"], scheme="dark")
    browser.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    wait_for(
        browser,
        "return Array.from(document.querySelectorAll('.plot')).every(plot =>"
        " plot.querySelector('.main-svg').getBoundingClientRect().width <= 700)",
    )
    assert browser.execute_script(INK) == "#000000"
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})
    assert len(printed["data"]) > 10_000
    browser.execute_script("window.dispatchEvent(new Event('afterprint'))")
    wait_for(browser, FITTED)


def test_help_opens_and_explains(browser: Any, pages: dict[str, Path]) -> None:
    show(browser, pages["recurrent"])
    text = browser.execute_script(
        "const help = document.querySelector('#recurrence-0-figure details.help');"
        "help.open = true; return help.innerText"
    )
    assert "A line that falls toward the left forgets" in text
