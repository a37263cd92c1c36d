"""`[tool.unvanish]`: read from the nearest pyproject.toml, with clear errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from unvanish.diagnose.config import Config, load_config
from unvanish.diagnose.thresholds import THRESHOLDS
from unvanish.errors import UnknownNameError, UsageError


def written(directory: Path, table: str) -> Path:
    (directory / "pyproject.toml").write_text(table, encoding="utf-8")
    return directory


def test_the_nearest_file_upward_counts(tmp_path: Path) -> None:
    written(tmp_path, '[tool.unvanish]\nignore = ["VG"]\n')
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert load_config(below).ignore == ("VG",)
    written(below.parent, "[project]\nname = 'x'\n")
    assert load_config(below) == Config()


def test_everything_that_can_be_set(tmp_path: Path) -> None:
    table = """
    [tool.unvanish]
    select = ["vg", "EG101"]
    ignore = ["VG104"]
    preview = true
    [tool.unvanish.thresholds]
    vanishing-clear = 3
    """
    config = load_config(written(tmp_path, table))
    assert config == Config(("VG", "EG101"), ("VG104",), True, {"vanishing-clear": 3.0})
    assert config.limit("vanishing-clear") == 3.0
    assert config.limit("vanishing-mild") == THRESHOLDS["vanishing-mild"].value


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("[tool.unvanish\n", "cannot be read"),
        ("tool.unvanish = 3\n", "not a table"),
        ("[tool.unvanish]\nselct = []\n", "selct.*known: select, ignore"),
        ('[tool.unvanish]\nselect = "VG"\n', "not a list"),
        ("[tool.unvanish]\nselect = [1]\n", "not a list"),
        ('[tool.unvanish]\nignore = ["ZZ9"]\n', "ZZ9"),
        ("[tool.unvanish]\npreview = 1\n", "not true or false"),
        ("[tool.unvanish]\nthresholds = 1\n", "not a table"),
        ("[tool.unvanish.thresholds]\nvanishing-claer = 1\n", "vanishing-claer.*vanishing-clear"),
        ("[tool.unvanish.thresholds]\nvanishing-clear = '1'\n", "not a number"),
        ("[tool.unvanish.thresholds]\nvanishing-clear = true\n", "not a number"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_config(written(tmp_path, table))


def test_the_command_line_narrows() -> None:
    config = Config(select=("VG",), ignore=("UR",))
    assert config.narrowed() == config
    assert config.narrowed(select=["eg101,CG"]).select == ("EG101", "CG")
    assert config.narrowed(ignore=["NF"]).ignore == ("UR", "NF")
    with pytest.raises(UnknownNameError, match="QQ"):
        config.narrowed(ignore=["QQ"])
