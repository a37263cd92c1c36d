"""Running the user's program as `python` would: a script file, or a module as with `-m`.

The program becomes `__main__` (so classes defined in it pickle, and spawned DataLoader workers
find it), sees its own `sys.argv` and `sys.path[0]`, and ends as it would have ended: the same
traceback, without our frames, and the same exit code. Nothing here imports torch.
"""

from __future__ import annotations

import builtins
import importlib.machinery
import importlib.util
import os
import sys
import threading
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType, TracebackType

from unvanish.errors import UsageError
from unvanish.i18n import _
from unvanish.records import Ending

_PACKAGE = Path(__file__).resolve().parent.parent
_OUR_DIRECTORIES = tuple(str(_PACKAGE / part) + os.sep for part in ("monitor", "measure"))
INTERRUPTED = 130  # what a shell reports for a program ended by Ctrl-C


class StepsReached(SystemExit):
    """Ends the script after the asked-for number of steps; its `finally` and atexit still run."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the program ended. `error` is the last line of its traceback."""

    ending: Ending
    exit_code: int
    error: str | None = None


def outcome_of(error: BaseException | None) -> Outcome:
    """Return how a block ended that `error` left, None if nothing did."""
    if error is None:
        return Outcome("finished", 0)
    line = f"{type(error).__name__}: {error}".splitlines()[0]
    if isinstance(error, KeyboardInterrupt):
        return Outcome("interrupted", INTERRUPTED, line)
    return Outcome("exited" if isinstance(error, SystemExit) else "crashed", 1, line)


class Program(ABC):
    """What the user asked to run, with its arguments."""

    @property
    @abstractmethod
    def command(self) -> tuple[str, ...]:
        """The words after `unvanish run` that name the program and its arguments."""

    @abstractmethod
    def prepare(self) -> CodeType:
        """Make `sys.modules["__main__"]`, `sys.argv` and `sys.path[0]` the program's own.

        Returns its code. Raises SyntaxError as compiling does.
        """

    def execute(self) -> Outcome:
        """Run to the end, threads included, and print an uncaught exception as `python` does.

        Raises UsageError where there is nothing to run.
        """
        try:
            outcome = self._execute()
        except KeyboardInterrupt as error:
            _print_uncaught(error)
            return Outcome("interrupted", INTERRUPTED, "KeyboardInterrupt")
        return outcome

    def _execute(self) -> Outcome:
        try:
            code = self.prepare()
            exec(code, sys.modules["__main__"].__dict__)
            outcome = Outcome("finished", 0)
        except StepsReached:
            outcome = Outcome("steps-reached", 0)
        except SystemExit as error:
            outcome = Outcome("exited", _exit_code(error.code))
        except (KeyboardInterrupt, UsageError):
            raise
        except BaseException as error:
            _print_uncaught(error)
            last_line = traceback.format_exception_only(error)[-1].strip()
            outcome = Outcome("crashed", 1, last_line)
        _join_threads()
        return outcome


