"""Write docs/rules.md and docs/rules.zh-CN.md: `python docs/write_rules_page.py`."""

from __future__ import annotations

from pathlib import Path

from unvanish.diagnose.catalogue import rules
from unvanish.diagnose.rule import Rule
from unvanish.diagnose.thresholds import THRESHOLDS, threshold
from unvanish.i18n import _, speaking

DOCS = Path(__file__).parent
PAGES = {"en": DOCS / "rules.md", "zh": DOCS / "rules.zh-CN.md"}

TEXT = {
    "en": """\
# Rules

[简体中文](rules.zh-CN.md)

What `unvanish` finds, rule by rule: what each means, why it matters, where it can be wrong, and
what cures it. `unvanish rule CODE` prints the same in a terminal. Rules are chosen by code or
family, and their thresholds set, in pyproject.toml:

```toml
[tool.unvanish]
ignore = ["UR101"]

[tool.unvanish.thresholds]
vanishing-clear = 3.0
```

This page is written by `python docs/write_rules_page.py`.
""",
    "zh": """\
# 规则

[English](rules.md)

`unvanish` 能发现什么，逐条规则说明：它意味着什么、为什么重要、在哪里可能出错、如何医治。
`unvanish rule CODE --lang zh` 在终端打印同样的内容。规则按代码或族选用，阈值可以修改，
都写在 pyproject.toml 里：

```toml
[tool.unvanish]
ignore = ["UR101"]

[tool.unvanish.thresholds]
vanishing-clear = 3.0
```

本页由 `python docs/write_rules_page.py` 写成。
""",
}
THRESHOLD_HEADS = {
    "en": ("Thresholds", "threshold", "value", "meaning", "why this value"),
    "zh": ("阈值", "阈值", "取值", "含义", "取值的理由"),
}


def page(language: str) -> str:
    """Return the page in `language` ("en" or "zh")."""
    with speaking(language):
        heading, *columns = THRESHOLD_HEADS[language]
        found = [_rule(each, heading) for each in rules()]
        return "\n".join((TEXT[language], _index(), *found, _thresholds(heading, columns)))


def _index() -> str:
    heads = f"| {_('code')} | {_('verdict')} | {_('finds')} |"
    rows = [
        f"| [{each.code}](#{each.code.lower()}) | {each.verdict} | {_title(each)} |"
        for each in rules()
    ]
    return "\n".join((heads, "|---|---|---|", *rows, ""))


def _title(rule: Rule) -> str:
    title = _(rule.title)
    return _("{title} (preview: off by default)").format(title=title) if rule.preview else title


def _rule(rule: Rule, thresholds: str) -> str:
    first, _gap, body = rule.translated.partition("\n\n")
    summary = first.removeprefix(rule.code).lstrip(":： ")
    summary = summary[0].upper() + summary[1:]
    names = ", ".join(f"`{name}`" for name in rule.thresholds)
    parts = [f"## {rule.code}", f"**{summary}** ({rule.verdict})", body.replace("## ", "### ")]
    if names:
        parts.append(f"### {thresholds}\n\n{names}")
    return "\n\n".join(parts) + "\n"


def _thresholds(heading: str, columns: list[str]) -> str:
    rows = []
    for name in THRESHOLDS:
        one = threshold(name)
        value = f"{one.value:g} {one.unit}".strip()
        rows.append(f"| `{name}` | {value} | {_cell(one.meaning)} | {_cell(one.why)} |")
    heads = "| " + " | ".join(columns) + " |"
    return "\n".join((f"## {heading}", "", heads, "|" + "---|" * len(columns), *rows, ""))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    for language, path in PAGES.items():
        path.write_text(page(language), encoding="utf-8")
