"""Writing a cure's lines into the user's source, where it is certain where they belong.

They belong behind the statement that builds the optimiser, `NAME = ….SGD(MODEL.parameters(), …)`:
there both are known by name. With no such statement, or several, nothing is written.
"""

from __future__ import annotations

import ast
import builtins
import textwrap
from dataclasses import dataclass

from unvanish.errors import UsageError
from unvanish.i18n import _

MARK = "# --- by unvanish fix: {name} ---"
FUNCTION = "unvanish_cure"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the model and the optimiser are known, and by what names."""

    line: int  # the last of the statement, from 1
    indent: int
    model: str
    optimizer: str


def written(source: str, code: str, name: str) -> str:
    """Return `source` with the lines of the cure `name` in their place.

    Raises UsageError where there is no certain place, where the lines need something beside the
    model and the optimiser, and where they are no program but a hint.
    """
    try:
        place = _place(ast.parse(source))
    except SyntaxError as error:
        raise _refused(_("the file is not Python: {error}").format(error=error.msg)) from error
    lacking = sorted(_free(ast.parse(code)) - {"model", "optimizer"})
    if lacking:
        raise _refused(_("the lines of {cure} need {names}").format(cure=name, names=lacking[0]))
    if not ast.parse(code).body:
        raise _refused(_("{cure} is an edit that you make by hand").format(cure=name))
    # A function of its own: an `import torch` in the middle of the user's would hide theirs.
    block = "\n".join(
        [
            MARK.format(name=name),
            f"def {FUNCTION}(model, optimizer):",
            textwrap.indent(code, "    "),
            "",
            f"{FUNCTION}({place.model}, {place.optimizer})",
            MARK.format(name="end"),
        ]
    )
    lines = source.splitlines(keepends=True)
    lines[place.line - 1] = lines[place.line - 1].rstrip("\r\n") + "\n"
    lines.insert(place.line, textwrap.indent(block, " " * place.indent) + "\n")
    found = "".join(lines)
    ast.parse(found)
    return found


def _place(tree: ast.Module) -> Place:
    places = [place for node in ast.walk(tree) if (place := _built(node)) is not None]
    if len(places) != 1:
        raise _refused(
            _(
                "{count} statements of the form optimizer = …(model.parameters(), …) were found,"
                " not one"
            ).format(count=len(places))
        )
    return places[0]


def _built(node: ast.AST) -> Place | None:
    """Return the place behind `NAME = call(MODEL.parameters(), …)`; None for anything else."""
    if not (isinstance(node, ast.Assign) and len(node.targets) == 1):
        return None
    target, value = node.targets[0], node.value
    if not (isinstance(value, ast.Call) and isinstance(target, ast.Name | ast.Attribute)):
        return None
    given = [*value.args[:1], *(word.value for word in value.keywords if word.arg == "params")]
    for one in given:
        called = one.func if isinstance(one, ast.Call) else None
        if isinstance(called, ast.Attribute) and called.attr == "parameters":
            return Place(
                node.end_lineno or node.lineno,
                node.col_offset,
                ast.unparse(called.value),
                ast.unparse(target),
            )
    return None


def _free(tree: ast.Module) -> set[str]:
    """Names that the lines use and do not make themselves."""
    made: set[str] = set(dir(builtins))
    used: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else made).add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            made |= {(one.asname or one.name).partition(".")[0] for one in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            made.add(node.name)
        elif isinstance(node, ast.arg):
            made.add(node.arg)
    return used - made


def _refused(reason: str) -> UsageError:
    return UsageError(
        _("nothing was written: {reason}").format(reason=reason),
        _("Paste the lines by hand, after the model and the optimiser are built."),
    )
