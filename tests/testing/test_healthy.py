"""`assert_healthy`: silent on a good model, an AssertionError that explains itself on a bad one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from unvanish.errors import UnknownNameError, UsageError
from unvanish.testing import UnhealthyError, assert_healthy

BATCH = (
    torch.randn(32, 16, generator=torch.Generator().manual_seed(0)),
    torch.arange(32) % 4,
)


def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return functional.cross_entropy(model(batch[0]), batch[1])


def net(activation: type[nn.Module], depth: int = 12) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for layer in range(depth):
        linear = nn.Linear(32 if layer else 16, 32)
        if activation is nn.ReLU:
            nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        layers += [linear, activation()]
    return nn.Sequential(*layers, nn.Linear(32, 4))


def test_a_healthy_model_passes_and_its_diagnosis_is_returned() -> None:
    model = net(nn.ReLU)
    before = [parameter.clone() for parameter in model.parameters()]
    diagnosis = assert_healthy(model, BATCH, loss_fn)
    assert diagnosis.verdict == "healthy"
    for old, new in zip(before, model.parameters(), strict=True):
        assert torch.equal(old, new)
        assert new.grad is None


def test_a_sick_model_fails_with_the_whole_report() -> None:
    with pytest.raises(AssertionError) as raised:
        assert_healthy(net(nn.Sigmoid), BATCH, loss_fn)
    error = raised.value
    assert isinstance(error, UnhealthyError)
    heading, _blank, *report = str(error).splitlines()
    assert "VG101" in heading
    assert "allow=('VG101'" in heading
    assert report[0].startswith("Vanishing gradient: ")
    assert error.diagnosis.verdict == "vanishing"
    assert error.findings[0].code == "VG101"


def test_what_is_allowed_passes_with_what_hangs_under_it() -> None:
    sick = net(nn.Sigmoid)
    with pytest.raises(UnhealthyError) as raised:
        assert_healthy(sick, BATCH, loss_fn)
    explained = raised.value.findings[0].explains
    assert "VG103" in explained, "the case must have a symptom under its cause"
    diagnosis = assert_healthy(sick, BATCH, loss_fn, allow=["vg101"])
    assert diagnosis.verdict == "vanishing", "it is accepted, not hidden"
    assert_healthy(sick, BATCH, loss_fn, allow="VG")
    with pytest.raises(UnhealthyError):
        assert_healthy(sick, BATCH, loss_fn, allow=["DU", "VG103"])


def test_warnings_pass_where_only_errors_fail() -> None:
    mild = net(nn.Sigmoid, depth=5)  # Adam rescales what is left: a warning; for SGD an error
    adam = torch.optim.Adam(mild.parameters(), lr=1e-3)
    diagnosis = assert_healthy(mild, BATCH, loss_fn, optimizer=adam, max_severity="warning")
    assert diagnosis.findings[0].severity == "warning"
    with pytest.raises(UnhealthyError):
        assert_healthy(mild, BATCH, loss_fn, optimizer=adam)
    sgd = torch.optim.SGD(mild.parameters(), lr=0.1)
    with pytest.raises(UnhealthyError):
        assert_healthy(mild, BATCH, loss_fn, optimizer=sgd, max_severity="warning")


def test_the_settings_of_the_project_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.unvanish]\nignore = ["VG"]\n')
    monkeypatch.chdir(tmp_path)
    assert assert_healthy(net(nn.Sigmoid), BATCH, loss_fn).verdict == "healthy"


def test_wrong_wishes_are_refused_before_anything_runs() -> None:
    def never(model: nn.Module, batch: object) -> Tensor:
        raise RuntimeError

    with pytest.raises(UnknownNameError, match="ZZ9"):
        assert_healthy(net(nn.ReLU), BATCH, never, allow=["ZZ9"])
    with pytest.raises(UnknownNameError):
        assert_healthy(net(nn.ReLU), BATCH, never, allow=[""])
    with pytest.raises(UsageError, match="max_severity is 'error'"):
        assert_healthy(net(nn.ReLU), BATCH, never, max_severity="error")  # type: ignore[arg-type]
