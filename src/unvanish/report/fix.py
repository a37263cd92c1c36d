"""The result of a search for cures in a terminal: answer, trials, proof, code."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from unvanish import words
from unvanish.i18n import _
from unvanish.records import Cure, CureStatus, Fix
from unvanish.report import fix_words
from unvanish.report.encodable import Encodable
from unvanish.report.prose import prose

WIDEST = 120
_SPARKS = "▁▂▃▄▅▆▇█"
_CURVE = 32  # columns of a curve of losses
_NAME, _WIDE = 24, 40  # columns that a name of a cure has at least and at most
_PREDICTED_FROM = 100  # columns of terminal from which predictions are shown too
_MARKS: dict[CureStatus, str] = {"proven": "+", "failed": "!", "refused": "-"}
_STYLES: dict[CureStatus, str] = {
    "proven": "bold green",
    "measured": "cyan",
    "tried": "yellow",
    "failed": "red",
}


def text(fix: Fix, width: int = 100) -> str:
    """Return the result as plain text, `width` columns wide."""
    written = io.StringIO()
    render(fix, Console(file=written, width=width, color_system=None, legacy_windows=False))
    return written.getvalue().rstrip("\n")


def render(fix: Fix, console: Console) -> None:
    """Print the result on `console`."""
    console.print(Report(fix), crop=False)  # lines of code are there to be copied


class Report:
    """A result for rich to print, at any width and on a terminal of any encoding."""

    def __init__(self, fix: Fix) -> None:
        self.fix = fix

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Encodable(Group(*map(prose, self._parts(min(options.max_width, WIDEST)))))

    def _parts(self, width: int) -> Iterator[RenderableType]:
        fix = self.fix
        yield Text(fix_words.before(fix))
        style = "bold green" if fix.best is not None or not fix.cures else "bold yellow"
        yield Text(fix_words.headline(fix), style=style)
        if fix.interrupted:
            yield Text(_("Interrupted: this is what was known by then."), style="bold yellow")
        if fix.cures:
            yield Text("")
            yield _ranking(fix, width)
            yield from _curves(fix, width)
            yield from (Text(line) for line in (fix_words.rates(fix), fix_words.tries(fix)) if line)
            if fix.random_search is not None:
                yield Text(fix_words.compared(fix.random_search))
            yield from _reasons(fix.cures)
            yield from _code(fix)
        yield from _listed(_("To be known of these trainings:"), fix.notes)
        yield from _listed(_("Sources:"), list(fix_words.citations(fix)))


# --- the table -----------------------------------------------------------------------------------


def _ranking(fix: Fix, width: int) -> Table:
    """Return the cures in ranked order, with what became of them."""
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    longest = max(words.width(words.printable(cure.name)) for cure in fix.cures)
    table.add_column(_("cure"), overflow="fold", min_width=min(longest, _NAME), max_width=_WIDE)
    table.add_column(_("outcome"), no_wrap=True)
    table.add_column(_("short"), justify="right", no_wrap=True)
    table.add_column(_("fresh seeds"), justify="right", no_wrap=True)
    table.add_column(_("better on"), no_wrap=True)
    predicts = width >= _PREDICTED_FROM
    if predicts:
        table.add_column(_("first layer's gradient"), no_wrap=True)
    for cure in fix.cures:
        row = [
            Text(words.printable(cure.name)),
            Text(fix_words.status_name(cure.status), style=_STYLES.get(cure.status, "dim")),
            Text(words.NONE if cure.screened is None else words.loss(cure.screened)),
            Text(words.NONE if cure.proof is None else fix_words.span(cure.proof.scores)),
            Text(fix_words.better_on(cure.proof)),
        ]
        if predicts:
            row.append(Text(fix_words.predicted(cure.predicted)))
        table.add_row(*row)
    short = words.NONE if fix.baseline_short is None else words.loss(fix.baseline_short)
    fresh = [score for seed, score in fix.baseline_scores.items() if seed != "0"]
    table.add_row(Text(_("(untreated)"), style="dim"), "", Text(short), Text(fix_words.span(fresh)))
    return table


# --- the curves ----------------------------------------------------------------------------------


def _curves(fix: Fix, width: int) -> Iterator[RenderableType]:
    """Yield the median loss over seeds against the steps, the untreated network's beside each."""
    proven = [cure for cure in fix.cures if cure.proof is not None]
    if not proven:
        return
    points = max(8, min(_CURVE, width // 3))
    lines = [
        (_("untreated"), fix_words.curves(fix, None)),
        *((words.printable(cure.name), fix_words.curves(fix, cure)) for cure in proven),
    ]
    bands = [(name, fix_words.band(curves, points)) for name, curves in lines]
    finite = [v for _name, band in bands for triple in band for v in triple if math.isfinite(v)]
    if not finite:
        return
    low, high = min(finite), max(finite)
    yield Text("")
    yield Text(
        _("Loss by step, median over seeds (from {low} to {high}); range at the end").format(
            low=words.loss(low), high=words.loss(high)
        ),
        style="dim",
    )
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, max_width=max(16, width // 3))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    for name, band in bands:
        end = [value for value in (band[-1][0], band[-1][2]) if math.isfinite(value)]
        last = fix_words.span(end) if end else _("not finite")
        table.add_row(Text(name), Text(_sparks(band, low, high)), Text(last))
    yield table
    yield Text("")


def _sparks(band: Sequence[tuple[float, float, float]], low: float, high: float) -> str:
    """Return the medians as one character each; "x" where they are not finite."""
    log = low > 0 and high / low > 30  # as the picture of the losses has it
    scale = math.log if log else float
    span = (scale(high) - scale(low)) or 1.0

    def one(value: float) -> str:
        if not math.isfinite(value):
            return "x"
        share = (scale(value) - scale(low)) / span
        return _SPARKS[min(len(_SPARKS) - 1, max(0, int(share * len(_SPARKS))))]

    return "".join(one(median) for _least, median, _greatest in band)


# --- in words ------------------------------------------------------------------------------------


def _reasons(cures: Sequence[Cure]) -> Iterator[RenderableType]:
    """Yield what each trained or refused cure does, and why it is not proven."""
    told = [cure for cure in cures if cure.status != "not-tried"]
    if told:
        yield Text("")
        yield Text(_("What was tried:"), style="bold")
    for cure in told:
        mark = _MARKS.get(cure.status, "·")
        line = Text.assemble(
            f"{mark} ",
            (words.printable(cure.name), "bold"),
            f" ({fix_words.applicability_name(cure.applicability)}): ",
            words.printable(cure.summary),
        )
        if why := fix_words.reason(cure):
            line.append(" " + why)
        if cure.note:
            line.append(" " + words.printable(cure.note))
        yield Padding(line, (0, 0, 0, 2))


def _code(fix: Fix) -> Iterator[RenderableType]:
    """Yield the lines of every proven cure; without one, of the best that was tried."""
    shown = [cure for cure in fix.cures if cure.status == "proven" and cure.code]
    if not shown:
        shown = [c for c in fix.cures if c.status in ("measured", "tried") and c.code][:1]
    for cure in shown:
        yield Text("")
        yield Text(
            _("{name}, after the model and the optimiser are built:").format(
                name=words.printable(cure.name)
            ),
            style="bold",
        )
        for line in cure.code.splitlines():
            # not wrapped: the lines are there to be copied
            yield Text("  " + words.printable(line), style="cyan", no_wrap=True, overflow="ignore")


def _listed(title: str, lines: Sequence[str]) -> Iterator[RenderableType]:
    if lines:
        yield Text("")
        yield Text(title, style="bold")
        yield from (Padding(Text(f"- {words.printable(line)}"), (0, 0, 0, 2)) for line in lines)
