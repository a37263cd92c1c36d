"""Dead units: which layers are dead, by more than chance, and which of them is the culprit.

A dead layer makes the layers in front of it starve (no gradient reaches them, so nothing can be
said of their slopes) and the layers behind it idle (they see a constant, and each of their units is
on for all samples or off for all). The culprit is the layer that died first; of several that
died by the same step, the first in forward order.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from unvanish.diagnose.trunk import is_rectifier
from unvanish.diagnose.view import TraceView, View
from unvanish.records import LayerSignal

_LOOKS = 3  # the last traces, in all of which a unit's layer must look dead


@dataclass(frozen=True, slots=True)
class DeadLayer:
    """A layer with more dead units than chance explains."""

    row: LayerSignal  # in the last trace
    share: float  # of dead units: the least of the last looks
    units: int | None  # None where no gradient ever arrived
    whole: bool  # dead, or as good as dead, from end to end
    first_step: int  # when it was first seen so
    since_start: bool  # in the first trace already

    @property
    def alive(self) -> int:
        """Number of units that still answer."""
        return round((self.units or 0) * (1 - self.share))


def dead_layers(view: View) -> list[DeadLayer]:
    """Return the dead layers, the culprit first; wholly dead ones before those that are not."""
    traces = [trace for trace in view.traces if trace.trace.layers]
    looks = [dict(_shares(trace)) for trace in traces]
    found = []
    for key, (row, _share) in looks[-1].items() if looks else ():
        share = min(look[key][1] for look in looks[-_LOOKS:] if key in look)
        # The units are not known where no gradient arrives any more.
        units = next((look[key][0].units for look in looks if key in look), None)
        if _beyond_chance(view, row, units, share):
            since = _since(looks, key, share)
            whole = share >= view.limit("dead-mostly")
            layer = DeadLayer(row, share, units, whole, traces[since].step, since == 0)
            found.append(layer)
    return sorted(found, key=lambda layer: (layer.alive > 0, not layer.whole, layer.first_step))


def chance(dead: int, units: int) -> float:
    """Return the probability of at least `dead` of `units` being off for every sample by chance.

    The null case is a layer whose samples all look alike: each unit is then off for all of them
    with probability one half.
    """
    if dead <= 0:
        return 1.0
    # In logarithms: the exact binomials of a thousand units took a second of a judgement.
    whole = math.lgamma(units + 1) - units * math.log(2)
    return sum(
        math.exp(whole - math.lgamma(k + 1) - math.lgamma(units - k + 1))
        for k in range(dead, units + 1)
    )


_Key = tuple[str, int, str | None, int]  # module, call, functional op, number of that op
_Look = dict[_Key, tuple[LayerSignal, float]]


def _shares(trace: TraceView) -> Iterator[tuple[_Key, tuple[LayerSignal, float]]]:
    """The dead share of each rectifier: by its slopes, or by an output that is 0 throughout.

    Not where it is fed nothing but zeros, behind a layer whose weights are not zero: that is a
    victim, or sits in a branch that starts at zero by design.
    """
    counts: Counter[tuple[str, int, str | None]] = Counter()
    fed_zeros = False
    for row in trace.trace.layers:
        if row.weight_log10 is not None:
            fed_zeros = row.forward_rms == 0 and math.isfinite(row.weight_log10)
        if not is_rectifier(row, row.op):
            continue
        place = (row.module, row.call, row.op)
        key = (*place, counts[place])
        counts[place] += 1
        if row.dead_share is not None:
            yield key, (row, row.dead_share)
        elif row.forward_rms == 0 and not fed_zeros:
            yield key, (row, 1.0)


def _beyond_chance(view: View, row: LayerSignal, units: int | None, share: float) -> bool:
    samples = view.traces[-1].trace.batch_size
    if share == 1 or units is None:
        return True
    dead = round(share * units)
    few = units - dead < view.limit("dead-few-alive") and share >= 0.5
    # A gate beside the trunk, narrow by design, counts only where training is known not to work.
    stuck = not view.training.works if row.on_main_path else view.training.not_working
    if few and (stuck or view.training.rests_high):
        return True
    if samples is not None and samples < view.limit("dead-min-samples"):
        return False
    return chance(dead, units) <= view.limit("dead-chance")


def _since(looks: list[_Look], key: _Key, share: float) -> int:
    """Index of the trace from which on the layer is as dead as it is at the end."""
    first = len(looks) - 1
    for i in reversed(range(len(looks))):
        if key not in looks[i] or looks[i][key][1] < 0.9 * share:
            break
        first = i
    return first
