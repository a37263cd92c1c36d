"""A network of 200 layers: one cause, one leading finding, one screen."""

from __future__ import annotations

import pytest

from tests.diagnose.builders import Net, codes, falling, judge, stack, stuck

SCREEN = 60  # lines of a terminal window, not maximised, on a laptop


@pytest.mark.parametrize(
    ("net", "losses"),
    [
        (stack(100, "sigmoid", 0.58), stuck()),
        (stack(100, "relu", 0.6), stuck()),
        (stack(100, "relu", 2.0), falling()),
        (stack(100, "relu", 2**0.5), falling()),
        (stack(100, "tanh", 0.3), stuck()),
    ],
)
def test_two_hundred_layers_fit_on_a_screen(net: Net, losses: list[float]) -> None:
    found = judge([net.trace(step) for step in (0, 1, 2, 4)], losses)
    text = str(found)
    assert text.count("\n") + 1 <= SCREEN
    assert len(codes(found, "info")) == len(set(codes(found, "info")))  # no rule fires twice
    leaders = [each for each in found.findings if not _led(each.code, found.findings)]
    assert len([each for each in leaders if each.severity != "info"]) <= 1


def _led(code: str, findings: object) -> bool:
    return any(code in each.explains for each in findings)  # type: ignore[attr-defined]
