"""Critical points: where a layer keeps lengths, and keeps gradients too.

A length q and variances (σ_w², σ_b²) are critical if q = Q(q) and χ₁ = 1. For every q there is
exactly one candidate, the critical line

    σ_w² = 1/E φ'²,   σ_b² = q − E φ²/E φ'²,

and it is a critical point if σ_b² ≥ 0 (Schoenholz et al. 2017; Hayou et al. 2019). For φ(0) = 0 it
always is (see `moments`), with σ_b = 0 at a finite q only for the ReLU family. Where χ∥ passes
through 1 on the line the point is half-stable: lengths come back to it from one side only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from unvanish.errors import UsageError
from unvanish.i18n import _
from unvanish.meanfield.activation import Activation
from unvanish.meanfield.moments import moments
from unvanish.meanfield.roots import bracketed_root
from unvanish.shown import Shown

Kind = Literal["scale_invariant", "isolated", "q_to_zero", "none"]

# Two points of one kind within a factor √10 of each other are not told apart.
_SCAN = tuple(10.0 ** (k / 2.0) for k in range(-12, 13))
_NOISE = 1e-9  # relative; a sign below it is rounding


@dataclass(frozen=True, slots=True)
class CriticalPoint:
    """A point of the critical line; `sigma_b2` < 0 means that no bias makes it one.

    `uncorrelated` is the correlation of two outputs whose inputs have none: how fast samples begin
    to look alike.
    """

    q: float
    sigma_w: float
    sigma_b2: float
    chi_parallel: float
    mean: float
    uncorrelated: float
    sigma_b: float | None  # √sigma_b2, None where that is negative


@dataclass(frozen=True, slots=True, repr=False)
class Criticality(Shown):
    """Where an activation is critical.

    `points` holds the critical points without a bias: for "scale_invariant" one at q = 1 that
    stands for every q, for "q_to_zero" the limit q = 0 alone (degenerate: it keeps no signal of
    finite length), for "isolated" all that were found, for "none" nothing.
    `half_stable` has those with or without a bias. `statement` says it in words.
    """

    activation: str
    kind: Kind
    points: tuple[CriticalPoint, ...]
    half_stable: tuple[CriticalPoint, ...]
    statement: str

    @property
    def sigma_w(self) -> float | None:
        """Return σ_w of the first point, None where there is none."""
        return self.points[0].sigma_w if self.points else None

    @property
    def q(self) -> float | None:
        """Return the length of the first point, None where there is none."""
        return self.points[0].q if self.points else None

    def __str__(self) -> str:
        return self.statement

    def __repr__(self) -> str:
        return f"<Criticality of {self.activation}: {self.kind}>"


def critical_line(activation: Activation, q: float, *, centred: bool = False) -> CriticalPoint:
    """Return the point of the critical line at length q > 0.

    `centred` is the line of φ − E φ, which a layer becomes when its bias is −E φ · (row sums of
    W): then σ_b² = q − Var φ/E φ'².

    Raises UsageError where E φ'² = 0.
    """
    m = moments(activation, q)
    surplus = m.centred_surplus if centred else m.surplus
    slope = m.centred_length_slope if centred else m.length_slope
    second = m.slope_second
    if second <= 0.0:
        raise UsageError(
            _("{name} has slope 0 wherever N(0, {q:g}) reaches").format(name=activation.name, q=q),
            _("Use a greater q."),
        )
    sigma_b2 = surplus / second
    return CriticalPoint(
        q=m.q,
        sigma_w=second**-0.5,
        sigma_b2=sigma_b2,
        chi_parallel=slope / second,
        mean=m.mean,
        uncorrelated=m.centred_surplus / (second * q),
        sigma_b=math.sqrt(sigma_b2) if sigma_b2 >= 0.0 else None,
    )


def criticality(activation: Activation) -> Criticality:
    """Return where `activation` is critical, searched for between q = 1e-6 and 1e6.

    The search ends early where an activation grows or oscillates too fast to be averaged.
    """
    scanned = list(_scan(activation))
    kind, points = _without_bias(activation, scanned)
    half_stable: tuple[CriticalPoint, ...] = ()
    if kind != "scale_invariant":
        turns = _crossings(activation, scanned, lambda sample: sample.turn)
        on_line = (critical_line(activation, q) for q in turns)
        half_stable = tuple(point for point in on_line if point.sigma_b2 >= 0.0)
    return Criticality(
        activation.name, kind, points, half_stable, _statement(activation, kind, points, scanned)
    )


@dataclass(frozen=True, slots=True)
class _Sample:
    """The critical line at one length: σ_b²/q, and χ∥ − 1."""

    q: float
    surplus: float
    turn: float


def _sample(activation: Activation, q: float) -> _Sample | None:
    """Return the line at q, by closed forms where there are some; None where every slope is 0."""
    form = activation.closed
    if form is None:
        m = moments(activation, q)
        surplus, slope, second = m.surplus, m.length_slope, m.slope_second
    else:
        slope, second = form.length_slope(q), form.slope_second(q)
        homogeneous = activation.negative_slope is not None
        surplus = 0.0 if homogeneous else q * second - form.second(q)
    return _Sample(q, surplus / (q * second), slope / second - 1.0) if second > 0.0 else None


def _scan(activation: Activation) -> Iterator[_Sample]:
    for q in _SCAN:
        try:
            sample = _sample(activation, q)
        except UsageError:
            return
        if sample:
            yield sample


def _without_bias(
    activation: Activation, scanned: Sequence[_Sample]
) -> tuple[Kind, tuple[CriticalPoint, ...]]:
    if activation.jumps:
        return "none", ()
    if not activation.vanishes_at_zero:
        lengths = _crossings(activation, scanned, lambda sample: sample.surplus)
        points = tuple(critical_line(activation, q) for q in lengths)
        return ("isolated" if points else "none"), points
    if all(abs(sample.surplus) < 1e-24 for sample in scanned):
        return "scale_invariant", (critical_line(activation, 1.0),)
    left, right = activation.slopes_around(0.0)
    slope_second = 0.5 * (left * left + right * right)
    if slope_second < 1e-24:
        return "none", ()
    limit = replace(
        critical_line(activation, _SCAN[0]),
        q=0.0,
        sigma_w=slope_second**-0.5,
        sigma_b2=0.0,
        chi_parallel=1.0,
        mean=0.0,
        sigma_b=0.0,
    )
    return "q_to_zero", (limit,)


def _crossings(
    activation: Activation, scanned: Sequence[_Sample], part: Callable[[_Sample], float]
) -> list[float]:
    """Return the lengths at which a part of the samples changes sign."""

    def at(log_q: float) -> float:
        sample = _sample(activation, math.exp(log_q))
        return part(sample) if sample else 0.0

    clear = [sample for sample in scanned if abs(part(sample)) > _NOISE]
    return [
        math.exp(bracketed_root(at, math.log(low.q), math.log(high.q)))
        for low, high in pairwise(clear)
        if part(low) * part(high) < 0.0
    ]


def _statement(
    activation: Activation,
    kind: Kind,
    points: Sequence[CriticalPoint],
    scanned: Sequence[_Sample],
) -> str:
    name = activation.name
    if activation.jumps:
        return _(
            "{name} jumps: its slope is infinite there, so no layer is critical. Measure it."
        ).format(name=name)
    if kind == "scale_invariant":
        return _(
            "{name} is critical at every length, with σ_w = {sigma_w:.6g} and no bias."
        ).format(name=name, sigma_w=points[0].sigma_w)
    if kind == "q_to_zero":
        return _(
            "Without a bias {name} is critical only in the limit q → 0, with σ_w = {sigma_w:.6g}"
            " (degenerate: no signal of finite length is kept). With a bias, every length has a"
            " critical point."
        ).format(name=name, sigma_w=points[0].sigma_w)
    if kind == "isolated":
        found = "; ".join(f"σ_w = {p.sigma_w:.6g}, q* = {p.q:.6g}" for p in points)
        return _(
            "Without a bias {name} is critical at {found} only. Its mean is not 0, so samples"
            " collapse onto each other all the same: centre it with a bias of −E φ times the row"
            " sums of W."
        ).format(name=name, found=found)
    if any(sample.surplus > _NOISE for sample in scanned):
        return _(
            "Without a bias {name} has no critical point; with a bias, some lengths have one."
        ).format(name=name)
    return _(
        "{name} has no critical point, with or without a bias: where χ₁ = 1, lengths grow."
        " Centre it with a bias of −E φ times the row sums of W."
    ).format(name=name)
