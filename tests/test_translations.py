"""Every text that a person sees has a Chinese translation, with the same placeholders."""

import re
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_file
from babel.messages.pofile import read_po
from jinja2.ext import babel_extract

ROOT = Path(__file__).parents[1] / "src" / "unvanish"
CATALOGUE = ROOT / "locale" / "zh" / "LC_MESSAGES" / "unvanish.po"

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


@pytest.fixture(scope="module")
def catalogue() -> dict[str, str]:
    with CATALOGUE.open("rb") as file:
        return {entry.id: entry.string for entry in read_po(file) if entry.id and not entry.fuzzy}


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
