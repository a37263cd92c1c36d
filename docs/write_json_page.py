"""Write docs/json.md from the JSON Schema: `python docs/write_json_page.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unvanish.report.document import schema

PAGE = Path(__file__).with_name("json.md")

INTRODUCTION = """\
# The JSON contract

`unvanish run --json FILE`, `unvanish check --json FILE` and `unvanish report RUN --json FILE`
write one JSON document. This page describes it; the same as a JSON Schema (draft 2020-12) is in
the package as `unvanish/report/schema.json`, and `unvanish.report.document.schema()` returns it.
Both are kept together by a test (this page is written by `python docs/write_json_page.py`).

- `schema` is the version of the contract. It is raised when a key is removed or changes its
  meaning. New keys do not raise it: readers should ignore keys that they do not know.
- JSON has no NaN and no infinity, and here they are data. They are written as the strings
  `"NaN"`, `"Infinity"` and `"-Infinity"`, wherever this page says *number*.
- `*_log10` is the decimal logarithm of a Frobenius norm or of a ratio of two. `"-Infinity"` is
  exactly zero, `"NaN"` is not finite, `null` is not measured.
- Layer names are whatever the script calls its modules. Treat them as untrusted text.

```python
import json

diagnosis = json.load(open("diagnosis.json"))
gravest = diagnosis["findings"][0]
print(diagnosis["verdict"], gravest["code"], gravest["where"]["module"], gravest["remedy"])
path = diagnosis["traces"][-1]["main_path"]  # from the loss down to the input
slope = sum(edge["gain_log10"] for edge in path if edge["factor"] == "slope")
```
"""


def page() -> str:
    """Return the page's text."""
    whole = schema()
    parts = [INTRODUCTION, _section("The document", whole)]
    parts += [
        _section(name, part) if "properties" in part else _kind(name, part)
        for name, part in sorted(whole["$defs"].items())
    ]
    return "\n".join(parts)


def _section(title: str, part: dict[str, Any]) -> str:
    rows = [
        f"| `{key}` | {_type(child)} | {_description(child)} |"
        for key, child in part["properties"].items()
    ]
    head = ["| key | type | |", "|---|---|---|"]
    return "\n".join([f"## {title}", "", part["description"], "", *head, *rows, ""])


def _kind(title: str, part: dict[str, Any]) -> str:
    words = f" One of {', '.join(f'`{word}`' for word in part['enum'])}." if "enum" in part else ""
    return "\n".join([f"## {title}", "", part["description"] + words, ""])


def _type(part: dict[str, Any]) -> str:
    if "$ref" in part:
        name = part["$ref"].rpartition("/")[2]
        return f"[{name}](#{name})"
    if "anyOf" in part:
        return " or ".join(_type(choice) for choice in part["anyOf"])
    if "enum" in part:
        return ", ".join(f"`{word}`" for word in part["enum"])
    if "const" in part:
        return f"`{part['const']}`"
    if part["type"] == "array":
        return f"list of {_type(part['items'])}"
    return " or ".join(part["type"]) if isinstance(part["type"], list) else str(part["type"])


def _description(part: dict[str, Any]) -> str:
    if "description" in part:
        return str(part["description"]).replace("|", "\\|")
    return str(schema()["$defs"][part["$ref"].rpartition("/")[2]]["description"])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
