"""`import unvanish` and `unvanish --help` must not import torch: they would take two seconds."""

import subprocess
import sys
from pathlib import Path

import pytest

PROBE = """
import sys
{code}
print("torch" in sys.modules)
"""


def torch_is_imported_by(code: str) -> bool:
    result = subprocess.run(
        [sys.executable, "-c", PROBE.format(code=code)], capture_output=True, text=True, check=True
    )
    return result.stdout.splitlines()[-1] == "True"


@pytest.mark.parametrize(
    "code",
    [
        "import unvanish",
        "import unvanish.cli",
        "import unvanish.records, unvanish.codec, unvanish.diagnose, unvanish.report",
        "import unvanish.testing.pytest_plugin",
        "from unvanish.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
        "from unvanish.cli import main\ntry: main(['--version'])\nexcept SystemExit: pass",
        "from unvanish.cli import main\ntry: main(['theory', 'gelu'])\nexcept SystemExit: pass",
    ],
)
def test_does_not_import_torch(code: str) -> None:
    assert not torch_is_imported_by(code)


def test_the_probe_itself_sees_torch() -> None:
    assert torch_is_imported_by("import torch")


RANDOM = """
import random
import numpy as np, torch
from torch import nn
import unvanish

model = nn.Sequential(nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 2))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
x = torch.ones(8, 4)
loss_fn = lambda model, x: model(x).square().mean()

def train():
    for _ in range(3):
        optimizer.zero_grad()
        loss_fn(model, x).backward()
        optimizer.step()

def streams():
    return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()

before = streams()
{code}
assert streams() == before
"""


@pytest.mark.parametrize(
    "code",
    [
        "str(unvanish.check(model, x, loss_fn)); unvanish.check(model, x, loss_fn)._repr_html_()",
        "str(unvanish.init_(model, x, loss_fn=loss_fn, dry_run=True))",
        "with unvanish.monitor(model, optimizer, save=False) as seen: train()\nstr(seen)",
        "with unvanish.watch() as seen: train()\nstr(seen)",
        "str(unvanish.theory('gelu')); unvanish.theory('gelu')._repr_html_()",
    ],
    ids=["check", "init", "monitor", "watch", "theory"],
)
def test_a_first_use_draws_no_random_number(code: str, tmp_path: Path) -> None:
    """Nor does what is imported for it: in a process of its own, as in a script."""
    script = RANDOM.format(code=code)
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert run.returncode == 0, run.stderr
