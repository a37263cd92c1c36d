"""Objects of the user's own that a command line names: FILE.py:NAME, or a dotted name."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unvanish.errors import UnknownNameError, UsageError, UserCodeError
from unvanish.i18n import _


def load(target: str, example: str) -> Any:
    """Return the function that `FILE.py:FUNCTION` names; `example` is a command that would work.

    Raises UsageError for a target of another form and a file that is not there, UnknownNameError
    with the file's functions for a name that is not among them, UserCodeError if the file fails.
    """
    file, _colon, name = target.rpartition(":")
    if not file or not name.isidentifier():
        raise UsageError(
            _("{target!r} does not name a function of a file").format(target=target),
            _("Type for example: {example}").format(example=example),
        )
    path = Path(file)
    if not path.is_file():
        raise UsageError(
            _("there is no file {path}").format(path=path), _("Check the path and its spelling.")
        )
    module = called(lambda: _imported_file(path), _("{path} failed").format(path=path))
    if not callable(getattr(module, name, None)):
        known = sorted(
            key
            for key, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", None) == module.__name__
        )
        raise UnknownNameError(
            _("function of {path}").format(path=path), name, known, _("Name one of these.")
        )
    return getattr(module, name)


def imported(dotted: str) -> Any:
    """Return the object of a dotted name such as torch.nn.functional.gelu.

    Raises UsageError if there is no such module, or nothing of that name in it; UserCodeError if
    importing it fails.
    """
    module_name, _dot, name = dotted.rpartition(".")
    try:
        found = importlib.util.find_spec(module_name) is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        raise UsageError(
            _("there is no module {name}").format(name=module_name),
            _("Check the spelling, or name a function of a file: mine.py:act."),
        )
    module = called(
        lambda: importlib.import_module(module_name), _("{path} failed").format(path=module_name)
    )
    if not hasattr(module, name):
        raise UsageError(
            _("{module} has no {name}").format(module=module_name, name=name),
            _("Check the spelling, or name a function of a file: mine.py:act."),
        )
    return getattr(module, name)


def called(call: Callable[[], Any], failed: str) -> Any:
    """Return what the user's code returns; its failure becomes a UserCodeError."""
    try:
        return call()
    except Exception as error:
        raise UserCodeError(
            f"{failed}: {type(error).__name__}: {error}",
            _("The traceback above shows where."),
        ) from error


def _imported_file(path: Path) -> Any:
    """Import a file as `python` would: its own directory comes first on the path."""
    sys.path.insert(0, str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UsageError(
            _("{path} is not a Python file").format(path=path), _("Give a file that ends in .py.")
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    with contextlib.redirect_stdout(sys.stderr):
        spec.loader.exec_module(module)
    return module
