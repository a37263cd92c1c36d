"""Depth in time: what the same weights, used again on their own output, do to the signal.

For each recurrent weight a trace holds the level of the backward signal at every time step. The
fall or growth from the last step back to the first is what is judged: the weight gradients of a
recurrent net hide it, because the last steps dominate them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from unvanish.diagnose.phrases import linear, place
from unvanish.diagnose.sickness import Direction
from unvanish.diagnose.trunk import TrunkEdge
from unvanish.diagnose.trunk_findings import later_nonfinite
from unvanish.diagnose.view import TraceView, View
from unvanish.i18n import _
from unvanish.records import Evidence, Finding, Recurrence, Severity, Where
from unvanish.words import times

_GATED = ("lstm", "gru")


@dataclass(frozen=True, slots=True)
class OverTime:
    """The signal against time at one recurrent weight."""

    recurrence: Recurrence
    decades: float  # from the last time step back to the first: negative when lost
    steps: int  # time steps between the two

    @property
    def per_step_log10(self) -> float:
        """Mean gain a time step, in decades."""
        return self.decades / self.steps


def over_time(recurrence: Recurrence) -> OverTime | None:
    """Return the change over time; up to the last step that is not exactly zero.

    None where there is nothing to compare, or something is not finite.
    """
    levels = [step.level_log10 for step in recurrence.levels]
    if len(levels) < 2 or not math.isfinite(levels[-1]) or any(map(math.isnan, levels)):
        return None
    first = next(i for i, level in enumerate(levels) if math.isfinite(level))
    if first == len(levels) - 1:
        return None  # the output depends on the last step alone
    return OverTime(recurrence, levels[first] - levels[-1], len(levels) - 1 - first)


def recurrence_finding(view: View, direction: Direction, code: str, remedy: str) -> list[Finding]:
    """Return the finding that the signal vanishes or explodes over time, if it clearly does.

    It must show in two traces, or in the only one, or in any while training does not work.
    """
    sign = -1 if direction == "vanishing" else 1
    bound = view.limit(f"{direction}-clear")
    found: list[tuple[float, TraceView, OverTime]] = []
    looks = 0
    for trace in view.traces:
        changes = [item for each in trace.trace.recurrences if (item := over_time(each))]
        looks += bool(changes)
        worst = max(changes, key=lambda item: sign * item.decades, default=None)
        if worst is not None and sign * worst.decades >= bound:
            found.append((sign * worst.decades, trace, worst))
    needed = 1 if looks < 2 or view.training.not_working else 2
    if len(found) < needed:
        return []
    decades, trace, worst = sorted(found, key=lambda item: -item[0])[needed - 1]
    module = worst.recurrence.module
    row = next((row for row in trace.trace.layers if row.module == module), None)
    gated = row is not None and row.type.lower().startswith(_GATED)
    severity = _grade(decades, direction, view, gated=gated)
    first = min(item[1].step for item in found)
    return [
        Finding(
            code=code,
            family=code[:2],
            verdict=direction,
            severity=severity,
            title=_title(direction, worst, trace),
            where=Where(module, None, None, view.source(module)),
            factor="recurrence",
            evidence=(
                Evidence("time_ratio_log10", worst.decades, sign * bound),
                Evidence("gain_per_time_step", linear(worst.per_step_log10)),
                Evidence("time_steps", float(len(worst.recurrence.levels))),
                Evidence("training", view.training.state),
            ),
            remedy=remedy,
            model=view.model.name,
            step=first,
            explains=("UR101", "EG106", *later_nonfinite(view, direction, first)),
        )
    ]


def _grade(decades: float, direction: Direction, view: View, *, gated: bool) -> Severity:
    """Return how grave a change over time is.

    A net that learns from its last steps is not sick for forgetting the first ones, and the gates
    of an untrained LSTM forget by nature: only a training that does not work makes an error of a
    loss over time. Growth over time reaches the weights at once, and is judged like other growth.
    """
    if view.training.not_working:
        return "error"
    if direction == "exploding":
        hopeless = decades >= view.limit("exploding-hopeless")
        return "error" if hopeless and view.training.state == "too-short" else "warning"
    return "info" if gated or view.training.state == "falling" else "warning"


def _title(direction: Direction, worst: OverTime, trace: TraceView) -> str:
    if direction == "vanishing":
        text = _(
            "The backward signal shrinks {per_step} a time step in {where}, {ratio} over {steps}"
            " steps back in time{split}."
        )
    else:
        text = _(
            "The backward signal grows {per_step} a time step in {where}, {ratio} over {steps}"
            " steps back in time{split}."
        )
    return text.format(
        per_step=times(worst.per_step_log10),
        where=place(worst.recurrence.module),
        ratio=times(worst.decades),
        steps=worst.steps,
        split=_split(trace),
    )


def _split(trace: TraceView) -> str:
    """What the recurrent weights and what the slopes do, by edge of the path through time."""
    edges = trace.trunk.of("recurrence") if trace.trunk else []
    weights = [item for item in edges if item.edge.factor == "recurrence"]
    slopes = [item for item in edges if item.edge.factor == "slope"]
    if not weights or not slopes:
        return ""
    return _(" (weights {weights}, slope {slopes} each)").format(
        weights=times(_mean_gain(weights)), slopes=times(_mean_gain(slopes))
    )


def _mean_gain(edges: list[TrunkEdge]) -> float:
    return sum(item.edge.gain_log10 for item in edges) / len(edges)
