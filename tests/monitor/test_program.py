"""A script under `unvanish run` sees, prints and returns what it does under `python`.

The scripts here do not import torch, so that each process takes a fraction of a second; all of
them end in our line that says so, with exit status 3 where the script's own is 0.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from scripts import RUN, python, run

SEEN = """
import os, pickle, sys
class Thing:
    pass
print(__name__, __file__, __package__, __spec__ and __spec__.name, __cached__ is None)
print(sys.argv, sys.path[0], type(__loader__).__name__, type(__builtins__).__name__)
print(sorted(name for name in globals() if name.startswith("__")))
print(sys.modules["__main__"].__dict__ is globals())
print(type(pickle.loads(pickle.dumps(Thing()))) is Thing, Thing.__module__)
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


@pytest.mark.parametrize("where", ["seen.py", "below/seen.py"])
def test_a_script_sees_what_it_sees_under_python(where: str, tmp_path: Path) -> None:
    write(tmp_path / where, SEEN)
    words = (where, "--json", "-x", "a b", "--", "--steps", "3")
    assert run(*words, cwd=tmp_path).stdout == python(*words, cwd=tmp_path).stdout != ""


@pytest.mark.parametrize("name", ["package", "package.inner"])
def test_a_module_sees_what_it_sees_under_python(name: str, tmp_path: Path) -> None:
    write(tmp_path / "package/__init__.py", "")
    write(tmp_path / "package/__main__.py", SEEN)
    write(tmp_path / "package/inner.py", SEEN)
    words = ("-m", name, "--json", "x", "-m", "y")
    assert run(*words, cwd=tmp_path).stdout == python(*words, cwd=tmp_path).stdout != ""


