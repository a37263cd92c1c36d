"""A trunk that loses or blows up the signal: how much, since when, and by which factors.

Depth in time is judged apart (`recurrence.py`): what recurrent weights do is left out here.

The rules of the families VG and EG each stand for one factor; what they share is here: the measure
(decades over the trunk), its severity, the shares of the factors, and the sentence that says it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from unvanish.diagnose.trunk import Part, Trunk, TrunkEdge, part_blame
from unvanish.records import Severity

if TYPE_CHECKING:
    from unvanish.diagnose.view import TraceView, View

Direction = Literal["vanishing", "exploding"]

# which rule stands for which part, so that the greatest leads and claims the others
CODES: dict[Direction, dict[Part, str]] = {
    "vanishing": {
        "slope": "VG101",
        "saturation": "VG102",
        "weight": "VG103",
        "norm": "VG105",
        "off": "DU101",
        "attention": "VG106",
        "gate": "VG106",
        "merge": "VG106",
        "scale": "VG106",
        "opaque": "VG106",
    },
    "exploding": {
        "weight": "EG101",
        "merge": "EG103",
        "norm": "EG104",
        "slope": "EG105",
        "saturation": "EG105",
        "off": "EG105",
        "attention": "EG105",
        "gate": "EG105",
        "scale": "EG105",
        "opaque": "EG105",
    },
}
_GRAVITY: dict[Severity, int] = {"info": 0, "warning": 1, "error": 2}
_SIDE_PATH_LAYERS = 3  # a path from a further source is judged from so many ops of its own on
# What a normalisation's growth by design is booked under: the theory gives the product only.
_BY_DESIGN: tuple[Part, ...] = ("norm", "off", "slope", "merge")


@dataclass(frozen=True, slots=True)
class Sickness:
    """What is wrong with the trunk, at the first step at which it is as grave as it gets."""

    direction: Direction
    view: TraceView
    trunk: Trunk
    decades: float  # lost (vanishing) or gained (exploding), by what is not by design
    first_step: int
    parts: Mapping[Part, float]  # decades in the sick direction, greatest first
    severity: Severity

    @property
    def leader(self) -> Part:
        """The part with the greatest share."""
        return next(iter(self.parts))

    def share(self, part: Part) -> float:
        """Return the share of `part` in what its kind lost or gained, 0 to 1."""
        if math.isinf(self.parts.get(part, 0.0)):
            return 1.0
        return self.parts.get(part, 0.0) / sum(self.parts.values())

    def worst(self, part: Part) -> TrunkEdge:
        """Return the edge that adds most to `part`."""
        sign = -1 if self.direction == "vanishing" else 1
        if self.trunk.cut is not None and math.isinf(self.parts[part]):
            return self.trunk.cut
        return max(self.trunk.of(part), key=lambda item: sign * part_blame(item, part))

    def gain_log10(self, part: Part) -> float:
        """Return the mean gain of the ops counted as `part`, in decades."""
        return self.trunk.gains[part] / max(1, len(self.trunk.of(part)))

    def needed_log10(self, part: Part) -> float:
        """Return the mean gain of such ops that would keep the signal, in decades."""
        reference = self.trunk.gains[part] - self.trunk.blame[part]
        return reference / max(1, len(self.trunk.of(part)))


def middling(view: View, sick: Sickness) -> bool:
    """Whether `sick` counts only because training is stuck: by itself it is not clear.

    Then whatever stops training by itself (a dead layer, samples that have become one) is nearer
    to the root of the trouble.
    """
    return sick.decades < view.limit(f"{sick.direction}-clear")


def later_codes(view: View, step: int) -> list[str]:
    """Return the codes of what came over the signal at or after `step`: it may come of a fault."""
    codes: list[str] = []
    for sick in (view.vanishing, view.exploding):
        if sick is not None and sick.first_step >= step:
            codes += CODES[sick.direction].values()
    return list(dict.fromkeys(codes))


def find_sickness(view: View, direction: Direction) -> Sickness | None:
    """Return what is wrong in one direction, or None.

    It must show in two traces (one, if there is one only or if training does not work): a single
    odd batch in the middle of a good run is no finding.
    """
    mild = view.limit(f"{direction}-mild")
    judged = [trace for trace in view.traces if trace.trunks]
    seen: list[tuple[float, TraceView, Trunk]] = []
    for trace in judged:
        lost, trunk = _worst(trace, direction, view)
        if lost >= mild:
            seen.append((lost, trace, trunk))
    # What a network is from the start is no odd batch, and a run that comes to little no good one.
    started_so = view.training.halting and bool(seen) and seen[0][1] is judged[0]
    needed = 1 if len(judged) < 2 or view.training.not_working or started_so else 2
    if len(seen) < needed:
        return None
    severity = grade(sorted(item[0] for item in seen)[-needed], direction, view)
    # The first step that is as grave shows the cause; later ones show what came of it.
    decades, trace, trunk = next(
        item for item in seen if _GRAVITY[grade(item[0], direction, view)] >= _GRAVITY[severity]
    )
    if trunk is not trace.trunk and severity == "error" and not view.training.not_working:
        severity = "warning"  # other inputs may still teach the network
    parts = _parts(trunk, direction)
    first = min(item[1].step for item in seen)
    return Sickness(direction, trace, trunk, decades, first, parts, severity)


def grade(decades: float, direction: Direction, view: View) -> Severity:
    """Return how grave `decades` are, given what training does and what the optimiser copes with.

    What training does decides the middle ground: the same loss of signal is an error where training
    is stuck, a warning where the loss falls nevertheless. An optimiser that rescales copes with
    more decades ("adaptive-factor"), and where it visibly does, only what comes halfway to its
    bound is a warning. Where the loss falls by less than half of its start, that is no proof:
    halfway to its bound is then an error. And where next to nothing of the loss is left, or half of
    it and it falls on, the network is taught in spite of it: a remark.
    """
    arrived, end = view.limit("training-arrived"), view.training.end
    above = 0.0 if view.guess is None or end is None else end / view.guess
    if direction == "exploding" and 0 < above <= arrived:
        return "info"  # a cross-entropy far below that of a guess, however it began
    if decades >= error_from(direction, view):
        return "error"
    # A start that was blown up itself is soon left behind: an exploding net must fall twice as far,
    # and no net has learnt that does no better than a guess.
    arrived = arrived ** (2 if direction == "exploding" else 1)
    falls_on = view.training.left <= 0.5 and not view.training.resting
    if above < 1 and (view.training.left <= arrived or falls_on):
        return "info"
    clear = view.limit(f"{direction}-clear")
    if view.training.works and not view.training.halting:
        clear *= (1 + _cope(view)) / 2
    return "warning" if decades >= clear else "info"


def error_from(direction: Direction, view: View) -> float:
    """Return the decades from which on a loss or growth of signal is an error."""
    cope = _cope(view)
    clear = view.limit(f"{direction}-clear")
    if view.training.not_working:
        return view.limit(f"{direction}-mild") * cope
    if view.training.state == "falling" and not view.training.halting:
        return view.limit(f"{direction}-hopeless") * cope
    if view.training.state == "falling":
        return clear * (1 + cope) / 2
    return clear * cope


def _cope(view: View) -> float:
    """How many times as many decades the optimiser copes with."""
    return view.limit("adaptive-factor") if view.rescales else 1.0


def _worst(trace: TraceView, direction: Direction, view: View) -> tuple[float, Trunk]:
    """The main trunk, unless only one of a further source is clearly sick.

    Beside trunks that keep the signal, the others are judged by what they do not share with any of
    them: a table of relative positions or a mask, which reaches the trunk through one gate or
    attention, is a side branch by design.
    """
    sign = -1 if direction == "vanishing" else 1
    mild, clear = view.limit(f"{direction}-mild"), view.limit(f"{direction}-clear")
    found = [(_decades(trunk, direction, view), trunk) for trunk in trace.trunks]
    sound = [trunk for decades, trunk in found if decades < mild]
    if not sound:
        return found[0]
    for decades, trunk in found:
        if decades < mild:
            continue
        layers, own = min(trunk.own(other) for other in sound)
        apart = sign * own if math.isfinite(decades) else decades
        if math.isfinite(decades) and decades - apart >= mild:
            return decades, trunk  # what they share is sick: the other is only made up for
        bound = mild if trunk is trace.trunk else clear
        if layers >= _SIDE_PATH_LAYERS and min(apart, decades) >= bound:
            return min(apart, decades), trunk
    return next((decades, trunk) for decades, trunk in found if trunk is sound[0])


def _decades(trunk: Trunk, direction: Direction, view: View) -> float:
    if direction == "vanishing":
        if trunk.stopped_by is not None:
            return math.inf
        return -trunk.ratio_in_space
    ratio = trunk.ratio_in_space - trunk.growth_at_source
    bound = view.limit("norm-growth-limit")
    if view.training.not_working or view.training.halting:
        bound = view.limit("norm-growth-limit-stuck")
    if ratio >= bound:
        return ratio
    norms = sum(item.edge.factor == "norm" for item in trunk.of("norm"))
    by_norms = max(0.0, sum(trunk.blame.get(part, 0.0) for part in _BY_DESIGN)) if norms else 0.0
    return ratio - min(by_norms, norms * view.limit("exploding-norm-allowance"))


def _parts(trunk: Trunk, direction: Direction) -> dict[Part, float]:
    sign = -1 if direction == "vanishing" else 1
    parts: dict[Part, float] = {}
    for sums in (trunk.blame, trunk.gains):  # gains only if no part is to blame beyond its nature
        parts = parts or {
            part: sign * decades
            for part, decades in sums.items()
            if sign * decades > 0 and part != "recurrence"
        }
    if direction == "vanishing" and trunk.stopped_by is not None:
        parts[trunk.stopped_by] = math.inf
    return dict(sorted(parts.items(), key=lambda item: -item[1]))
