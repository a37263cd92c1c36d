from __future__ import annotations

import multiprocessing
import subprocess
import sys
from multiprocessing.process import BaseProcess

import pytest

from unvanish.monitor.children import Children, _python_program


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["python3", "-u", "train.py", "--lr", "1"], "python3 train.py"),
        (["/usr/bin/python", "-m", "package.train"], "python -m package.train"),
        ("torchrun --nproc-per-node 2 train.py", "torchrun train.py"),
        ([b"python", b"train.py"], "python train.py"),
        (["python", "-c", "print(1)"], None),
        (["python", "/x/torch/_inductor/compile_worker/__main__.py"], None),
        (["git", "status", "train.py"], None),
        ("sh -c 'unbalanced", None),
        (["python"], None),
        ([], None),
    ],
)
def test_names_command_lines_that_run_python(words: list[str] | str, named: str | None) -> None:
    assert _python_program(words) == named


def work() -> None:
    pass


def test_counts_what_is_started_while_installed_and_restores() -> None:
    start, popen = BaseProcess.start, subprocess.Popen.__init__
    children = Children()
    children.install()
    for _ in range(2):
        process = multiprocessing.get_context("fork").Process(target=work)
        process.start()
        process.join()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    children.remove()
    assert (BaseProcess.start, subprocess.Popen.__init__) == (start, popen)
    (note,) = children.notes()
    assert note.startswith("2 child")
    assert f"{__name__}.work" in note
