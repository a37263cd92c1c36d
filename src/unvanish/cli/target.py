"""What a command works on: a script with its arguments, or a function of a file."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from unvanish.errors import UnknownNameError, UsageError, UserCodeError
from unvanish.i18n import _


class ScriptCommand(click.Command):
    """Ends its own options at the script, or at the module that `-m` names, as `python` does."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        takes_value = {
            name
            for option in self.params
            if isinstance(option, click.Option) and not option.is_flag
            for name in option.opts
        }
        position = 0
        while position < len(args) and args[position].startswith("-") and args[position] != "--":
            word = args[position]
            if word == "-m":
                args = [*args[: position + 2], "--", *args[position + 2 :]]
                break
            position += 2 if word in takes_value else 1
        return super().parse_args(ctx, args)


def is_function(target: str) -> bool:
    """Whether `target` has the form FILE.py:FUNCTION."""
    file, _colon, name = target.rpartition(":")
    return file.endswith(".py") and name.isidentifier()


def function_of(target: str) -> Callable[[], Any]:
    """Return the function that `FILE.py:FUNCTION` names, called so that its failure is told.

    Raises UsageError and UnknownNameError; the function itself raises UserCodeError.
    """
    file, _colon, name = target.rpartition(":")
    if not file or not name.isidentifier():
        raise UsageError(
            _("{target!r} does not name a function of a file").format(target=target),
            _("Type for example: unvanish check train.py:make"),
        )
    path = Path(file)
    if not path.is_file():
        raise UsageError(
            _("there is no file {path}").format(path=path), _("Check the path and its spelling.")
        )
    module = _user_code(lambda: _load(path), _("{path} failed").format(path=path))
    if not callable(getattr(module, name, None)):
        known = sorted(
            key
            for key, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", None) == module.__name__
        )
        raise UnknownNameError(
            _("function of {path}").format(path=path), name, known, _("Name one of these.")
        )
    return lambda: _user_code(getattr(module, name), _("{target} failed").format(target=target))


def _user_code(call: Callable[[], Any], failed: str) -> Any:
    try:
        return call()
    except Exception as error:
        raise UserCodeError(
            f"{failed}: {type(error).__name__}: {error}",
            _("The traceback above shows where."),
        ) from error


def _load(path: Path) -> Any:
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
