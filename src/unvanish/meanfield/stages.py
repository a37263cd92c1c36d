"""The stages of a traced network as theory sees them: what each does to signal and gradient.

A `Signal` is what the limit of infinite width keeps of activations: their mean square, the part of
it that two samples share, their mean over units, and whether they are Gaussian. Each stage turns
one into the next, and has an `Effect` on the gradient that comes back through it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from unvanish.i18n import _
from unvanish.meanfield.activation import Activation
from unvanish.meanfield.batchnorm import batch_norm
from unvanish.meanfield.expectations import expectations

_MANY = 256  # samples from which BatchNorm's rate is that of many
_FEW = 5
_TIED = 0.1  # share of a length that may be left out: a twentieth of the gain, at most


@dataclass(frozen=True, slots=True)
class Signal:
    """Activations of a wide layer, by unit: E h², E h·h' over two samples, E h, and their law.

    `fixed` tells that a norm has given each sample exactly this length.
    """

    second: float
    shared: float
    mean: float = 0.0
    gaussian: bool = True
    fixed: bool = False

    @property
    def correlation(self) -> float:
        """Return the correlation of two samples, between −1 and 1."""
        if not self.second > 0.0:
            return 0.0
        return min(1.0, max(-1.0, self.shared / self.second))


@dataclass(frozen=True, slots=True)
class Effect:
    """What a stage does to the squared norm of the gradient, and to small changes of length.

    `log_gain` is the natural logarithm of its factor, averaged over weights; that of the median
    network lies `median` times its variance above. Four numbers make the variance (`variance`),
    over `units` units. `decay` is that of the correlation of two samples' gradients, and `fresh`
    the square of one that chance makes. `of_length` is d log gain/d log q, `passes`
    d log q'/d log q; `injected` the relative variance that finite width adds to the length, `along`
    its covariance with the log-gain, and `between` the share of it that unlike samples have in
    common. `reason` says why theory does not apply, or is not to be trusted.
    """

    log_gain: float = 0.0
    median: float = -0.5
    units: int = 0
    matrix: float = 0.0
    alone: float = 0.0
    pair: float = 0.0
    crossed: float = 0.0
    decay: float = 1.0
    fresh: float = 0.0
    of_length: float = 0.0
    passes: float = 1.0
    injected: float = 0.0
    along: float = 0.0
    between: float = 1.0
    reason: str | None = None

    def variance(self, own: float, alike: float) -> float:
        """Return the variance of `log_gain` over weights, for a batch.

        Weights and slopes are drawn once for all samples, so it is a sum over pairs of them: with a
        sample's share pᵢ of the squared gradient, and the correlations ρ of gradients, `own` is
        Σ pᵢ² and `alike` Σ pᵢ pⱼ ρᵢⱼ² (one over the participation ratio). For one sample a layer
        has (3κ − 1)/n (Hanin & Nica 2020): 2/n by the weights, 3(κ − 1)/n by the slopes.
        """
        if not self.units:
            return 0.0
        parts = (
            2.0 * self.matrix * alike,
            self.alone * own,
            self.pair * (1.0 - own),
            self.crossed * (alike - own),
        )
        return max(math.fsum(parts), 0.0) / self.units


@dataclass(frozen=True, slots=True)
class Weights:
    """A linear map: E W² · fan_in, the mean square of its biases, and how it was drawn.

    `share` is the share of taps that zero padding leaves inside (1 for linear layers), `units` the
    entries of its input that one output sees (channels of a convolution), `drawn` the share of the
    Gaussian spread of ‖Wᵀg‖ that its weights have: 1 for independent ones, 0 for orthogonal ones.
    `tied` is E b·(W1) of biases that follow their weights, 0 for independent ones: with a mean m of
    the input's units it is a part 2m·E b·(W1) of the length that theory leaves out.
    """

    variance: float
    bias: float
    units: int
    share: float = 1.0
    drawn: float = 1.0
    tied: float = 0.0
    reason: str | None = None

    def through(self, signal: Signal | None) -> tuple[Effect, Signal | None]:
        """Return the effect, and the signal behind; None: not known."""
        power = self.variance * self.share
        effect = Effect(
            _log(power),
            units=self.units,
            matrix=self.drawn,
            fresh=self.drawn / self.units,
            reason=self.reason,
        )
        if signal is None:
            return effect, None
        second = power * signal.second + self.bias
        if not second > 0.0:
            return effect, None
        shared = power * signal.shared + self.bias
        passes = power * signal.second / second
        reason = self.reason
        if abs(2.0 * signal.mean * self.tied) > _TIED * second:
            reason = reason or _(
                "outside the theory's assumptions: its biases follow its weights, and centre them"
            )
        return replace(effect, passes=passes, reason=reason), Signal(second, shared)


@dataclass(frozen=True, slots=True)
class Slope:
    """An activation; `units` across its width. None: its name is not known."""

    activation: Activation | None
    units: int
    name: str = ""

    def through(self, signal: Signal | None) -> tuple[Effect, Signal | None]:
        """Return the effect, and the signal behind."""
        if self.activation is None:
            return _silent(_("{name} is not known by name").format(name=self.name)), None
        if signal is None:
            return _silent(_("the length of its input is not known")), None
        if not signal.gaussian:
            return _silent(_("its input is not Gaussian")), None
        q, c = signal.second, signal.correlation
        e = expectations(self.activation, q)
        if not (e.slope_second > 0.0 and math.isfinite(e.second) and math.isfinite(e.kurtosis)):
            return _silent(_("every slope is 0, or it grows too fast")), None
        held = 2.0 if signal.fixed else 0.0  # n/2 times the variance that ‖z‖²/n does not have
        common = max(0.0, e.pair_kurtosis(c) - 1.0)
        inside = max(1e-12, e.slope_product(c) / e.slope_second)
        effect = Effect(
            log_gain=math.log(e.slope_second),
            units=self.units,
            alone=3.0 * (e.kurtosis - 1.0),
            pair=common,
            crossed=2.0 * common,
            decay=inside,
            of_length=e.slope_elasticity,
            passes=e.length_elasticity,
            injected=max(e.fourth - 1.0 - held * e.length_elasticity**2, 0.0) / self.units,
            along=(e.mixed - 1.0 - held * e.length_elasticity * e.slope_elasticity) / self.units,
            between=common / (e.kurtosis - 1.0) if e.kurtosis > 1.0 + 1e-9 else c * c,
        )
        return effect, Signal(e.second, e.product(c), e.mean, gaussian=False)


@dataclass(frozen=True, slots=True)
class Norm:
    """A normalisation: over the units ("layer", "rms") or over the batch ("batch").

    `gain` and `shift` are the mean squares of its scale and shift; `entries` is what one statistic
    is formed of, over `samples` samples. For "batch", `following` is the activation that it feeds.
    """

    kind: str
    gain: float
    shift: float
    entries: int
    samples: int = 1
    eps: float = 0.0
    following: Activation | None = None

    def through(self, signal: Signal | None) -> tuple[Effect, Signal | None]:
        """Return the effect, and the signal behind."""
        after = self._after(signal)
        if signal is None:
            return _silent(_("the length of its input is not known")), after
        spread = self._spread(signal)
        if not spread > 0.0:
            return _silent(_("all samples look alike: there is nothing to scale")), None
        reason = None
        correction = 1.0
        if self.kind == "batch":
            reason = self._untrusted()
            correction = _few_samples(self.following, self.entries)
        # The length of a sample of n Gaussian units is known to √(2/n). Over a batch the theory's
        # equally correlated samples are an idealisation: at 64 of them off by 4 % a layer (digits).
        noisy = 2.0 if signal.gaussian else 0.0
        alike = signal.correlation**2
        if self.kind == "batch":
            noisy, alike = 0.5, 1.0
        effect = Effect(
            _log(correction * self.gain / (spread + self.eps)),
            median=0.0 if self.kind == "batch" else 0.5,
            units=self.samples if self.kind == "batch" else self.entries,
            alone=noisy,
            pair=noisy * alike,
            of_length=-1.0,
            passes=0.0,
            reason=reason,
        )
        return effect, after

    def _spread(self, signal: Signal) -> float:
        """Return the variance that is divided by."""
        taken = {"layer": signal.mean**2, "rms": 0.0, "batch": signal.shared}[self.kind]
        return signal.second - taken

    def _after(self, signal: Signal | None) -> Signal:
        second = self.gain + self.shift
        if signal is None or not self._spread(signal) > 0.0:
            # whatever came in, its length goes out; only for "batch" the correlation is known
            return Signal(second, self.shift, gaussian=self.kind == "batch")
        spread = self._spread(signal)
        kept = spread / (spread + self.eps)
        if self.kind == "batch":
            # correlations of −1/(B − 1) are left to the correction for few samples
            return Signal(kept * self.gain + self.shift, self.shift, 0.0, signal.gaussian)
        centred = self.kind == "layer"
        shared = (signal.shared - (signal.mean**2 if centred else 0.0)) / spread
        mean = 0.0 if centred else signal.mean * math.sqrt(self.gain * kept / spread)
        return Signal(
            kept * self.gain + self.shift,
            kept * shared * self.gain + self.shift,
            mean,
            signal.gaussian,
            fixed=True,
        )

    def _untrusted(self) -> str | None:
        if self.entries < _FEW:
            return _("BatchNorm over {batch} samples has no mean-field rate").format(
                batch=self.entries
            )
        return None if self.following is None else batch_norm(self.following).measure


@lru_cache(maxsize=256)
def _few_samples(activation: Activation | None, samples: int) -> float:
    """Return BatchNorm's rate over so many samples, over that of many."""
    if activation is None or not _FEW <= samples < _MANY:
        return 1.0
    few, many = batch_norm(activation, samples).backward, batch_norm(activation).backward
    return few / many if few and many else 1.0


