"""unvanish.gain, unvanish.critical and unvanish.theory, as users call them."""

import math
import subprocess
import sys

import pytest
import torch
from torch import nn

import unvanish
from unvanish.errors import UnknownNameError, UsageError


def test_gains_of_gelu() -> None:
    gelu = torch.nn.functional.gelu
    assert unvanish.gain(gelu, "forward") == pytest.approx(1.5335304411955353, rel=1e-12)
    assert unvanish.gain(gelu, "backward") == pytest.approx(1.4811144127083482, rel=1e-12)
    assert unvanish.gain("gelu") == unvanish.gain(nn.GELU()) == unvanish.gain(gelu)


@pytest.mark.parametrize(
    ("name", "parameter", "activation"),
    [
        ("relu", None, nn.ReLU()),
        ("leaky_relu", 0.2, nn.LeakyReLU(0.2)),
        ("linear", None, nn.Identity()),
    ],
)
def test_the_gains_that_torch_has_exactly(
    name: str, parameter: float | None, activation: nn.Module
) -> None:
    theirs = nn.init.calculate_gain(name, parameter)
    assert unvanish.gain(activation, "forward") == pytest.approx(theirs, rel=1e-12)
    assert unvanish.gain(activation, "backward") == pytest.approx(theirs, rel=1e-12)


def test_gains_keep_what_they_say_at_any_length() -> None:
    for q in (0.01, 1.0, 100.0):
        forward, backward = (unvanish.gain("silu", kind, q=q) for kind in ("forward", "backward"))
        layer = unvanish.theory("silu", sigma_w=forward, q=q).settings[0].fixed_point
        assert layer.q == pytest.approx(q, rel=1e-12)
        given = unvanish.theory("silu", sigma_w=backward, q=q, depth=1).settings[0]
        assert given.prediction is not None
        assert given.prediction.gain_log10 == pytest.approx(0.0, abs=1e-14)


def test_unknown_names_and_kinds_list_the_known() -> None:
    with pytest.raises(UnknownNameError, match=r"gelu_tanh.*lambda z"):
        unvanish.gain("gellu")
    with pytest.raises(UnknownNameError, match="forward, backward, centred"):
        unvanish.gain("gelu", "fan_in")
    with pytest.raises(UsageError):
        unvanish.theory("gelu", sigma_w=-1.0)


def test_theory_of_sigmoid_under_torch_default() -> None:
    result = unvanish.theory(torch.sigmoid, depth=20, width=64)
    settings = {setting.name: setting for setting in result.settings}
    assert list(settings) == ["torch_default", "forward", "backward", "critical"]
    default = settings["torch_default"]
    assert 10.0**default.gain_log10 == pytest.approx(0.143, rel=0.02)
    assert default.fixed_point.phase == "ordered"
    assert default.trains is False
    assert default.prediction is not None
    assert default.prediction.gain_log10 == pytest.approx(-17.0, abs=0.5)
    critical = settings["critical"]
    assert critical.fixed_point.phase == "critical"
    assert critical.fixed_point.q == pytest.approx(45.62427779737971, rel=1e-6)
    assert any("not 0" in note for note in result.notes)


def test_theory_with_given_weights_comes_first() -> None:
    result = unvanish.theory("tanh", sigma_w=math.sqrt(2.0), sigma_b=math.sqrt(0.05), depth=100)
    given = result.settings[0]
    assert given.name == "given"
    assert given.fixed_point.trainable_depth == pytest.approx(151.0, abs=1.0)
    assert given.trains is True


def test_theory_of_what_jumps_or_has_no_slope_says_so() -> None:
    step = unvanish.theory(lambda z: (z > 0).to(z.dtype))
    assert step.gains.backward == math.inf
    assert any("jumps at 0" in note for note in step.notes)
    assert [setting.name for setting in step.settings] == ["torch_default", "forward"]


def test_instability_is_noted() -> None:
    notes = unvanish.theory("gelu").notes
    assert any("χ∥ > 1" in note and "forward" in note for note in notes)


def test_names_do_not_need_torch() -> None:
    code = "import sys, unvanish; unvanish.theory('gelu'); print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"
