"""Write docs/cures.md and docs/cures.zh-CN.md: `python docs/write_cures_page.py`."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from unvanish.fix.catalogue import cures
from unvanish.fix.cure import Cure
from unvanish.i18n import _, current, speaking, translate_text

DOCS = Path(__file__).parent
PAGES = {"en": DOCS / "cures.md", "zh": DOCS / "cures.zh-CN.md"}

TEXT = {
    "en": """\
# Cures

[简体中文](cures.zh-CN.md)

What `unvanish fix` may try. Each is proposed by what was found and by how the network is built,
applied to a copy, and called proven only after it was trained side by side with the original.
`unvanish cure NAME` prints the same in a terminal. Written by `python docs/write_cures_page.py`.

- **safe**: changes only values that would be drawn anew anyway, or is an algebraic identity;
- **unsafe**: changes the function or the dynamics: never applied without being asked;
- **display-only**: an edit of your source; a trial imitates it.

""",
    "zh": """\
# 疗法

[English](cures.md)

`unvanish fix` 会尝试的疗法。提出哪些，取决于发现了什么以及网络如何搭建；每一种都先用在副本上，
与原网络并排训练过之后，才可能称为已证明。`unvanish cure NAME --lang zh` 在终端打印同样的内容。
本页由 `python docs/write_cures_page.py` 生成。

- **安全**（safe）：只改动本来就会随机生成的值，或只是代数上的恒等变换；
- **不安全**（unsafe）：改变网络的函数或训练的动力学：没有明确要求就绝不采用；
- **仅供展示**（display-only）：要由你修改源码；试验时加以模拟。

""",
}


def page(language: str) -> str:
    """Return the page in `language` ("en" or "zh")."""
    with speaking(language):
        return TEXT[language] + _catalogue() + "\n"


def _catalogue() -> str:
    everything = sorted(cures(), key=lambda each: (type(each).__module__, each.name))
    rows = [
        f"| [`{each.name}`](#{each.name}) | {each.applicability.word} | {each.summary()} |"
        for each in sorted(everything, key=lambda each: each.name)
    ]
    heads = f"| {_('cure')} | {_('applicability')} | {_('what it does')} |"
    table = "\n".join((heads, "|---|---|---|", *rows))
    groups = groupby(everything, key=lambda each: each.documentation)
    return table + "\n\n" + "\n\n".join(_family(text, list(each)) for text, each in groups)


def _family(documentation: str, family: list[Cure]) -> str:
    heading, _gap, body = translate_text(documentation, "cures").partition("\n\n")
    return "\n\n".join(
        (f"## {heading.rstrip('.。')}", body, *(_one(each).strip() for each in family))
    )


def _one(cure: Cure) -> str:
    words = ", ".join(f"{_link(key)} ({word:g})" for key, word in cure.words.items())
    sources = "\n".join(f"- {source}" for source in cure.sources)
    proposed = _("Proposed for (prior): {findings}").format(findings=words)
    facts = f"**{cure.applicability.word}** · {proposed}"
    return f"### {cure.name}\n\n{cure.summary()}\n\n{facts}\n\n{sources}"


def _link(key: str) -> str:
    """Return a code as a link to its rule; a family or a verdict as it is."""
    page = {"en": "rules.md", "zh": "rules.zh-CN.md"}[current()]
    return f"[{key}]({page}#{key.lower()})" if key[-1].isdigit() else key


if __name__ == "__main__":
    for language, path in PAGES.items():
        path.write_text(page(language), encoding="utf-8")
