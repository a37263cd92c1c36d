"""A cure's lines in the user's source: in their place, or not at all."""

from __future__ import annotations

import textwrap

import pytest

from unvanish.errors import UsageError
from unvanish.fix.apply import written

SOURCE = """\
import torch
from torch import nn

def main():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    opt = torch.optim.SGD(
        net.parameters(),
        lr=0.1,
    )
    return net, opt
"""
CODE = """\
import torch

for module in model.modules():
    if isinstance(module, torch.nn.Linear):
        torch.nn.init.zeros_(module.bias)
for group in optimizer.param_groups:
    group["lr"] *= 0.5"""


def test_the_lines_stand_behind_the_optimiser_under_the_names_that_are_there() -> None:
    found = written(SOURCE, CODE, "halve")
    assert found.startswith(SOURCE.rpartition("    return")[0])
    assert "    unvanish_cure(net, opt)\n" in found
    assert "# --- by unvanish fix: halve ---" in found
    made: dict[str, object] = {}
    exec(found, made)
    net, opt = made["main"]()  # type: ignore[operator]
    assert opt.param_groups[0]["lr"] == 0.05
    assert not net[0].bias.any()


def test_a_last_line_without_an_end_gets_one() -> None:
    source = "optimizer = SGD(model.parameters())"
    assert written(source, CODE, "halve").startswith(source + "\n# --- by")


@pytest.mark.parametrize(
    ("source", "code", "message"),
    [
        ("x = 1", CODE, "0 statements"),
        ("a = SGD(m.parameters())\nb = SGD(n.parameters())", CODE, "2 statements"),
        ("def broken(", CODE, "not Python"),
        (SOURCE, "unvanish_init(model, batch)", "need batch"),
        (SOURCE, "# write it in your source", "by hand"),
    ],
)
def test_without_certainty_nothing_is_written(source: str, code: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        written(source, code, "cure")


def test_the_indent_is_that_of_the_statement() -> None:
    source = textwrap.indent(SOURCE, "    ").replace("    import", "if True:\n    import", 1)
    exec(compile(written(source, CODE, "halve"), "train.py", "exec"), {})
