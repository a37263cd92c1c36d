"""The theory runs without scipy, which only the tests use as an oracle."""

import subprocess
import sys

CODE = """
import sys
sys.modules["scipy"] = None  # importing it raises ImportError
sys.modules["scipy.special"] = None
import unvanish
from unvanish.meanfield import NAMES
from unvanish.meanfield.batchnorm import batch_norm
from unvanish.meanfield.shaping import dks
from unvanish.meanfield import named
for name in NAMES:
    unvanish.gain(name)
unvanish.critical("gelu")
unvanish.theory("gelu", sigma_w=1.4, sigma_b=0.2, depth=20, width=64)
batch_norm(named("relu"), 32)
dks(named("softplus"), 50)
import torch
unvanish.theory(lambda z: z * torch.sigmoid(z))
from torch import nn
net = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 2))
found = unvanish.check(net, torch.randn(16, 8), lambda model, x: model(x).square().mean())
assert found.run.models[0].traces[0].predictions
print([name for name in sys.modules if name.partition(".")[0] == "scipy"])
"""


def test_no_part_of_the_theory_imports_scipy() -> None:
    result = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "['scipy', 'scipy.special']"


def test_it_is_no_dependency() -> None:
    from importlib.metadata import requires

    needed = [line for line in requires("unvanish") or [] if "extra ==" not in line]
    assert any(line.startswith("numpy") for line in needed)
    assert not any(line.startswith("scipy") for line in needed)
