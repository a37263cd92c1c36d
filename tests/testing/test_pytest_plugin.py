"""The pytest plugin, run by pytest in a project of its own."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import torch

import unvanish

pytest_plugins = ["pytester"]

PLUGIN = "unvanish.testing.pytest_plugin"
MODULE = """
import pytest
import torch
from torch import nn
from torch.nn import functional

x = torch.randn(32, 16, generator=torch.Generator().manual_seed(0))
y = torch.arange(32) % 4

def net(activation):
    torch.manual_seed(0)
    layers = []
    for layer in range(12):
        linear = nn.Linear(32 if layer else 16, 32)
        if activation is nn.ReLU:
            nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        layers += [linear, activation()]
    return nn.Sequential(*layers, nn.Linear(32, 4))

def loss_fn(model, batch):
    return functional.cross_entropy(model(batch[0]), batch[1])

def train(model, steps=12):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_fn(model, (x, y))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
"""


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    """Import here what inner runs will need: pytester forgets what those import, and parts of
    torch, which its optimisers load when they first step, cannot be imported twice."""
    with unvanish.watch(save=False, quiet=True):
        weight = torch.ones(1, requires_grad=True)
        weight.square().backward()
        torch.optim.SGD([weight]).step()


def run(pytester: pytest.Pytester, tests: str, *arguments: str) -> pytest.RunResult:
    """Run `tests` with the plugin, and with no other that happens to be installed."""
    pytester.makepyfile(MODULE + tests)
    return pytester.runpytest_inprocess(
        "--disable-plugin-autoload", "-p", PLUGIN, "--strict-markers", *arguments
    )


def test_the_plugin_is_declared_for_pytest_to_find() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"unvanish": PLUGIN}


def test_a_marked_training_is_watched(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
@pytest.mark.unvanish_healthy
def test_good(tmp_path):
    train(net(nn.ReLU))

@pytest.mark.unvanish_healthy
@pytest.mark.parametrize("steps", [12])
def test_bad(steps):
    train(net(nn.Sigmoid), steps)

@pytest.mark.unvanish_healthy(allow=["VG"])
def test_accepted():
    train(net(nn.Sigmoid))

def test_unmarked():
    train(net(nn.Sigmoid))
""",
    )
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*UnhealthyError: the backward signal is not healthy: VG101*"])
    result.stdout.fnmatch_lines(["*Vanishing gradient: *"])
    assert not (pytester.path / ".unvanish").exists()


def test_what_a_marked_test_returns_is_checked(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
@pytest.fixture
def batch():
    return x, y

class TestModels:
    @pytest.mark.unvanish_healthy
    def test_good(self, batch):
        return net(nn.ReLU), batch, loss_fn

    @pytest.mark.unvanish_healthy
    def test_bad(self, batch):
        model = net(nn.Sigmoid)
        return model, batch, loss_fn, torch.optim.SGD(model.parameters(), lr=0.1)

    @pytest.mark.unvanish_healthy
    def test_wrong(self, batch):
        return net(nn.ReLU)
""",
        "-W",
        "error",  # pytest's own warning of a test that returns something, too
    )
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["*UnhealthyError: *VG101*"])
    result.stdout.fnmatch_lines(["*UsageError: test_wrong returned Sequential*"])


def test_a_test_that_shows_no_signal_fails_and_says_what_to_do(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
@pytest.mark.unvanish_healthy
def test_nothing():
    net(nn.ReLU)(x)
""",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*or return (model, batch, loss_fn) from it*"])


def test_a_failure_of_the_test_itself_stays_and_the_verdict_is_shown(
    pytester: pytest.Pytester,
) -> None:
    result = run(
        pytester,
        """
@pytest.mark.unvanish_healthy
def test_learns():
    losses = train(net(nn.Sigmoid))
    assert losses[-1] < 0.5 * losses[0]
""",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*assert losses*", "*AssertionError*", "*Vanishing gradient: *"])
    assert "UnhealthyError" not in result.stdout.str()


def test_a_wrong_argument_of_the_marker_is_an_error(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
@pytest.mark.unvanish_healthy(alow=["VG"])
def test_typo():
    train(net(nn.ReLU))

@pytest.mark.unvanish_healthy(allow=["ZZ1"])
def test_no_such_rule():
    train(net(nn.ReLU))
""",
    )
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*TypeError: *alow*", "*UnknownNameError: unknown rule 'ZZ1'*"])


def test_the_marker_explains_itself(pytester: pytest.Pytester) -> None:
    result = run(pytester, "", "--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.unvanish_healthy(allow=(), max_severity='info'): *"])
