"""Pictures against time: the loss over the steps, the recurrent signal over the sequence."""

from __future__ import annotations

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from unvanish import words
from unvanish.figures import theme
from unvanish.i18n import _
from unvanish.records import Finding, Incident, Recurrence, StepRecord

MOST_POINTS = 2000  # of a line of losses
LOG_FROM = 30.0  # ratio of greatest to least loss from which its axis is logarithmic


def thin(steps: Sequence[StepRecord], most: int = MOST_POINTS) -> list[StepRecord]:
    """Return at most `most` of `steps`: the least and the greatest loss of every stretch.

    What is sampled, skipped or not finite is kept apart by the picture, so nothing is lost here
    but points that would lie between others.
    """
    finite = [step for step in steps if math.isfinite(step.loss)]
    if len(finite) <= most:
        return finite
    size = -(-2 * len(finite) // most)
    kept: list[StepRecord] = []
    for start in range(0, len(finite), size):
        stretch = finite[start : start + size]
        ends = {min(stretch, key=lambda s: s.loss), max(stretch, key=lambda s: s.loss)}
        kept += sorted(ends, key=lambda step: step.step)
    return kept


def loss(
    steps: Sequence[StepRecord],
    incidents: Sequence[Incident] = (),
    alarms: Sequence[Finding] = (),
) -> go.Figure | None:
    """Draw the loss by step; sampled, skipped and non-finite steps, incidents and alarms marked."""
    if len(steps) < 2:
        return None
    line = thin(steps)
    values = [step.loss for step in line]
    figure = theme.figure(_("The loss, and the sampled steps"), _("step"), _("loss"), height=340)
    figure.add_trace(
        theme.points(
            _("loss"),
            [step.step for step in line],
            values,
            [_hover(step) for step in line],
            color=theme.BLUE,
            mode="lines",
        )
    )
    low, high = min(values, default=0.0), max(values, default=0.0)
    marks = (
        (_("sampled"), [s for s in steps if s.sampled], theme.VERMILLION, "circle"),
        (_("skipped by the scaler"), [s for s in steps if s.skipped], theme.GREEN, "diamond"),
        (
            _("not finite"),
            [s for s in steps if not math.isfinite(s.loss)],
            theme.PURPLE,
            "x",
        ),
    )
    for label, found, color, symbol in marks:
        if found:
            figure.add_trace(
                theme.points(
                    label,
                    [step.step for step in found],
                    [step.loss if math.isfinite(step.loss) else high for step in found],
                    [_hover(step) for step in found],
                    color=color,
                    symbol=symbol,
                    mode="markers",
                )
            )
    _mark_events(figure, line, incidents, alarms)
    if low > 0 and high / low > LOG_FROM:
        figure.update_yaxes(type="log", dtick=1)
    return figure


def _mark_events(
    figure: go.Figure,
    line: Sequence[StepRecord],
    incidents: Sequence[Incident],
    alarms: Sequence[Finding],
) -> None:
    """Mark on the line of losses what was noticed while the run went on."""
    happened = [(incident.step, _event(incident)) for incident in incidents]
    raised = [
        (alarm.step, f"{alarm.code}: {theme.safe(words.shorten(words.printable(alarm.title), 90))}")
        for alarm in alarms
        if alarm.step is not None
    ]
    for label, found, color, symbol in (
        (_("incident"), happened, theme.ORANGE, "star"),
        (_("alarm"), raised, theme.PURPLE, "triangle-up"),
    ):
        if found and line:
            nearest = [min(line, key=lambda one: abs(one.step - step)) for step, _text in found]
            figure.add_trace(
                theme.points(
                    label,
                    [step for step, _text in found],
                    [one.loss for one in nearest],
                    [
                        f"<b>{label}, {_('step {step}').format(step=step)}</b><br>{text}"
                        for step, text in found
                    ],
                    color=color,
                    symbol=symbol,
                    mode="markers",
                ).update(marker={"size": 12})
            )


def _event(incident: Incident) -> str:
    names = {"loss": _("loss"), "gradient": _("gradient"), "weight": _("weights")}
    spike = incident.kind == "spike"
    text = _("a spike of the {quantity}") if spike else _("the {quantity} is not finite")
    return text.format(quantity=names[incident.quantity])


def _hover(step: StepRecord) -> str:
    return "<br>".join(
        [
            f"<b>{_('step {step}').format(step=step.step)}</b>",
            _("loss {loss}").format(loss=words.loss(step.loss)),
        ]
    )


def recurrence(found: Sequence[Recurrence]) -> go.Figure | None:
    """Draw the level of the backward signal at every time step, one line a recurrent weight."""
    found = [one for one in found if one.levels]
    if not found:
        return None
    figure = theme.figure(
        _("The recurrent signal against time"),
        _("time step: the first (left) to the last (right)"),
        _("level (powers of ten)"),
        height=360,
    )
    colors = (theme.BLUE, theme.VERMILLION, theme.GREEN, theme.PURPLE, theme.ORANGE, theme.SKY)
    symbols = ("circle", "square", "diamond", "cross", "triangle-up", "star")
    for position, one in enumerate(found):
        label = theme.safe(words.shorten(words.printable(one.weight), 40))
        figure.add_trace(
            theme.points(
                label,
                [point.step for point in one.levels],
                [point.level_log10 for point in one.levels],
                [
                    f"<b>{label}</b><br>"
                    + _("time step {step}").format(step=point.step)
                    + "<br>"
                    + _("level {level}").format(level=words.level(point.level_log10))
                    for point in one.levels
                ],
                color=colors[position % len(colors)],
                symbol=symbols[position % len(symbols)],
            )
        )
    figure.update_layout(showlegend=True)
    return figure
