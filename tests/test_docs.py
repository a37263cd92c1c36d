"""The documentation: pages made by scripts are as they would be made now; links, commands, names.

Commands are parsed as the command line parses them, so that an option that went is noticed.
"""

import re
import runpy
import shlex
from pathlib import Path
from pkgutil import resolve_name

import click
import pytest

from unvanish import cli
from unvanish.cli import _load

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def test_the_theory_page_is_that_of_its_script() -> None:
    writer = runpy.run_path(str(DOCS / "write_theory_page.py"))
    assert (DOCS / "theory.md").read_text("utf-8") == writer["page"]()


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("script", ["write_rules_page.py", "write_cures_page.py"])
def test_the_pages_of_rules_and_cures_are_those_of_their_scripts(
    script: str, language: str
) -> None:
    writer = runpy.run_path(str(DOCS / script))
    assert writer["PAGES"][language].read_text("utf-8") == writer["page"](language)


# --- links, commands and names -------------------------------------------------------------------

PAGES = sorted(
    [*ROOT.glob("*.md"), *DOCS.rglob("*.md")], key=lambda path: path.relative_to(ROOT).as_posix()
)
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


ENTRY_POINTS = {"unvanish.rules"}  # groups of them, where packages of others add something


def text_of(page: Path) -> str:
    return page.read_text("utf-8")


def links_of(page: Path) -> list[str]:
    prose = FENCED.sub("", text_of(page))
    links = re.findall(r"\]\(([^)\s]+)\)", prose)
    return [link for link in links if not link.startswith(("http:", "https:", "mailto:"))]


def anchors_of(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    heads = re.findall(r"^#+ (.+)$", FENCED.sub("", text_of(page)), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", head.lower()).strip() for head in heads)
    return {head.replace(" ", "-") for head in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for link in links_of(page):
        file, _hash, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors_of(target), link


def test_every_page_is_reached_from_the_index() -> None:
    found: set[Path] = set()
    waiting = [DOCS / "index.md"]
    while waiting:
        page = waiting.pop().resolve()
        if page in found or not page.is_file():
            continue
        found.add(page)
        if page.suffix == ".md":
            waiting += [page.parent / link.partition("#")[0] for link in links_of(page)]
    pages = {path.resolve() for path in [*DOCS.rglob("*.md"), *DOCS.rglob("*.ipynb")]}
    assert pages <= found


def typed(page: Path) -> list[str]:
    """Lines that a reader is told to type: in blocks of shell, and between backticks."""
    text = text_of(page)
    blocks = [body for language, body in FENCED.findall(text) if language in ("", "sh", "yaml")]
    lines = [line.strip().removeprefix("- run: ") for body in blocks for line in body.splitlines()]
    spans = re.findall(r"`([^`\n]+)`", FENCED.sub("", text))
    return [line.split("  #")[0].strip() for line in [*lines, *spans]]


COMMANDS = sorted(
    {line for page in PAGES for line in typed(page) if re.match(r"unvanish( |$)", line)}
)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_in_the_documentation_exists_with_its_options(line: str) -> None:
    words = shlex.split(line.replace("…", ""))[1:]
    if not words or words[0].startswith("-"):
        return
    name, *arguments = words
    command = _load(f"unvanish.cli.{cli.COMMANDS[name]}")
    context = click.Context(command, info_name=name)
    if command.context_settings.get("ignore_unknown_options"):  # the rest is the user's own
        context.ignore_unknown_options = True
    if arguments and arguments[-1].startswith("--"):  # the option is meant, not a value of it
        arguments.append("1")
    if name == "run":
        arguments = arguments[
            : 1 + next(i for i, w in enumerate([*arguments, ".py"]) if ".py" in w)
        ]
    command.make_parser(context).parse_args(arguments)


def test_there_are_commands_to_try() -> None:
    assert len(COMMANDS) > 20
    known = {line.split()[1] for line in COMMANDS if " " in line}
    assert set(cli.COMMANDS) <= known | {"serve"}


def test_every_make_target_in_the_documentation_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {
        word
        for page in PAGES
        for line in typed(page)
        if line.startswith("make ")
        for word in line.split()[1:2]
    }
    assert named <= targets


# Metrics, a file, a group of entry points.
NOT_PYTHON = {
    "unvanish.alarm",
    "unvanish.not_finite",
    "unvanish.sarif",
    "unvanish.sinks",
    "unvanish.step",
}


def test_every_python_name_in_the_documentation_exists() -> None:
    names = {
        match[0]
        for page in PAGES
        for line in typed(page)
        if (match := re.match(r"unvanish(\.[A-Za-z_]\w*)+", line)) and "/" not in line
    }
    assert len(names) > 10
    for name in sorted(names - ENTRY_POINTS - NOT_PYTHON):
        assert resolve_name(name) is not None
