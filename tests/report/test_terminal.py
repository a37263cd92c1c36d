"""The report in a terminal, against golden texts, and on terminals that lack something.

To write the golden texts anew: UNVANISH_UPDATE_GOLDEN=1 pytest tests/report/test_terminal.py,
and read the difference.
"""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from tests.report import builders
from unvanish.records import Diagnosis
from unvanish.report.terminal import render

DIAGNOSES = builders.every_diagnosis()
GOLDEN = Path(__file__).with_name("golden")
SAVED = Path(".unvanish/20260422-153012-4f9c2a1b.run")


def printed(
    diagnosis: Diagnosis,
    width: int = 80,
    encoding: str = "utf-8",
    saved: Path | None = SAVED,
    color: bool = False,
) -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, newline="")
    console = Console(
        file=stream,
        width=width,
        force_terminal=color,
        color_system="truecolor" if color else None,
        legacy_windows=False,
    )
    render(diagnosis, console, saved=saved)
    stream.flush()
    return raw.getvalue().decode(encoding)


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


@pytest.mark.parametrize("name", DIAGNOSES)
def test_the_report_is_as_it_was(name: str) -> None:
    text = "\n".join(lines(printed(DIAGNOSES[name]))) + "\n"
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("UNVANISH_UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text("utf-8")


@pytest.mark.parametrize("name", DIAGNOSES)
@pytest.mark.parametrize("width", [40, 80, 132])
def test_no_line_is_wider_than_the_terminal(name: str, width: int) -> None:
    assert max(map(cell_len, lines(printed(DIAGNOSES[name], width)))) <= width


def test_the_verdict_comes_first_and_the_next_command_last() -> None:
    found = lines(printed(DIAGNOSES["vanishing"]))
    assert found[0].startswith("Vanishing gradient: The backward signal shrinks ×0.14 a layer")
    assert found[-2:] == [
        "  unvanish report 20260422-153012-4f9c2a1b -o report.html   the pictures",
        "  unvanish rule VG101   what this finding means",
    ]


def test_commands_are_those_that_work() -> None:
    assert "unvanish report" not in printed(DIAGNOSES["vanishing"], saved=None)
    elsewhere = printed(DIAGNOSES["vanishing"], 120, saved=Path("/tmp/my runs/x.run"))
    assert "unvanish report '/tmp/my runs/x.run' -o report.html" in elsewhere
    assert "unvanish rule" not in printed(DIAGNOSES["healthy"])


@pytest.mark.parametrize("depth", [100, 500])
def test_a_deep_network_fits_one_screen(depth: int) -> None:
    found = lines(printed(builders.vanishing(depth)))
    table = found[found.index(next(line for line in found if line.startswith("layer "))) :]
    assert table.index("") <= 12
    assert len(found) <= 45


def test_the_rows_add_up_to_the_total_that_is_printed() -> None:
    found = lines(printed(DIAGNOSES["saturated"]))
    gains = [
        float(match[1].replace("−", "-"))
        for line in found
        if (match := re.search(r"×\S+\s+([+−]\d+\.\d\d)\s+(?:slope|weight)", line))
    ]
    assert len(gains) == 12
    total = next(line for line in found if line.startswith("From the loss to `net.0`"))
    whole = float(re.search(r"\((\S+) =", total)[1].replace("−", "-"))  # type: ignore[index]
    loss = float(re.search(r"loss (\S+)\)", total)[1].replace("−", "-"))  # type: ignore[index]
    parts = [
        float(x.replace("−", "-")) for x in re.findall(r"(?:weight|slope) ([+−][\d.]+)", total)
    ]
    # Every number is printed to a hundredth: each may be off by half of that.
    assert sum(parts) + loss == pytest.approx(whole, abs=0.005 * 4)
    assert sum(gains) + loss == pytest.approx(whole, abs=0.005 * 14)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
@pytest.mark.parametrize("name", DIAGNOSES)
def test_a_terminal_without_unicode_gets_plain_characters(name: str, encoding: str) -> None:
    plain, rich = printed(DIAGNOSES[name], 110, encoding), printed(DIAGNOSES[name], 110)
    assert list(map(cell_len, lines(plain))) == list(map(cell_len, lines(rich)))
    if encoding == "ascii":
        assert plain.isascii()
    if name == "vanishing":
        assert ("x0.25" if encoding == "ascii" else "×0.25") in plain
        assert "-0.61" in plain


def test_names_of_layers_are_text_and_nothing_else() -> None:
    text = printed(DIAGNOSES["hostile"], 132, color=True)
    assert "[red]x[/]" in text
    assert "</script><b>bold</b>" in text
    assert "%{x}<br>$\\alpha$ & \\u2028 &amp;" in text
    assert "线性层.卷积" in text
    assert "[bold]it[/bold]" in text
    assert "\x1b[31mred" not in text
    assert "\u202e" not in text
    assert "n" * 60 not in text
    # Nothing but rich's own colours reaches the terminal.
    assert "\x1b" not in re.sub(r"\x1b\[[\d;]*m", "", text)


def test_no_colour_leaves_no_escape_codes() -> None:
    assert "\x1b" not in printed(DIAGNOSES["vanishing"])


def test_wide_terminals_show_levels_as_bars() -> None:
    assert "█" in printed(DIAGNOSES["vanishing"], 110)
    assert "█" not in printed(DIAGNOSES["vanishing"], 80)


def test_only_sick_models_have_a_table_and_every_model_a_verdict() -> None:
    text = printed(DIAGNOSES["gan"])
    assert "discriminator (Critic)" in text
    assert "generator (Generator)" not in text
    assert "generator: Healthy." in text


def test_evidence_shows_value_and_threshold_and_remedy() -> None:
    text = printed(DIAGNOSES["vanishing"], 110)
    assert "gain of the slope, a layer: 0.245 (threshold 0.5)" in text
    assert "/home/ada/train.py:31" in text
    assert re.search(r"remedy +Use ReLU with He", text)


def test_degradations_are_stated_once_with_their_steps() -> None:
    text = printed(DIAGNOSES["nonfinite"])
    assert text.count("Steps 9 to 11 were not sampled: memory was short.") == 1
    assert "The forward tensors of 2 ops could not be read (step 8)." in text
