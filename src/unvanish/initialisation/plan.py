"""What `init_` is about to do, or has done: a row for each parameter."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from unvanish import words
from unvanish.i18n import _
from unvanish.report.prose import Prose
from unvanish.shown import Shown

if TYPE_CHECKING:
    from rich.console import RenderableType

Action = Literal["set", "kept"]
Source = Literal["batch", "guessed input", "module order"]


@dataclass(frozen=True, slots=True)
class InitRow:
    """One parameter, under its first name.

    `before` and `after` are root mean squares of its entries; `after` is `before` where it is left
    alone. The gains are measured on the batch, after the correction: `forward_gain` is the root
    mean square of this layer's output over that of the layer before, `backward_gain` that of
    ∂L/∂(output of the layer before) over ∂L/∂(output), through this weight and the activation in
    front of it (norms over the whole batch); None where they were not measured, or where no layer
    comes before. They are meant to be 1; of a weight that ends a residual branch, the branch's
    scale.
    """

    parameter: str
    shape: tuple[int, ...]
    action: Action
    what: str
    why: str
    before: float
    after: float
    follows: str = ""  # what was found in front of it, in words
    feeds: str = ""  # what was found behind it
    forward_gain: float | None = None
    backward_gain: float | None = None
    corrected: float | None = None  # by how much the batch changed the planned scale; None: not


@dataclass(frozen=True, slots=True, repr=False)
class InitPlan(Shown):
    """The plan: rows in the order of registration, and what could not be known.

    `applied` is False after a dry run. `structure` says where the structure was read from.
    `tolerance` is that of the measured gains: |gain − 1|, where a batch was given.
    """

    scheme: str
    rows: tuple[InitRow, ...]
    notes: tuple[str, ...]
    structure: Source
    measured: bool
    tolerance: float
    applied: bool

    def __getitem__(self, parameter: str) -> InitRow:
        """Return the row of a parameter by its name. Raises KeyError."""
        for row in self.rows:
            if row.parameter == parameter:
                return row
        raise KeyError(parameter)

    @property
    def changed(self) -> tuple[InitRow, ...]:
        """Return the rows whose parameters get new values."""
        return tuple(row for row in self.rows if row.action == "set")

    @property
    def left_alone(self) -> tuple[InitRow, ...]:
        """Return the rows whose parameters stay as they are; `why` says for what reason."""
        return tuple(row for row in self.rows if row.action == "kept")

    def __repr__(self) -> str:
        done = "set" if self.applied else "planned"
        return f"<InitPlan {self.scheme}: {len(self.changed)} of {len(self.rows)} {done}>"

    def _fragment(self) -> str:
        from unvanish.report.rich_html import to_html

        return to_html(plan_view(self))

    def __str__(self) -> str:
        """Return the plan as a table of text."""
        from rich.console import Console

        sheet = io.StringIO()
        console = Console(file=sheet, width=160, highlight=False, markup=False, emoji=False)
        for part in plan_view(self):
            console.print(part)
        return "\n".join(line.rstrip() for line in sheet.getvalue().splitlines())


def plan_view(plan: InitPlan) -> Sequence[RenderableType]:
    """Return the plan as rich renderables: a headline, the table, the notes."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="dim")
    heads = (_("parameter"), _("scale"), _("what"), _("why"), _("forward"), _("backward"))
    for column, head in enumerate(heads):
        table.add_column(
            Text(head),
            justify="right" if column in (4, 5) else "left",
            no_wrap=column in (1, 4, 5),
            overflow="fold",
        )
    for row in plan.rows:
        style = "dim" if row.action == "kept" else ""
        cells = (
            words.printable(row.parameter),
            _scale(row),
            row.what,
            row.why,
            _gain(row.forward_gain),
            _gain(row.backward_gain),
        )
        table.add_row(*(Prose(cell, style) for cell in cells))
    return (
        Text(headline(plan), style="bold"),
        table,
        *(Text(f"• {note}") for note in plan.notes),
    )


def headline(plan: InitPlan) -> str:
    """Return the plan in one sentence."""
    done = _("set") if plan.applied else _("would be set (dry run, nothing was changed)")
    return _(
        "{count} of {all} parameters {done}, scheme {scheme}; structure read from {source}"
    ).format(
        count=len(plan.changed),
        all=len(plan.rows),
        done=done,
        scheme=plan.scheme,
        source=_source(plan.structure),
    )


def _source(source: Source) -> str:
    return {
        "batch": _("a trace of the batch"),
        "guessed input": _("a trace of random input"),
        "module order": _("the order of modules"),
    }[source]


def _scale(row: InitRow) -> str:
    if row.action == "kept":
        return f"{row.before:.3g}"
    return f"{row.before:.3g} → {row.after:.3g}"


def _gain(value: float | None) -> str:
    return "" if value is None else f"×{value:.3f}"
