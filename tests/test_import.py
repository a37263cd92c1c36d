"""`import unvanish` and `unvanish --help` must not import torch: they would take two seconds."""

import subprocess
import sys

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