@dataclass(frozen=True)
class Script(Program):
    """`python path arguments…`."""

    path: Path
    arguments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise UsageError when `path` is no file."""
        if self.path.is_dir():
            raise UsageError(
                _("{path} is a directory, not a script").format(path=self.path),
                _("Give the .py file in it, or run a package with: unvanish run -m PACKAGE"),
            )
        if not self.path.exists():
            raise UsageError(
                _("there is no script {path}").format(path=self.path),
                _("Check the path; options of unvanish come before the script, its own after."),
            )
        if not os.access(self.path, os.R_OK):
            raise UsageError(
                _("the script {path} cannot be read").format(path=self.path),
                _("Check its permissions."),
            )

    @property
    def command(self) -> tuple[str, ...]:
        """See `Program`."""
        return (str(self.path), *self.arguments)

    def prepare(self) -> CodeType:
        """See `Program`."""
        file = str(self.path.absolute())
        loader = importlib.machinery.SourceFileLoader("__main__", file)
        _become_main(file=file, loader=loader)
        sys.argv[:] = [str(self.path), *self.arguments]
        _set_first_path(str(self.path.resolve().parent))
        code: CodeType = compile(self.path.read_bytes(), file, "exec", dont_inherit=True)
        return code


@dataclass(frozen=True)
class Module(Program):
    """`python -m name arguments…`."""

    name: str
    arguments: tuple[str, ...] = ()

    @property
    def command(self) -> tuple[str, ...]:
        """See `Program`."""
        return ("-m", self.name, *self.arguments)

    def prepare(self) -> CodeType:
        """See `Program`."""
        sys.argv[:] = ["-m", *self.arguments]
        _set_first_path(str(Path.cwd()))
        spec, code = self._find()
        main = _become_main(file=spec.origin, loader=spec.loader)
        main.__spec__ = spec
        main.__package__ = spec.parent
        main.__dict__["__cached__"] = spec.cached
        sys.argv[0] = spec.origin or self.name
        return code

    def _find(self) -> tuple[importlib.machinery.ModuleSpec, CodeType]:
        spec = _find_spec(self.name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = _find_spec(f"{self.name}.__main__")
        get_code: Callable[[str], CodeType | None] | None = getattr(
            spec and spec.loader, "get_code", None
        )
        code = get_code(spec.name) if spec is not None and get_code is not None else None
        if spec is None or code is None:
            raise UsageError(
                _("there is no module {name} that can be run").format(name=self.name),
                _("Check that `python -m {name}` works in this directory.").format(name=self.name),
            )
        return spec, code


def _find_spec(name: str) -> importlib.machinery.ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        # A missing parent package is the user's mistake; a missing import inside one is a crash.
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            return None
        raise
    except ValueError:  # `__spec__` of a module that is already loaded is None
        return None


def _become_main(*, file: str | None, loader: object) -> ModuleType:
    """Put a fresh module in the place of `__main__`, with what `python` puts into it."""
    main = ModuleType("__main__")
    main.__dict__.update(
        __builtins__=builtins,
        __file__=file,
        __loader__=loader,
        __cached__=None,
        __annotations__={},
    )
    _previous_mains.append(sys.modules["__main__"])
    sys.modules["__main__"] = main
    return main


# A module that is dropped has its globals cleared, and ours is still running.
_previous_mains: list[ModuleType] = []


def _set_first_path(entry: str) -> None:
    # Under -P (safe path) python puts nothing in front, and neither do we.
    if not sys.flags.safe_path:
        sys.path[0] = entry


def _exit_code(code: object) -> int:
    """Return the exit status that `sys.exit(code)` gives, and print what it prints."""
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1


def _join_threads() -> None:
    """Wait for the threads that `python` waits for before it ends."""
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join()


def _print_uncaught(error: BaseException) -> None:
    _hide_our_frames(error)
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
    try:
        sys.stdout.flush()
        sys.excepthook(type(error), error, error.__traceback__)
    except Exception:  # the script's own hook failed: python falls back in the same way
        sys.__excepthook__(type(error), error, error.__traceback__)


def _hide_our_frames(error: BaseException) -> None:
    """Take the frames of this package out of the traceback of `error` and of all it chains to."""
    todo: list[BaseException | None] = [error]
    seen: set[int] = set()
    while todo:
        current = todo.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        current.__traceback__ = _visible(current.__traceback__)
        todo += [current.__cause__, current.__context__]
        if isinstance(current, BaseExceptionGroup):
            todo += current.exceptions


def _visible(entry: TracebackType | None) -> TracebackType | None:
    kept: list[TracebackType] = []
    while entry is not None:
        if not entry.tb_frame.f_code.co_filename.startswith(_OUR_DIRECTORIES):
            kept.append(entry)
        entry = entry.tb_next
    for position, item in enumerate(kept):
        item.tb_next = kept[position + 1] if position + 1 < len(kept) else None
    return kept[0] if kept else None
