"""The chain is pure Python: it can be read, and run, with nothing but the standard library."""

import ast
import subprocess
import sys
from pathlib import Path

import unvanish.chain

FILES = sorted(Path(unvanish.chain.__file__).parent.glob("*.py"))


def test_it_imports_the_standard_library_and_itself_only() -> None:
    imported = set()
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").partition(".")[0])
    assert "math" in imported  # or the walk has found nothing
    assert imported <= set(sys.stdlib_module_names) | {"unvanish"}


def test_nothing_else_is_loaded_with_it() -> None:
    code = "import sys, unvanish.chain; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(result.stdout.split())
    assert "unvanish.chain.learn" in loaded
    assert not loaded & {"torch", "numpy", "click", "rich", "msgspec"}


def test_no_function_calls_itself() -> None:
    for file in FILES:
        for function in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(function, ast.FunctionDef):
                called = {
                    node.func.id
                    for node in ast.walk(function)
                    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
                }
                assert function.name not in called, f"{file.name}: {function.name}"
