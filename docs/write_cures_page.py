"""Write docs/cures.md and docs/cures.zh-CN.md: `python docs/write_cures_page.py`."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from unvanish.fix.catalogue import cures
from unvanish.fix.cure import Cure
from unvanish.i18n import _, speaking, translate_text

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

`unvanish fix` 可能尝试的疗法。每一种都由所发现的问题和网络的构造提出，施加在一份副本上，
只有与原网络并排训练过之后才称为已证明。`unvanish cure NAME --lang zh` 在终端打印同样的内容。
本页由 `python docs/write_cures_page.py` 写成。

- **safe**（安全）：只改动反正要重新抽取的数值，或者是代数恒等变换；
- **unsafe**（不安全）：改变函数或训练动态：没有要求就绝不施加；
- **display-only**（仅展示）：需要修改您的源码；试验中只作模拟。

""",
}


def page(language: str) -> str:
    """Return the page in `language` ("en" or "zh")."""
    with speaking(language):
        return TEXT[language] + _catalogue() + "\n"


def _catalogue() -> str:
    everything = sorted(cures(), key=lambda each: (type(each).__module__, each.name))
    rows = [
        f"| [`{each.name}`](#{each.name}) | {each.applicability} | {each.summary()} |"
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
    words = ", ".join(f"{key} ({word:g})" for key, word in cure.words.items())
    sources = "\n".join(f"- {source}" for source in cure.sources)
    proposed = _("Proposed for (prior): {findings}").format(findings=words)
    return f"### {cure.name}\n\n{cure.summary()}\n\n{proposed}\n\n{sources}"


if __name__ == "__main__":
    for language, path in PAGES.items():
        path.write_text(page(language), encoding="utf-8")
