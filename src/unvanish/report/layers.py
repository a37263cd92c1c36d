"""The table of layers: its rows, its flags, and how a long table folds onto one screen."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from unvanish import words
from unvanish.i18n import _
from unvanish.records import Finding, LayerPrediction, LayerSignal, MainPath, Where

# Shares from which a row is flagged. They decide what is shown, never what is found.
SATURATED = 0.1
DEAD = 0.05
OFF = 0.9  # a ReLU is off for half its inputs and healthy
ALIKE = 0.15  # decades by which the gains of two layers may differ and still be "like these"
NOTHING = 0.02  # decades: a gain that is written ×1.0
LONGEST_BLOCK = 32  # module calls in a repeated block; a transformer block has about twenty
FEWEST_REPEATS = 3


@dataclass(frozen=True, slots=True)
class Flag:
    """Something remarkable about a layer: its kind, and how it is written."""

    kind: str  # "saturated", "dead", "off", "opaque"
    text: str  # "saturated 87 %"


@dataclass(frozen=True, slots=True)
class Row:
    """One module call as a line of the table."""

    signal: LayerSignal
    codes: tuple[str, ...] = ()  # of the findings that point here
    flags: tuple[Flag, ...] = ()
    predicted_log10: float | None = None  # the gain that theory predicts

    @property
    def rows(self) -> tuple[Row, ...]:
        """The row itself, so that rows and folds can be added up alike."""
        return (self,)

    @property
    def gain_log10(self) -> float:
        """Its part of the main path; 0 where it lies beside the path or was not measured."""
        signal = self.signal
        return (signal.gain_log10 or 0.0) if signal.on_main_path else 0.0


@dataclass(frozen=True, slots=True)
class Fold:
    """Neighbouring rows that one line stands for: `repeats` blocks of `period` rows.

    `period` 0 means that they are no repetition of anything.
    """

    rows: tuple[Row, ...]
    period: int = 0

    @property
    def repeats(self) -> int:
        """How many blocks it holds."""
        return len(self.rows) // self.period if self.period else 1

    @property
    def gain_log10(self) -> float:
        """Log-gain over all its rows that lie on the main path."""
        return _sum(row.gain_log10 for row in self.rows)

    @property
    def text(self) -> str:
        """The line of the table: "… 178 layers like these, ×0.14 each, ×2.1e-9 in all"."""
        count = len(self.rows)
        total = words.times(self.gain_log10)
        if not self.period:
            return _("… {count} more layers, {total} in all").format(count=count, total=total)
        blocks = [self.rows[i : i + self.period] for i in range(0, count, self.period)]
        gains = [_sum(row.gain_log10 for row in block) for block in blocks]
        each = words.times(_sum(gains) / len(gains))
        if max(gains) - min(gains) > ALIKE:
            each = _("{low} to {high}").format(
                low=words.times(min(gains)), high=words.times(max(gains))
            )
        if self.period == 1:
            return _("… {count} layers like these, {each} each, {total} in all").format(
                count=count, each=each, total=total
            )
        return _(
            "… {count} layers like these: {repeats} blocks of {period}, {each} each, {total} in all"
        ).format(count=count, repeats=self.repeats, period=self.period, each=each, total=total)


def rows(
    layers: Sequence[LayerSignal],
    findings: Sequence[Finding] = (),
    always_dead: Mapping[str, float] | None = None,
    predictions: Sequence[LayerPrediction] = (),
) -> list[Row]:
    """Return a row for each of `layers`, marked with the codes of the findings that point there.

    `always_dead` has the shares of units that were off in every traced batch, by "module#call";
    where it has none, those of the one batch count.
    """
    found = []
    predicted = _predicted(layers, predictions)
    for signal, gain in zip(layers, predicted, strict=True):
        here = (finding.code for finding in findings if _points_at(finding.where, signal))
        dead = (always_dead or {}).get(f"{signal.module}#{signal.call}", signal.dead_share)
        found.append(Row(signal, tuple(dict.fromkeys(here)), flags(signal, dead), gain))
    return found


def _predicted(
    layers: Sequence[LayerSignal], predictions: Sequence[LayerPrediction]
) -> list[float | None]:
    """Return the predicted gain of each layer; None: not predicted, or not told apart.

    A module call has the gain of all its ops. Functional ops of one name in one module stand in
    forward order in both lists, and are matched only where both have as many.
    """
    calls: dict[tuple[str | None, int], list[LayerPrediction]] = {}
    for one in predictions:
        calls.setdefault((one.module, one.call), []).append(one)
    counts = Counter((layer.module, layer.call, layer.op) for layer in layers)
    seen: Counter[tuple[str, int, str | None]] = Counter()
    found: list[float | None] = []
    for layer in layers:
        key = (layer.module, layer.call, layer.op)
        here = calls.get(key[:2], [])
        if layer.op is not None:
            here = [one for one in here if one.op == layer.op]
            here = here[seen[key] : seen[key] + 1] if len(here) == counts[key] else []
        seen[key] += 1
        gains = [one.predicted_log10 for one in here]
        known = [gain for gain in gains if gain is not None]
        found.append(_sum(known) if known and len(known) == len(gains) else None)
    return found


def _points_at(place: Where, signal: LayerSignal) -> bool:
    return (
        place.module == signal.module
        and place.call in {None, signal.call}
        and (signal.op is None or place.op in {None, signal.op})
    )


def flags(signal: LayerSignal, dead_share: float | None) -> tuple[Flag, ...]:
    """Return what is remarkable about a layer, of whose units `dead_share` are dead."""
    shares = (
        ("saturated", _("saturated {share}"), signal.saturated_share, SATURATED),
        ("dead", _("dead {share}"), dead_share, DEAD),
        ("off", _("off {share}"), signal.off_share, OFF),
    )
    found = [
        Flag(kind, text.format(share=words.percent(share)))
        for kind, text, share, least in shares
        if share is not None and share >= least
    ]
    if signal.opaque:
        found.append(Flag("opaque", _("opaque")))
    return tuple(found)


def factor_parts(signal: LayerSignal) -> list[str]:
    """Return the factors of a layer, with their gains where there are several.

    What changes nothing (×1.0) is left out.
    """
    gains = signal.factors_log10
    shown = {name: gain for name, gain in gains.items() if abs(gain) >= NOTHING} or gains
    if len(shown) == 1:
        return [words.factor_name(name) for name in shown]
    return [f"{words.factor_name(name)} {words.times(gain)}" for name, gain in shown.items()]


def fold(table: Sequence[Row], room: int) -> list[Row | Fold]:
    """Return `table` in about `room` lines.

    Repeated blocks are folded if their gains are alike, or else if only their types are; between
    the first and the last of them, or else after the first. What then still does not fit is left
    out where least happens.
    """
    if len(table) <= room:
        return list(table)
    for keep_last in (True, False):
        for alike in (ALIKE, math.inf):
            folded = _fold_repeats(table, alike, keep_last)
            if len(folded) <= room:
                return folded
    return _keep_the_notable(table, room)


def _fold_repeats(table: Sequence[Row], alike: float, keep_last: bool) -> list[Row | Fold]:
    folded: list[Row | Fold] = []
    position = 0
    while position < len(table):
        period, repeats = _longest_repeat(table, position, alike)
        if repeats >= FEWEST_REPEATS:
            end = position + period * repeats
            last = end - period if keep_last else end
            folded += table[position : position + period]
            folded.append(Fold(tuple(table[position + period : last]), period))
            folded += table[last:end]
            position = end
        else:
            folded.append(table[position])
            position += 1
    return folded


def _longest_repeat(table: Sequence[Row], start: int, alike: float) -> tuple[int, int]:
    """Return (period, repeats) of the repetition at `start` that covers most rows."""
    best = (1, 1)
    for period in range(1, min(LONGEST_BLOCK, (len(table) - start) // FEWEST_REPEATS) + 1):
        end = start + period
        while end < len(table) and _like(table[end], table[start + (end - start) % period], alike):
            end += 1
        repeats = (end - start) // period
        if repeats >= FEWEST_REPEATS and period * repeats > best[0] * best[1]:
            best = (period, repeats)
    return best


def _like(one: Row, other: Row, alike: float) -> bool:
    a, b = one.signal, other.signal
    if (a.type, a.op, one.codes) != (b.type, b.op, other.codes):
        return False
    if math.isinf(alike):
        return True
    if [flag.kind for flag in one.flags] != [flag.kind for flag in other.flags]:
        return False
    if a.gain_log10 is None or b.gain_log10 is None:
        return a.gain_log10 is b.gain_log10
    return a.gain_log10 == b.gain_log10 or abs(a.gain_log10 - b.gain_log10) <= alike


def _keep_the_notable(table: Sequence[Row], room: int) -> list[Row | Fold]:
    """Keep both ends and the rows where most happens; every gap between them takes a line."""
    ends = {0, 1, len(table) - 2, len(table) - 1}
    order = sorted(range(len(table)), key=lambda index: _notability(table[index]), reverse=True)
    kept = ends | set(order[: max(0, (room - len(ends)) // 2)])
    folded: list[Row | Fold] = []
    gap: list[Row] = []
    for index, row in enumerate(table):
        if index not in kept:
            gap.append(row)
            continue
        if gap:
            folded.append(Fold(tuple(gap)) if len(gap) > 1 else gap[0])
            gap = []
        folded.append(row)
    return folded


def _notability(row: Row) -> tuple[bool, bool, float]:
    blame = (abs(value) for value in row.signal.blame_log10.values() if not math.isnan(value))
    return bool(row.codes), bool(row.flags), max(blame, default=0.0)


def totals(path: MainPath) -> dict[str, float]:
    """Return the log-gain of each factor over `path`, merge terms under "merge".

    They add up to the log-ratio of the levels at the ends of the path.
    """
    parts: dict[str, list[float]] = {}
    for edge in path.edges:
        parts.setdefault(edge.factor, []).append(edge.gain_log10)
        if edge.merge_log10:
            parts.setdefault("merge", []).append(edge.merge_log10)
    sums = {factor: _sum(values) for factor, values in parts.items()}
    return dict(sorted(sums.items(), key=lambda item: -abs(item[1])))


class Scale:
    """How long the bars of levels are: the whole for the greatest, almost nothing for the least.

    It spans six decades at least, so that healthy levels look alike.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        """Span the levels of `rows`."""
        levels = [row.signal.level_log10 for row in rows if row.signal.level_log10 is not None]
        finite = [level for level in levels if math.isfinite(level)]
        self.greatest = max(finite, default=0.0)
        self.span = max(6.0, 1.05 * (self.greatest - min(finite, default=0.0)))

    def share(self, level: float | None) -> float:
        """Return the length of a level's bar as a share of the longest."""
        if level is None or not math.isfinite(level):
            return 0.0
        return 1 - (self.greatest - level) / self.span


def _sum(values: Iterable[float]) -> float:
    """Return the exact sum; an infinity or NaN among the values stays one."""
    listed = list(values)
    return math.fsum(listed) if all(map(math.isfinite, listed)) else sum(listed)