ENDINGS = {
    "status": "import sys; sys.exit(3)",
    "message": "import sys; sys.exit('no data')",
    "none": "import sys; sys.exit()",
    "crash": """
        def inner():
            raise KeyError("weights")
        def outer():
            try:
                inner()
            except KeyError as error:
                raise ValueError("cannot load") from error
        outer()
    """,
    "group": "raise ExceptionGroup('two', [ValueError('a'), TypeError('b')])",
    "syntax": "x = = 1",
    "import": "import nowhere",
    "hook": """
        import sys
        sys.excepthook = lambda kind, error, traceback: print("mine:", error, file=sys.stderr)
        raise ValueError("x")
    """,
    "atexit": "import atexit; atexit.register(print, 'last words'); print('first')",
    "finally": """
        import sys
        try:
            sys.exit(5)
        finally:
            print("cleaned up")
    """,
    "thread": """
        import threading, time
        def work():
            time.sleep(0.2)
            print("worker done")
        threading.Thread(target=work).start()
        print("main done")
    """,
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_script_ends_as_under_python(ending: str, tmp_path: Path) -> None:
    write(tmp_path / "end.py", ENDINGS[ending])
    ours, pythons = run("end.py", cwd=tmp_path), python("end.py", cwd=tmp_path)
    assert ours.stdout == pythons.stdout
    assert ours.stderr.startswith(pythons.stderr)
    said = "the script failed before" if "Error" in pythons.stderr else "the script did not import"
    if ending != "hook":
        assert ours.stderr[len(pythons.stderr) :].startswith(f"unvanish: error: {said}")
    assert ours.returncode == (pythons.returncode or 3)


def test_a_forked_child_says_nothing_of_ours(tmp_path: Path) -> None:
    write(
        tmp_path / "fork.py",
        """
        import os
        child = os.fork()
        if child:
            _, status = os.waitpid(child, 0)
            print("child's status:", os.waitstatus_to_exitcode(status))
        """,
    )
    result = run("fork.py", cwd=tmp_path)
    assert result.stdout == "child's status: 0\n"
    assert result.stderr.count("unvanish") == 1


def test_spawned_processes_find_the_scripts_classes_and_are_named(tmp_path: Path) -> None:
    write(
        tmp_path / "spawn.py",
        """
        import multiprocessing
        class Thing:
            value = 4
        def work(thing, queue):
            queue.put(thing.value)
        if __name__ == "__main__":
            context = multiprocessing.get_context("spawn")
            queue = context.Queue()
            process = context.Process(target=work, args=(Thing(), queue))
            process.start()
            print(queue.get())
            process.join()
        """,
    )
    assert run("spawn.py", cwd=tmp_path).stdout == "4\n"


def test_os_exit_is_explained(tmp_path: Path) -> None:
    write(tmp_path / "leave.py", "import os\nprint('x', flush=True)\nos._exit(4)")
    result = run("leave.py", cwd=tmp_path)
    assert (result.stdout, result.returncode) == ("x\n", 4)
    assert "os._exit; use sys.exit" in result.stderr


def test_ctrl_c_gives_the_traceback_and_130(tmp_path: Path) -> None:
    write(tmp_path / "wait.py", "import time\nprint('ready', flush=True)\ntime.sleep(60)")
    with subprocess.Popen(
        (*RUN, "wait.py"), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "time.sleep(60)\nKeyboardInterrupt\n" in stderr
    assert "unvanish/monitor" not in stderr


@pytest.mark.parametrize(
    ("fails", "status", "line"),
    [
        ("KeyboardInterrupt", 130, "unvanish: interrupted while reporting\n"),
        ("ValueError('bug')", 7, "unvanish: the report failed (ValueError: bug); the script's own"),
    ],
)
def test_a_report_that_fails_or_is_interrupted(
    fails: str, status: int, line: str, tmp_path: Path
) -> None:
    write(tmp_path / "x.py", "import sys; print('done'); sys.exit(7)")
    write(
        tmp_path / "driver.py",
        f"""
        from unvanish.cli import main
        from unvanish.monitor.silence import NothingSeen
        def fail(*_):
            raise {fails}
        NothingSeen.error = fail
        main(["run", "x.py"])
        """,
    )
    result = python("driver.py", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (status, "done\n")
    assert result.stderr.startswith(line)
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "problem", "remedy"),
    [
        (("absent.py",), "there is no script absent.py", "Check the path"),
        ((".",), ". is a directory", "Give the .py file in it"),
        (("-m", "absent"), "there is no module absent", "python -m absent"),
        (("-m", "absent.inner"), "there is no module absent.inner", "python -m absent.inner"),
        ((), "there is no script to run", "unvanish run train.py"),
        (("--json", "-", "x.py"), "--json - is refused", "--json result.json"),
    ],
)
def test_nothing_to_run(words: tuple[str, ...], problem: str, remedy: str, tmp_path: Path) -> None:
    write(tmp_path / "x.py", "")
    result = run(*words, cwd=tmp_path)
    assert result.returncode == 2
    line = result.stderr.strip()
    assert "\n" not in line
    assert problem in line
    assert remedy in line


@pytest.mark.parametrize(("option", "name"), [("--json", "out.json"), ("-o", "out.html")])
def test_refuses_to_overwrite_before_the_script_starts(
    option: str, name: str, tmp_path: Path
) -> None:
    write(tmp_path / "x.py", "print('started')")
    write(tmp_path / name, "mine")
    result = run(option, name, "x.py", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert "--force" in result.stderr
    assert (tmp_path / name).read_text() == "mine"


def test_torch_is_imported_by_the_script_not_before(tmp_path: Path) -> None:
    """OMP_NUM_THREADS, set by a script before it imports torch, must still count."""
    write(tmp_path / "early.py", "import sys\nprint('torch' in sys.modules)")
    assert run("early.py", cwd=tmp_path).stdout == "False\n"


def test_python_is_what_the_tests_compare_with(tmp_path: Path) -> None:
    write(tmp_path / "v.py", "import sys; print(sys.version)")
    assert python("v.py", cwd=tmp_path).stdout.strip() == sys.version
