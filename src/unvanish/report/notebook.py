"""A diagnosis, or one pass, as it shows itself in a notebook: a compact fragment of HTML.

It takes its text colour from the notebook, light or dark, has no script and loads nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from unvanish import words
from unvanish.i18n import _
from unvanish.records import Diagnosis, Trace
from unvanish.report import focus, layers
from unvanish.report.focus import Focus
from unvanish.report.layers import Fold, Row
from unvanish.report.templating import environment

ROOM = 14  # lines of the table of layers
BAR = 84  # pixels of the longest bar
# Readable on white and on black alike (at least 3:1).
TONES = {"error": "#D55E00", "warning": "#B37700", "info": "#009E73"}


@dataclass(frozen=True, slots=True)
class Model:
    """What the fragment shows of one model."""

    focus: Focus
    table: tuple[Row | Fold, ...]
    accounts: tuple[str, ...]
    scale: layers.Scale

    def bar(self, level: float | None) -> int:
        """Return the length in pixels of the bar of a level."""
        return round(BAR * self.scale.share(level))


def repr_html(diagnosis: Diagnosis) -> str:
    """Return `diagnosis` as a fragment of HTML for a notebook's output."""
    fragment: str = (
        environment()
        .get_template("notebook.html.j2")
        .render(
            diagnosis=diagnosis,
            sentence=focus.sentence(diagnosis),
            models=[_model(one) for one in focus.models(diagnosis)],
            degradations=focus.degradations(diagnosis),
            tone=TONES[focus.severity(diagnosis)],
            tones=TONES,
        )
    )
    return fragment


def trace_html(trace: Trace) -> str:
    """Return one pass as a fragment of HTML: its table of layers, and what the signal loses."""
    caption = _("step {step}, loss {loss}").format(step=trace.step, loss=words.loss(trace.loss))
    fragment: str = (
        environment()
        .get_template("notebook_trace.html.j2")
        .render(one=_model(focus.alone(trace)), caption=caption, notes=trace.notes)
    )
    return fragment


def _model(one: Focus) -> Model:
    trace = one.trace
    if trace is None:
        return Model(one, (), (), layers.Scale(()))
    rows = focus.rows(one)
    folded = tuple(layers.fold(rows, ROOM))
    return Model(one, folded, tuple(focus.accounts(trace)), layers.Scale(rows))
