"""Options that several commands share; each is a decorator, so that its help is in the language
chosen by the time the command is built.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from unvanish.i18n import LANGUAGES, _

INTERRUPTED = 130  # what a shell reports for a program ended by Ctrl-C

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


def script_argument(metavar: str) -> Callable[[F], F]:
    """The script with its arguments, or `-m MODULE`, as the parameters `words` and `module`."""

    def declare(function: F) -> F:
        function = click.option(
            "-m", "module", metavar="MODULE", help=_("run a module, as python -m does")
        )(function)
        return click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar=metavar)(function)

    return declare


def steps_option(help_text: str) -> Callable[[F], F]:
    """`--steps N`, as the parameter `steps`: None when not given."""
    return click.option("--steps", type=click.IntRange(min=1), metavar="N", help=help_text)


def rules_options(function: F) -> F:
    """`--select CODES` and `--ignore CODES`, as the parameters `select` and `ignore`."""
    function = click.option(
        "--ignore", metavar="CODES", help=_("all rules but those with these codes")
    )(function)
    return click.option(
        "--select", metavar="CODES", help=_("only rules with these codes (VG,EG101)")
    )(function)


def fail_on_option(default: str, help_text: str) -> Callable[[F], F]:
    """`--fail-on`, as the parameter `fail_on`."""
    return click.option(
        "--fail-on",
        type=click.Choice(["error", "warning", "never"]),
        default=default,
        show_default=True,
        help=help_text,
    )


def page_option(function: F) -> F:
    """`-o FILE`, as the parameter `page`."""
    return click.option(
        "-o", "--output", "page", metavar="FILE", help=_("write an HTML report to FILE")
    )(function)
