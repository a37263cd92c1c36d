"""`unvanish tail`: a run that goes on, live in the terminal."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unvanish.cli.options import json_option, lang_option
from unvanish.cli.output import show
from unvanish.errors import UsageError
from unvanish.i18n import _

if TYPE_CHECKING:
    from rich.console import Group

    from unvanish.records import Finding, Incident, Readings, StepRecord
    from unvanish.store import Progress

SCHEMA = 1  # of each line of JSON
_LOSSES = 60
_ROWS = 12


@click.command(
    "tail",
    short_help=_("follow a run that goes on, live in the terminal"),
    help=_(
        "Follow a run while it goes on: its loss, the gradients of its last sampled step, its"
        " alarms. Ends when the run does, or with Ctrl-C, which does not touch the run.\n\n"
        "RUN is the id of a run, the beginning of one, or `last`. With --json one JSON object a"
        " line is printed for each step and each alarm."
    ),
)
@click.argument("reference", metavar="RUN", default="last")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.05),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help=_("how often to look"),
)
@click.option("--once", is_flag=True, help=_("show what is there now, and end"))
@json_option
@lang_option
def command(reference: str, interval: float, once: bool, json_path: str | None) -> None:
    """Ask the store again and again, and show what came."""
    from unvanish import store

    if json_path not in (None, "-"):
        raise UsageError(
            _("tail writes its JSON to stdout only"), _("Redirect it: unvanish tail --json > FILE")
        )
    database, identity = store.database_of(reference, Path(".unvanish"))

    def looks() -> Iterator[Progress]:
        mark = 0
        while True:
            progress = database.progress(identity, mark)
            mark = progress.mark
            yield progress
            if once or progress.state != "running":
                return
            time.sleep(interval)

    try:
        if json_path is not None:
            _print_lines(looks())
        elif sys.stdout.isatty() and not once:
            _follow(looks())
        else:
            view = _View()
            for progress in looks():
                view.take(progress)
            show(view.picture(100))
    except KeyboardInterrupt:
        return


def _print_lines(looks: Iterator[Progress]) -> None:
    import json

    from unvanish import codec

    def line(kind: str, value: Any) -> None:
        plain = codec.to_plain(value)
        text = json.dumps({"schema": SCHEMA, "kind": kind, **plain}, ensure_ascii=False)
        print(text, flush=True)

    for progress in looks:
        for model, step in progress.steps:
            line("step", {"model": model, "record": step})
        for finding in progress.alarms:
            line("alarm", {"finding": finding})
        for incident in progress.incidents:
            line("incident", {"incident": incident})
        if progress.state != "running":
            line("end", {"state": progress.state})


def _follow(looks: Iterator[Progress]) -> None:
    from rich.console import Console
    from rich.live import Live

    console, view = Console(), _View()
    with Live(console=console, auto_refresh=False) as live:
        for progress in looks:
            view.take(progress)
            live.update(view.picture(console.width), refresh=True)


@dataclass(slots=True)
class _View:
    """What is on the screen."""

    progress: Progress | None = None
    steps: deque[StepRecord] = field(default_factory=lambda: deque(maxlen=_LOSSES))
    readings: dict[tuple[int, str], Readings] = field(default_factory=dict)
    alarms: list[Finding] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)

    def take(self, progress: Progress) -> None:
        """Take in what is new."""
        self.progress = progress
        self.steps.extend(step for model, step in progress.steps if model == 0)
        self.readings |= {(model, one.quantity): one for model, one in progress.readings}
        self.alarms += progress.alarms
        self.incidents += progress.incidents

    def picture(self, width: int) -> Group:
        """Return the whole screen."""
        from rich.console import Group
        from rich.text import Text

        from unvanish import words
        from unvanish.report.incidents import describe

        assert self.progress is not None
        states = {
            "running": _("running"),
            "finished": _("finished"),
            "killed": _("killed: it left no end"),
        }
        command = words.shorten(words.printable(" ".join(self.progress.command)), width - 40)
        parts: list[Any] = [
            Text.assemble((self.progress.id, "bold"), f"  {states[self.progress.state]}  {command}")
        ]
        if self.steps:
            parts.append(self._last_step())
        parts += self._tables()
        for finding in self.alarms:
            text = _("alarm {code}: {title}").format(code=finding.code, title=finding.title)
            parts.append(Text(words.printable(text), style="red"))
        parts += [Text(describe(incident), style="red") for incident in self.incidents]
        return Group(*parts)

    def _last_step(self) -> Any:
        from rich.text import Text

        from unvanish import words

        last = self.steps[-1]
        text = _("step {step}   loss {loss}   lr {lr}").format(
            step=last.step,
            loss=words.loss(last.loss),
            lr=", ".join(f"{rate:.3g}" for rate in last.lr) or words.NONE,
        )
        return Text(f"{text}   {_spark([step.loss for step in self.steps])}")

    def _tables(self) -> Iterator[Any]:
        from rich.table import Table
        from rich.text import Text

        from unvanish import words

        for (model, quantity), one in sorted(self.readings.items()):
            if quantity not in ("gradient", "level") or (
                quantity == "gradient" and (model, "level") in self.readings
            ):
                continue
            name = _("level by layer") if quantity == "level" else _("gradient by parameter")
            heading = _("{quantity} (log₁₀), step {step}").format(quantity=name, step=one.step)
            yield Text(heading, style="dim")
            table = Table(box=None, pad_edge=False, show_header=False)
            for place, value in _spread(list(zip(one.names, one.values, strict=True))):
                table.add_row(
                    Text(words.printable(place.removesuffix("#0"))), Text(words.level(value))
                )
            yield table


def _spread(rows: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """Return rows from the first to the last, evenly chosen where there are many."""
    if len(rows) <= _ROWS:
        return rows
    return [rows[round(i * (len(rows) - 1) / (_ROWS - 1))] for i in range(_ROWS)]


def _spark(values: list[float]) -> str:
    """Return a line of bars; `x` for what is not finite."""
    import math

    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return "x" * len(values)
    low, span = min(finite), (max(finite) - min(finite)) or 1.0
    bars = "▁▂▃▄▅▆▇█"
    return "".join(
        bars[min(7, int(8 * (value - low) / span))] if math.isfinite(value) else "x"
        for value in values
    )
