"""Everything Unvanish raises.

    UnvanishError                    (base; exit code 2)
    ├── UsageError                   the call itself is wrong: arguments, names, files
    │   ├── OutputExistsError        refuses to overwrite without --force
    │   └── UnknownNameError         a name that is not in a list; the message shows the list
    ├── UserCodeError                the user's own script, model or loss failed (exit code 3)
    ├── NoSignalError                there was no backward signal to measure
    ├── DependencyError              an optional package or program is missing
    ├── NotOurFileError              a file is not a record of ours, or of a newer version
    └── StorageError                 a record could not be written or read

    UnvanishWarning                  a Python warning: an alarm of a monitor, or what it cannot do

Every error has a remedy: what the reader can do about it. `str(error)` is one line,
"what is wrong; the remedy".
"""

from __future__ import annotations

from collections.abc import Iterable

from unvanish.i18n import _


class UnvanishError(Exception):
    """Base of all errors raised on purpose. `exit_code` is what the command line returns."""

    exit_code = 2

    def __init__(self, problem: str, remedy: str) -> None:
        """State the `problem` (one line, no full stop) and its `remedy` (one line)."""
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        """Return the message as one line."""
        return _("{problem}. {remedy}").format(problem=self.problem, remedy=self.remedy)


class UsageError(UnvanishError):
    """The call is wrong: an argument, an option, a file name."""


class OutputExistsError(UsageError):
    """An output file exists already and `--force` was not given."""


class UnknownNameError(UsageError):
    """A name is not one of those that are known."""

    def __init__(self, kind: str, name: str, known: Iterable[str], remedy: str) -> None:
        """Name what was looked for, and list what there is."""
        self.known = tuple(known)
        problem = _("unknown {kind} {name!r} (known: {known})")
        if not self.known:
            problem = _("unknown {kind} {name!r} (there are none)")
        super().__init__(problem.format(kind=kind, name=name, known=", ".join(self.known)), remedy)


class UserCodeError(UnvanishError):
    """The user's script, model or loss raised; the original exception is the `__cause__`."""

    exit_code = 3


class NoSignalError(UnvanishError):
    """No backward signal exists: nothing requires a gradient, or backward was never called."""

    exit_code = 3


class DependencyError(UnvanishError):
    """An optional package or program that this needs is not installed."""


class NotOurFileError(UnvanishError):
    """The file is not a record written by Unvanish, is damaged, or is of a newer version."""


class StorageError(UnvanishError):
    """A record could not be written or read (disk full, no permission)."""


class UnvanishWarning(UserWarning):
    """What a monitor has to say while training goes on: an alarm, or something it cannot do."""
