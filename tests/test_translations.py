"""Every text that a person sees has a Chinese translation, with the same placeholders."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_file
from babel.messages.pofile import read_po
from jinja2.ext import babel_extract

from unvanish import i18n
from unvanish.diagnose.catalogue import rules
from unvanish.diagnose.thresholds import TEXTS, THRESHOLDS
from unvanish.fix.catalogue import cures

ROOT = Path(__file__).parents[1] / "src" / "unvanish"
CATALOGUES = ROOT / "locale" / "zh" / "LC_MESSAGES"
CATALOGUE = CATALOGUES / "unvanish.po"
# The catalogues of documentation, and the texts that each translates.
DOCUMENTATION = {
    "rules": [rule.documentation for rule in rules()]
    + [getattr(limit, field) for limit in THRESHOLDS.values() for field in TEXTS],
    "cures": [cure.documentation for cure in cures()],
}
DOMAINS = sorted(DOCUMENTATION)

TRANSLATED = sorted(
    str(path.relative_to(ROOT)) for path in [*ROOT.rglob("*.py"), *ROOT.rglob("*.j2")]
)


def messages_of(path: Path) -> list[tuple[int, str]]:
    if path.suffix == ".j2":
        with path.open("rb") as file:
            templates = list(babel_extract(file, {"_": None}, [], {}))  # type: ignore[arg-type]
        return [(line, text) for line, _function, text, _c in templates if isinstance(text, str)]
    found = extract_from_file("python", path, keywords={"_": None})
    return [(line, text) for line, text, _comments, _context in found if isinstance(text, str)]


def translations(domain: str) -> dict[str, str]:
    with (CATALOGUES / f"{domain}.po").open("rb") as file:
        return {entry.id: entry.string for entry in read_po(file) if entry.id and not entry.fuzzy}


@pytest.fixture(scope="module")
def catalogue() -> dict[str, str]:
    return translations("unvanish")


@pytest.fixture
def chinese() -> Iterator[None]:
    i18n.choose("zh")
    yield
    i18n.choose("en")


def placeholders(text: str) -> list[str]:
    return sorted(re.findall(r"\{[^{}]*\}", text))


@pytest.mark.parametrize("name", TRANSLATED)
def test_every_message_is_translated(name: str, catalogue: dict[str, str]) -> None:
    missing = [
        f"{name}:{line}: {text!r}"
        for line, text in messages_of(ROOT / name)
        if not catalogue.get(text)
    ]
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize("name", TRANSLATED)
def test_translations_keep_the_placeholders(name: str, catalogue: dict[str, str]) -> None:
    for line, text in messages_of(ROOT / name):
        assert placeholders(catalogue.get(text, text)) == placeholders(text), f"{name}:{line}"


def test_the_extraction_itself_finds_messages(tmp_path: Path) -> None:
    source = tmp_path / "x.py"
    source.write_text('print(_("one"), _("two " "{n}").format(n=2), f("three"))\n')
    assert messages_of(source) == [(1, "one"), (1, "two {n}")]
    assert messages_of(ROOT / "cli" / "output.py")
    template = tmp_path / "x.html.j2"
    template.write_text("<p>{{ _('one') }}</p>\n{% set x = _('two {n}') %}")
    assert messages_of(template) == [(1, "one"), (2, "two {n}")]


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_block_of_documentation_is_translated(domain: str) -> None:
    wanted = {each for text in DOCUMENTATION[domain] for each in i18n.text_messages(text)}
    found = {message for message, translation in translations(domain).items() if translation}
    assert wanted - found == set()
    assert found - wanted == set(), "no text has these any more"


def code_and_numbers(text: str) -> tuple[list[str], list[str]]:
    return sorted(re.findall("`[^`]*`", text)), sorted(re.findall(r"\d+(?:\.\d+)?", text))


@pytest.mark.parametrize("domain", DOMAINS)
def test_translated_documentation_keeps_code_and_numbers(domain: str) -> None:
    for message, translation in translations(domain).items():
        assert code_and_numbers(translation) == code_and_numbers(message), message


@pytest.mark.parametrize(("name", "value"), [("UNVANISH_LANG", "zh"), ("LANG", "zh_CN.UTF-8")])
def test_from_python_the_language_is_that_of_the_environment(name: str, value: str) -> None:
    kept = {key: os.environ[key] for key in ("PATH", "PYTHONPATH") if key in os.environ}
    shown = subprocess.run(
        [sys.executable, "-c", "from unvanish.i18n import current; print(current())"],
        env={**kept, name: value},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == "zh"


TEXT = """A first
line.

## What it finds

- one
  and more
- two

    code = 1


    more()

## References

- A title, 2013.
"""


def test_documentation_is_split_into_blocks() -> None:
    messages = ["A first line.", "What it finds", "one and more", "two", "References"]
    assert i18n.text_messages(TEXT) == messages
    assert i18n.text_messages("") == []


@pytest.mark.usefixtures("chinese")
def test_documentation_is_translated_block_by_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from babel.messages import Catalog
    from babel.messages.mofile import write_mo

    known = Catalog("zh")
    known.add("A first line.", "第一行。")
    known.add("What it finds", "发现什么")
    known.add("one and more", "一，等等")
    known.add("A title, 2013.", "书名")
    folder = tmp_path / "zh" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    with (folder / "some.mo").open("wb") as file:
        write_mo(file, known)
    monkeypatch.setattr(i18n, "DIRECTORY", tmp_path)
    expected = TEXT.replace("A first\nline.", "第一行。").replace("What it finds", "发现什么")
    expected = expected.replace("one\n  and more", "一，等等")
    assert i18n.translate_text(TEXT, "some") == expected
    assert i18n.translate_text(TEXT, "no such domain") == TEXT
    i18n.choose("en")
    assert i18n.translate_text(TEXT, "some") == TEXT
