"""Write docs/json.md and docs/json-fix.md from the schemas: `python docs/write_json_page.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unvanish.report import document, fix_document

PAGE = Path(__file__).with_name("json.md")
FIX_PAGE = Path(__file__).with_name("json-fix.md")

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

FIX_INTRODUCTION = """\
# The JSON contract of `unvanish fix`

`unvanish fix --json FILE` writes one JSON document, `unvanish.report.fix_document.document` makes
it from a result's `record`. The same as a JSON Schema (draft 2020-12) is in the package as
`unvanish/report/fix_schema.json`; a test keeps both together (this page is written by
`python docs/write_json_page.py`). What is said of versions, numbers and names in
[json.md](json.md) holds here too.

```python
import json

found = json.load(open("fix.json"))
if found["best"] is not None:
    best = found["cures"][0]
    print(best["proof"]["beaten"], "of", len(best["proof"]["seeds"]), "seeds")
    print(best["code"])
```
"""


def page() -> str:
    """Return the text of the page on diagnoses."""
    return _page(INTRODUCTION, document.schema())


def fix_page() -> str:
    """Return the text of the page on `unvanish fix`."""
    return _page(FIX_INTRODUCTION, fix_document.schema())


def _page(introduction: str, whole: dict[str, Any]) -> str:
    parts = [introduction, _section("The document", whole, whole)]
    parts += [
        _section(name, part, whole) if "properties" in part else _kind(name, part)
        for name, part in sorted(whole["$defs"].items())
    ]
    return "\n".join(parts)


def _section(title: str, part: dict[str, Any], whole: dict[str, Any]) -> str:
    rows = [
        f"| `{key}` | {_type(child)} | {_description(child, whole)} |"
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


def _description(part: dict[str, Any], whole: dict[str, Any]) -> str:
    if "description" in part:
        return str(part["description"]).replace("|", "\\|")
    return str(whole["$defs"][part["$ref"].rpartition("/")[2]]["description"])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    FIX_PAGE.write_text(fix_page(), encoding="utf-8")
