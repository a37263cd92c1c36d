"""Processes that the script starts: they are not watched, so the report names them.

DataLoader workers and the service processes of libraries do not train and are left out. A forked
child inherits our wrappers; they do nothing there.
"""

from __future__ import annotations

import functools
import itertools
import os
import shlex
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from typing import Any

from unvanish.i18n import _

# Targets in these modules serve a library: they load data, share state or compile kernels.
_SERVICES = ("torch.utils.data.", "torch._inductor.", "multiprocessing.managers")
_LAUNCHERS = ("python", "torchrun", "accelerate", "deepspeed")


class Children:
    """Counts the processes started while it is installed, by what they run."""

    def __init__(self, adopt: Callable[[BaseProcess], bool] | None = None) -> None:
        """`adopt` may take a process that is about to start, which then is watched."""
        self._adopt = adopt
        self._started: Counter[str] = Counter()
        self._pid = os.getpid()
        self._restore: list[Callable[[], None]] = []

    def install(self) -> None:
        """Replace the two places where Python starts processes."""
        process_class: Any = BaseProcess
        popen_class: Any = subprocess.Popen
        start, popen = process_class.start, popen_class.__init__

        @functools.wraps(start)
        def start_and_count(process: BaseProcess) -> None:
            target = _name(_target_of, process)  # before: start() forgets it
            if self._is_adopted(process):
                target = None
            start(process)
            self._count(target)

        @functools.wraps(popen)
        def popen_and_count(process: Any, args: Any, *rest: Any, **options: Any) -> None:
            popen(process, args, *rest, **options)
            self._count(_name(_python_program, args))

        def restore() -> None:
            process_class.start, popen_class.__init__ = start, popen

        process_class.start, popen_class.__init__ = start_and_count, popen_and_count
        self._restore.append(restore)

    def remove(self) -> None:
        """Put back what was there."""
        while self._restore:
            self._restore.pop()()

    def notes(self) -> tuple[str, ...]:
        """Return one line for each kind of child process."""
        return tuple(
            _("{count} child process(es) running {target} were not watched").format(
                count=count, target=target
            )
            for target, count in self._started.items()
        )

    def _is_adopted(self, process: BaseProcess) -> bool:
        try:
            return self._adopt is not None and os.getpid() == self._pid and self._adopt(process)
        except Exception:  # it is started as it is, and named
            return False

    def _count(self, target: str | None) -> None:
        if target is not None and os.getpid() == self._pid:
            self._started[target] += 1


def _name(find: Callable[[Any], str | None], what: Any) -> str | None:
    try:
        return find(what)
    except Exception:  # starting processes is the script's business, and must not fail by us
        return _("something unknown")


def _target_of(process: Any) -> str | None:
    target = getattr(process, "_target", None)
    if getattr(target, "__module__", None) == "torch.multiprocessing.spawn":
        target = process._args[0]  # the function given to torch.multiprocessing.spawn
    if target is None:
        target = type(process)
    module = getattr(target, "__module__", None) or ""
    name = getattr(target, "__qualname__", None) or type(target).__name__
    return None if f"{module}.".startswith(_SERVICES) else f"{module}.{name}".strip(".")


def _python_program(args: Any) -> str | None:
    """Return the script or module of a command line that runs Python, None for any other."""
    if isinstance(args, bytes | str | os.PathLike):
        text = os.fsdecode(args)
        try:
            words = shlex.split(text)
        except ValueError:
            return None
    elif isinstance(args, Sequence):
        words = [os.fsdecode(word) for word in args if isinstance(word, bytes | str | os.PathLike)]
    else:
        return None
    if not words or not os.path.basename(words[0]).startswith(_LAUNCHERS):
        return None
    launcher = os.path.basename(words[0])
    for word, following in itertools.pairwise([*words[1:], ""]):
        if word == "-c" or "_inductor" in word:  # a line of code; torch.compile's own workers
            return None
        if word == "-m":
            return f"{launcher} -m {following}"
        if word.endswith(".py"):
            return f"{launcher} {word}"
    return None
