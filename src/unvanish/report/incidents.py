"""What went wrong while a run went on, in one line each."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from unvanish import words
from unvanish.i18n import _
from unvanish.records import Incident, Run

_MOST = 8


def describe(incident: Incident) -> str:
    """Return what happened, and where it can be seen."""
    text = _described(incident)
    rank = incident.steps[-1].rank if incident.steps else 0
    return _("rank {rank}: {text}").format(rank=rank, text=text) if rank else text


def _described(incident: Incident) -> str:
    names = {"loss": _("loss"), "gradient": _("gradient"), "weight": _("weights")}
    quantity = names[incident.quantity]
    if incident.kind == "spike":
        show = words.loss if incident.quantity == "loss" else words.level
        return _("step {step}: a spike of the {quantity}: {value}, usually {usual}").format(
            step=incident.step,
            quantity=quantity,
            value=show(incident.value),
            usual=words.NONE if incident.usual is None else show(incident.usual),
        )
    text = _("step {step}: the {quantity} is not finite").format(
        step=incident.step, quantity=quantity
    )
    if incident.guilty is not None:
        text += _("; first in {op} of {module}").format(
            op=words.printable(incident.guilty.op),
            module=words.module_name(incident.guilty.module),
        )
    elif incident.parameter is not None:
        text += _("; first in the parameter {name}").format(
            name=words.printable(incident.parameter)
        )
    if incident.command:
        text += _("; to see that step: {command}").format(command=words.printable(incident.command))
    return text


def lines(run: Run) -> Iterator[RenderableType]:
    """Yield the incidents of `run` under a heading; nothing if there were none."""
    if not run.incidents:
        return
    yield Text("")
    yield Text(_("While it ran:"), style="bold")
    for incident in run.incidents[:_MOST]:
        yield Padding(Text(f"- {describe(incident)}"), (0, 0, 0, 2))
    if len(run.incidents) > _MOST:
        rest = len(run.incidents) - _MOST
        yield Padding(Text(_("- and {count} more").format(count=rest)), (0, 0, 0, 2))
