"""The report in a terminal: the verdict, the layers, the findings, the next command to type."""

from __future__ import annotations

import io
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from unvanish import words
from unvanish.i18n import _
from unvanish.records import Diagnosis, Evidence, Finding, Trace
from unvanish.report import evidence, focus, incidents, layers
from unvanish.report.encodable import Encodable
from unvanish.report.focus import Focus
from unvanish.report.prose import Prose, prose
from unvanish.report.table import layer_table

ROOM = 20  # lines that a table of layers takes at most, or nearly
WIDEST = 120
_SEVERITY = {"error": "bold red", "warning": "bold yellow", "info": "bold green"}


def text(diagnosis: Diagnosis, width: int = 100) -> str:
    """Return the report as plain text, `width` columns wide."""
    written = io.StringIO()
    render(diagnosis, Console(file=written, width=width, color_system=None, legacy_windows=False))
    return written.getvalue().rstrip("\n")


def render(diagnosis: Diagnosis, console: Console, *, saved: Path | None = None) -> None:
    """Print `diagnosis` on `console`; `saved` is the file that holds its run."""
    console.print(Report(diagnosis, saved))


@dataclass(frozen=True, slots=True)
class Report:
    """A diagnosis for rich to print, at any width and on a terminal of any encoding."""

    diagnosis: Diagnosis
    saved: Path | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Encodable(Group(*map(prose, self._parts(options.max_width))))

    def _parts(self, width: int) -> Iterator[RenderableType]:
        found = focus.models(self.diagnosis)
        several = len(found) > 1
        yield Text(focus.sentence(self.diagnosis), style=_style(self.diagnosis))
        yield from _training(found)
        for one in found:
            if one is found[0] or one.diagnosis.verdict != "healthy":
                yield from _model(one, min(width, WIDEST), several)
        yield from _findings(self.diagnosis, several)
        yield from incidents.lines(self.diagnosis.run)
        yield from _degradations(self.diagnosis)
        yield from _next(self.diagnosis, self.saved, width)


def _style(diagnosis: Diagnosis) -> str:
    if diagnosis.findings:
        return _SEVERITY[diagnosis.findings[0].severity]
    return "bold"


def _training(found: Sequence[Focus]) -> Iterator[Text]:
    if len(found) == 1:
        yield Text(focus.training(found[0]))
        return
    for one in found:
        yield Text(
            _("{model}: {verdict}. {training}").format(
                model=words.printable(one.run.name),
                verdict=words.verdict_name(one.diagnosis.verdict),
                training=focus.training(one),
            )
        )


def _model(one: Focus, width: int, several: bool) -> Iterator[RenderableType]:
    if one.trace is None:
        return
    yield Text("")
    yield Text(_caption(one, one.trace, several), style="dim")
    folded = layers.fold(focus.rows(one), ROOM)
    yield from layer_table(folded, width)
    yield from (Text(line) for line in focus.accounts(one.trace))


def _caption(one: Focus, trace: Trace, several: bool) -> str:
    kind = words.printable(one.run.type)
    parts = [
        f"{words.printable(one.run.name)} ({kind})" if several else kind,
        _("step {step}, loss {loss}").format(step=trace.step, loss=words.loss(trace.loss)),
        *([focus.optimizer(one.run.optimizer)] if one.run.optimizer else []),
        _("level: log₁₀ ‖∂L/∂output‖"),
    ]
    return " · ".join(parts)


# --- the findings --------------------------------------------------------------------------------


def _findings(diagnosis: Diagnosis, several: bool) -> Iterator[RenderableType]:
    said = focus.told(diagnosis)
    for finding in diagnosis.findings:
        style = _SEVERITY[finding.severity]
        yield Text("")
        yield Text.assemble(
            (f"{words.severity_name(finding.severity)} {finding.code}", style),
            "  ",
            _("the verdict above") if finding is said else focus.title_of(finding),
        )
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in _facts(finding, several):
            grid.add_row(Text(name), Prose(value))
        yield Padding(grid, (0, 0, 0, 2))


def _facts(finding: Finding, several: bool) -> Iterator[tuple[str, str]]:
    if several and finding.model:
        yield _("model"), words.printable(finding.model)
    if place := focus.where(finding.where):
        yield _("where"), words.shorten(place, 300)
    if finding.step is not None:
        yield _("step"), str(finding.step)
    if finding.factor is not None:
        yield _("factor"), words.factor_name(finding.factor)
    for position, one in enumerate(finding.evidence):
        yield (_("evidence") if position == 0 else ""), _evidence(one)
    if finding.remedy:
        yield _("remedy"), words.printable(finding.remedy)
    if finding.explains:
        yield _("explains"), ", ".join(finding.explains)


def _evidence(one: Evidence) -> str:
    text = f"{evidence.label(one.name)}: {evidence.value(one)}"
    if one.threshold is None:
        return text
    return _("{evidence} (threshold {threshold})").format(
        evidence=text, threshold=evidence.threshold(one)
    )


# --- what comes after ----------------------------------------------------------------------------


def _degradations(diagnosis: Diagnosis) -> Iterator[RenderableType]:
    notes = focus.degradations(diagnosis)
    if notes:
        yield Text("")
        yield Text(_("Not measured, or only in part:"), style="bold")
        yield from (Padding(Text(f"- {note}"), (0, 0, 0, 2)) for note in notes)


def _next(diagnosis: Diagnosis, saved: Path | None, width: int) -> Iterator[RenderableType]:
    commands: list[tuple[str, str]] = []
    if saved is not None:
        kept = saved.parent.name == ".unvanish"
        name = diagnosis.run.id if kept else shlex.quote(str(saved))
        commands.append((f"unvanish report {name} -o report.html", _("the pictures")))
    gravest = diagnosis.findings[0] if diagnosis.findings else None
    if gravest is not None and gravest.verdict != "healthy":
        commands.append((f"unvanish rule {gravest.code}", _("what this finding means")))
    if not commands:
        return
    yield Text("")
    yield Text(_("Next:"), style="bold")
    for command, meaning in commands:
        line = Text.assemble("  ", (command, "bold cyan"))
        if 2 + len(command) + 3 + words.width(meaning) <= width:
            line.append(f"   {meaning}", style="dim")
        yield line