@dataclass(frozen=True, slots=True)
class Scale:
    """A constant factor; `mask` for dropout, whose zeros differ from sample to sample.

    Squared: `forward` and `backward` are those of mean square and of the gradient's squared norm.
    None: what it does forward depends on what its input's entries share.
    """

    backward: float = 1.0
    forward: float | None = 1.0
    mask: bool = False

    def through(self, signal: Signal | None) -> tuple[Effect, Signal | None]:
        """Return the effect, and the signal behind."""
        effect = Effect(_log(self.backward))
        if signal is None or self.forward is None:
            return effect, None
        shared = signal.shared if self.mask else self.forward * signal.shared
        mean = signal.mean if self.mask else signal.mean * math.sqrt(self.forward)
        gaussian = signal.gaussian and not self.mask
        return effect, Signal(self.forward * signal.second, shared, mean, gaussian)


@dataclass(frozen=True, slots=True)
class Unknown:
    """A stage that theory says nothing of, and why."""

    reason: str

    def through(self, signal: Signal | None) -> tuple[Effect, Signal | None]:
        """Return the reason; the signal behind is not known."""
        return _silent(self.reason), None


@dataclass(frozen=True, slots=True)
class Sum:
    """Branches that start at one tensor and are added up; an empty one is a skip.

    The branches' outputs have to be uncorrelated: at most one may end without weights of its own.
    """

    branches: tuple[tuple[Stage, ...], ...]
    units: int

    def through(self, signal: Signal | None) -> tuple[Effect, Signal | None]:
        """Return the effect, and the signal behind."""
        runs = [run(branch, signal) for branch in self.branches]
        reason = next((one.reason for one, _after in runs if one.reason), None)
        plain = [branch for branch in self.branches if not _has_weights(branch)]
        if len(plain) > 1:
            reason = reason or _("two branches without weights of their own are added")
        gains = [math.exp(min(effect.log_gain, 600.0)) for effect, _after in runs]
        total = sum(gains)
        if not 0.0 < total < math.inf:
            return _silent(reason or _("a branch has no gain")), None
        shares = [gain / total for gain in gains]
        effects = [effect for effect, _after in runs]
        squares = sum(share * share for share in shares)
        moved = [s * s * _spread_of(e) for s, e in zip(shares, effects, strict=True)]
        whole = Effect(
            math.log(total),
            units=self.units,
            # a branch's gradient has a chance part along the skip's
            matrix=1.0 - squares + sum(moved) * self.units / 2.0,
            decay=sum(s * e.decay for s, e in zip(shares, effects, strict=True)),
            of_length=sum(s * e.of_length for s, e in zip(shares, effects, strict=True)),
            reason=reason,
        )
        after = [behind for _effect, behind in runs]
        if signal is None or any(behind is None for behind in after):
            return whole, None
        known = [behind for behind in after if behind is not None]
        second = sum(behind.second for behind in known)
        joined = Signal(
            second,
            sum(behind.shared for behind in known),
            sum(behind.mean for behind in known),
            all(behind.gaussian for behind in known),
        )
        passes = sum(
            effect.passes * behind.second / second
            for effect, behind in zip(effects, known, strict=True)
        )
        return replace(whole, passes=passes), joined


Stage = Weights | Slope | Norm | Scale | Unknown | Sum


def run(stages: Sequence[Stage], signal: Signal | None) -> tuple[Effect, Signal | None]:
    """Return the effect of stages in a row, given in forward order, as one."""
    gain, decay, passes, of_length, spread = 0.0, 1.0, 1.0, 0.0, 0.0
    reason = None
    for stage in stages:
        effect, signal = stage.through(signal)
        gain += effect.log_gain
        of_length += passes * effect.of_length
        passes *= effect.passes
        decay *= effect.decay
        reason = reason or effect.reason
        spread += _spread_of(effect)
    whole = Effect(
        gain,
        units=1,
        alone=spread,
        pair=spread,
        decay=decay,
        of_length=of_length,
        passes=passes,
        reason=reason,
    )
    return whole, signal


def _spread_of(effect: Effect) -> float:
    """Return the variance of the log-gain as if all samples were one."""
    return effect.variance(1.0, 1.0)


def _has_weights(branch: Sequence[Stage]) -> bool:
    return any(isinstance(stage, Weights) for stage in branch)


def _silent(reason: str) -> Effect:
    return Effect(math.nan, reason=reason)


def _log(power: float) -> float:
    return math.log(power) if power > 0.0 else -math.inf
