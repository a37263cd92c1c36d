"""Options that several commands share; each is a decorator, so that its help is in the language
chosen by the time the command is built.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from unvanish.i18n import LANGUAGES, _

F = TypeVar("F", bound=Callable[..., Any])


def lang_option(function: F) -> F:
    """`--lang en|zh`: only declared here, for `main` has applied it before anything is parsed."""
    return click.option(
        "--lang", type=click.Choice(LANGUAGES), expose_value=False, help=_("language of the output")
    )(function)


def json_option(function: F) -> F:
    """`--json [PATH]`, as the parameter `json_path`: None when not given, "-" without a PATH.

    A word after it is its PATH, so a bare `--json` stands last or before another option.
    """
    return click.option(
        "--json",
        "json_path",
        metavar="[PATH]",
        is_flag=False,
        flag_value="-",
        help=_("write the result as JSON to PATH; - is stdout, and nothing else is printed then"),
    )(function)


def force_option(function: F) -> F:
    """`--force`, as the parameter `force`."""
    return click.option("--force", is_flag=True, help=_("overwrite a file that exists"))(function)


def ci_options(function: F) -> F:
    """`--sarif FILE` and `--github`, as the parameters `sarif_path` and `github`."""
    function = click.option(
        "--github",
        is_flag=True,
        help=_("also print the findings on stderr as annotations for GitHub Actions"),
    )(function)
    return click.option(
        "--sarif",
        "sarif_path",
        metavar="FILE",
        help=_("write the findings as SARIF 2.1.0, for code scanning services, to FILE"),
    )(function)
